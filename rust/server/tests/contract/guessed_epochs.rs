//! Who saves under an epoch that no row knows: a stranger who guesses, or a server whose lease a restored database has lost.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::Row as _;

use crate::harness::{Backend, on_both_databases, text};
use crate::lease_owners::Stranger;
use crate::player_store::{item, load, release, save, save_one};

/// A player with as many conflicts as are kept, that somebody has yet to resolve. Gives its id, the server that lost it and the holder.
async fn with_conflicts(backend: &Backend) -> (String, String, String) {
    let player = text(&backend.guest("Ada").await["player_id"]);
    let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
    load(backend, &a, &player).await;
    release(backend, &a, &player, 1).await;
    load(backend, &b, &player).await;
    for batch in [0..100, 100..200, 200..256] {
        let late = batch.map(|number| keyed(&player, 1, number + 1, &format!("k{number}"))).collect();
        assert!(save(backend, &a, late).await.iter().all(|(outcome, _)| outcome == "conflicted"));
    }
    (player, a, b)
}

fn keyed(player: &str, epoch: i64, sequence: i64, key: &str) -> Value {
    let mut item = item(player, epoch, sequence, &json!({"n": sequence}));
    item["key"] = key.into();
    item
}

/// The ids of the unresolved conflicts of a player, by document and sequence: of all, where the API lists a hundred.
async fn kept(backend: &Backend, player: &str) -> BTreeMap<(String, i64), String> {
    let database = backend_server::database::Database::open(backend.database()).await.expect("opens");
    let rows = sqlx::query("SELECT document_key, sequence, conflict_id FROM save_conflicts WHERE player_id = $1 AND resolved_at IS NULL")
        .bind(player)
        .fetch_all(database.pool())
        .await
        .expect("read");
    database.close().await;
    let of =
        |row: &sqlx::any::AnyRow| ((row.get("document_key"), row.get("sequence")), row.get("conflict_id"));
    rows.iter().map(of).collect()
}

/// How often each outcome and code came of a batch as it stands on the wire.
async fn send(
    backend: &Backend,
    key: &str,
    server_id: &str,
    items: &[Value],
) -> BTreeMap<(String, String), usize> {
    let body = json!({"server_id": server_id, "items": items});
    let results = backend.post("/v1/players/save", key, &body).await.expect(200)["results"].clone();
    let mut counts = BTreeMap::new();
    for result in results.as_array().expect("list") {
        let code = result["code"].as_str().unwrap_or_default().to_owned();
        *counts.entry((text(&result["outcome"]), code)).or_default() += 1;
    }
    counts
}

fn all(count: usize, outcome: &str, code: &str) -> BTreeMap<(String, String), usize> {
    BTreeMap::from([((outcome.to_owned(), code.to_owned()), count)])
}

on_both_databases! {
    async fn thousands_of_guesses_become_no_conflicts(backend) {
        let (full, _, holder) = with_conflicts(backend).await;
        let empty = text(&backend.guest("Bea").await["player_id"]);
        load(backend, &holder, &empty).await;
        let before = kept(backend, &full).await;
        assert_eq!(before.len(), 256);
        let stranger = Stranger::of(backend).await;
        // One in 2,048 guesses is right: four thousand find two epochs, unless nobody looks at them.
        for player in [&full, &empty] {
            let near = backend.epoch(player, 1);
            for batch in 0..40 {
                let guesses: Vec<Value> = (1..=100).map(|guess| keyed(player, near + batch * 100 + guess, 1, &format!("g{guess}"))).collect();
                let counts = send(backend, &stranger.key, &stranger.server_id, &guesses).await;
                let refused: usize = counts.iter().filter(|((outcome, _), _)| outcome == "refused").map(|(_, count)| count).sum();
                // The first twenty are looked at, so that one run in a hundred has a right one among them.
                assert!(refused >= 99, "{counts:?}");
            }
        }
        assert_eq!(kept(backend, &full).await, before, "what was kept is displaced by nothing");
        assert!(kept(backend, &empty).await.len() <= 1);
        assert_eq!(save_one(backend, &holder, &empty, (1, 1), json!({})).await, "applied");
    }

    async fn a_line_of_keys_that_guesses_is_not_believed_and_others_are(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let stranger = Stranger::of(backend).await;
        let body = json!({"server_id": stranger.server_id, "player_ids": [player]});
        let taken = backend.post("/v1/players/load", &stranger.key, &body).await.expect(200);
        let strangers = backend.ordinal(&player, taken["players"][0]["epoch"].as_i64().expect("number"));
        let let_go = json!({"server_id": stranger.server_id});
        backend.post("/v1/players/release", &stranger.key, &let_go).await.expect(200);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        let ours = load(backend, &a, &player).await["epoch"].as_i64().expect("number");
        release(backend, &a, &player, ours).await;
        load(backend, &b, &player).await;
        let (strangers, ours) = (backend.epoch(&player, strangers), backend.epoch(&player, ours));
        // As a restored backup: both epochs were given, and no row knows them.
        backend.execute("DELETE FROM former_leases").await;

        let under = |epoch: i64, keys: usize| (0..keys).map(|number| keyed(&player, epoch, 1, &format!("e{epoch}-{number}"))).collect::<Vec<_>>();
        assert_eq!(send(backend, &stranger.key, &stranger.server_id, &under(strangers, 1)).await, all(1, "conflicted", "rolled_back"));
        let guesses: Vec<Value> = (1..=100).map(|guess| keyed(&player, strangers + (guess << 11) + 1, 1, "g")).collect();
        send(backend, &stranger.key, &stranger.server_id, &guesses).await;
        // Who guessed does not even learn which guess was right.
        assert_eq!(send(backend, &stranger.key, &stranger.server_id, &under(strangers, 5)).await, all(5, "refused", "epoch_unknown"));
        let question = json!({"server_id": stranger.server_id, "players": [{"player_id": player, "epoch": strangers, "saved_sequences": 1}]});
        let released = backend.post("/v1/players/release", &stranger.key, &question).await.expect(200);
        assert_eq!(released["behind"], json!([]));

        // A server that has lost its lease to a backup delivers everything, however much it is.
        assert_eq!(send(backend, &backend.key, &a, &under(ours, 60)).await, all(60, "conflicted", "rolled_back"));
        assert_eq!(send(backend, &backend.key, &a, &under(ours, 60)).await, all(60, "conflicted", "rolled_back"), "again");
        // One that is wrong now and then, too, and what it holds it saves in any case.
        send(backend, &backend.key, &a, &guesses[..5]).await;
        assert_eq!(send(backend, &backend.key, &a, &under(ours, 1)).await, all(1, "conflicted", "rolled_back"));
        send(backend, &backend.key, &a, &guesses).await;
        assert_eq!(save_one(backend, &b, &player, (3, 1), json!({})).await, "applied");
        assert_eq!(send(backend, &backend.key, &a, &under(ours, 1)).await, all(1, "refused", "epoch_unknown"));
        // What it has of other players does not suffer from it.
        let other = text(&backend.guest("Bea").await["player_id"]);
        load(backend, &a, &other).await;
        release(backend, &a, &other, 1).await;
        load(backend, &b, &other).await;
        let lost = backend.epoch(&other, 1);
        backend.execute("DELETE FROM former_leases").await;
        let under_lost = [keyed(&other, lost, 1, "lost")];
        assert_eq!(send(backend, &backend.key, &a, &under_lost).await, all(1, "conflicted", "rolled_back"));
    }

    async fn a_save_of_an_unknown_lease_displaces_no_conflict(backend) {
        let (player, a, b) = with_conflicts(backend).await;
        // Epochs 3 and 4 were given to both, and the restored database has lost 3.
        release(backend, &b, &player, 2).await;
        load(backend, &a, &player).await;
        release(backend, &a, &player, 3).await;
        load(backend, &b, &player).await;
        backend.execute("DELETE FROM former_leases WHERE epoch = (SELECT MAX(epoch) FROM former_leases)").await;
        let lost = backend.epoch(&player, 3);
        let before = kept(backend, &player).await;
        let under_lost = [keyed(&player, lost, 1, "lost")];
        assert_eq!(send(backend, &backend.key, &a, &under_lost).await, all(1, "refused", "too_many_conflicts"));
        assert_eq!(kept(backend, &player).await, before);
        // With a place, it is kept, and a repetition has the same answer.
        let (_, first) = before.iter().next().expect("as many as are kept");
        let resolve = json!({"server_id": b, "conflict_ids": [first]});
        backend.serve("/v1/players/conflicts/resolve", &resolve).await.expect(204);
        for _ in 0..2 {
            assert_eq!(send(backend, &backend.key, &a, &under_lost).await, all(1, "conflicted", "rolled_back"));
        }
        assert!(kept(backend, &player).await.contains_key(&("lost".to_owned(), 1)));
        // It is the first to go.
        assert_eq!(save(backend, &a, vec![keyed(&player, 1, 900, "real")]).await[0].0, "conflicted");
        let after = kept(backend, &player).await;
        assert_eq!((after.len(), after.contains_key(&("lost".to_owned(), 1)), after.contains_key(&("real".to_owned(), 900))), (256, false, true));
        assert_eq!(before.iter().filter(|(of, id)| after.get(of) != Some(id)).count(), 1, "only what was resolved is gone");
    }

    async fn nobody_replaces_what_another_line_of_keys_left(backend) {
        let (player, ..) = with_conflicts(backend).await;
        let before = kept(backend, &player).await;
        let stranger = Stranger::of(backend).await;
        // An earlier build gave the epoch, and did not note to whom: any key may save under it.
        backend.execute("DELETE FROM former_leases").await;
        backend.execute("UPDATE player_leases SET unbound_until = epoch").await;
        let epoch = backend.epoch(&player, 1);
        for (key, code) in [("k7", "epoch_unknown"), ("new", "too_many_conflicts")] {
            let over = [keyed(&player, epoch, 1_000, key)];
            assert_eq!(send(backend, &stranger.key, &stranger.server_id, &over).await, all(1, "refused", code), "{key}");
        }
        assert_eq!(kept(backend, &player).await, before);
    }

    async fn what_an_earlier_build_gave_belongs_to_nobody_after_90_days(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, stranger) = (backend.server("A", json!({})).await, Stranger::of(backend).await);
        let world = |opening: i64| json!({"server_id": a, "opening": opening});
        let lease = backend.serve("/v1/worlds/w/open", &world(1)).await.expect(200);
        let commit = |server_id: &str, sequence: i64| json!({"server_id": server_id, "epoch": lease["epoch"], "sequence": sequence, "removed": ["a"]});
        load(backend, &a, &player).await;
        release(backend, &a, &player, 1).await;
        for earlier in [
            "UPDATE player_leases SET key_hash = NULL, unbound_until = epoch",
            "UPDATE worlds SET key_hash = NULL",
        ] {
            backend.execute(earlier).await;
        }
        let epoch = backend.epoch(&player, 1);
        backend.sweep().await;
        // Until then, whoever has it may: an earlier server's journal is delivered.
        assert_eq!(stranger.saves(backend, &player, epoch, 1).await, ("applied".to_owned(), Value::Null));
        assert_eq!(stranger.saves(backend, &player, 1, 1).await, ("conflicted".to_owned(), Value::Null));
        backend.post("/v1/worlds/w/commit", &stranger.key, &commit(&stranger.server_id, 1)).await.expect(200);
        backend.execute("UPDATE epochs_bound SET since = since - CAST(91 AS BIGINT) * 86400000").await;
        backend.sweep().await;
        for guess in [1, epoch] {
            assert_eq!(stranger.saves(backend, &player, guess, 2).await, ("refused".to_owned(), json!("epoch_unknown")), "{guess}");
        }
        backend.post("/v1/worlds/w/commit", &stranger.key, &commit(&stranger.server_id, 2)).await.refused(409, "lease_lost");
        // Who loads and opens now is bound as ever.
        assert_eq!(load(backend, &a, &player).await["epoch"], 2);
        assert_eq!(save_one(backend, &a, &player, (2, 1), json!({})).await, "applied");
        backend.serve("/v1/worlds/w/open", &world(2)).await.expect(200);
    }
}
