//! Saves that came too late: kept once, shown to the holder, merged by it.

use serde_json::{Value, json};

use crate::harness::{Backend, at_once, on_both_databases, text};
use crate::player_store::{ask, item, load, release, save, save_one};

/// A player whom the first server saved once and lost to the second, which has saved nothing.
async fn lost(backend: &Backend) -> (String, String, String) {
    let player = text(&backend.guest("Ada").await["player_id"]);
    let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
    load(backend, &a, &player).await;
    assert_eq!(save_one(backend, &a, &player, (1, 3), json!({"n": 3})).await, "applied");
    release(backend, &a, &player, 1).await;
    assert_eq!(load(backend, &b, &player).await["epoch"], 2);
    (player, a, b)
}

async fn kept(backend: &Backend, player_id: &str) -> Vec<Value> {
    let path = format!("/v1/players/{player_id}/conflicts");
    backend.get(&path, &backend.key).await.expect(200)["conflicts"].as_array().expect("list").clone()
}

async fn resolve(backend: &Backend, server_id: &str, ids: &[&Value]) -> crate::harness::Answer {
    let body = json!({"server_id": server_id, "conflict_ids": ids});
    backend.serve("/v1/players/conflicts/resolve", &body).await
}

on_both_databases! {
    async fn a_late_save_is_kept_once_however_often_it_comes(backend) {
        let (player, a, b) = lost(backend).await;
        let late = || save_one(backend, &a, &player, (1, 4), json!({"n": 4}));
        assert_eq!(late().await, "conflicted");
        for outcome in at_once((0..8).map(|_| late())).await {
            assert_eq!(outcome, "conflicted");
        }
        let conflicts = kept(backend, &player).await;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        let conflict = &conflicts[0];
        assert_eq!((&conflict["player_id"], &conflict["key"], &conflict["server_id"]), (&json!(player), &json!("progress"), &json!(a)));
        assert_eq!((&conflict["epoch"], &conflict["sequence"], &conflict["value"]), (&json!(backend.epoch(&player, 1)), &json!(4), &json!({"n": 4})));
        assert!(text(&conflict["received_at"]).ends_with('Z'));
        let loaded = load(backend, &b, &player).await;
        assert_eq!((&loaded["documents"][0]["value"], &loaded["documents"][0]["version"]), (&json!({"n": 3}), &json!(1)));
        assert_eq!(loaded["conflicts"], json!(conflicts));
    }

    async fn many_late_saves_at_once_are_one_conflict(backend) {
        let (player, a, _) = lost(backend).await;
        let late = |sequence| save_one(backend, &a, &player, (1, sequence), json!({"n": sequence}));
        at_once((4..12).map(late)).await;
        let conflicts = kept(backend, &player).await;
        assert_eq!((conflicts.len(), &conflicts[0]["sequence"]), (1, &json!(11)));
    }

    async fn a_newer_late_save_covers_the_older(backend) {
        let (player, a, _) = lost(backend).await;
        assert_eq!(save_one(backend, &a, &player, (1, 4), json!({"n": 4})).await, "conflicted");
        let first = kept(backend, &player).await.remove(0);
        assert_eq!(save_one(backend, &a, &player, (1, 6), json!({"n": 6})).await, "conflicted");
        assert_eq!(save_one(backend, &a, &player, (1, 5), json!({"n": 5})).await, "superseded");
        let mut other = item(&player, 1, 5, &json!({"other": true}));
        other["key"] = "settings".into();
        assert_eq!(save(backend, &a, vec![other]).await[0].0, "conflicted", "each document for itself");
        let conflicts = kept(backend, &player).await;
        let values: Vec<&Value> = conflicts.iter().map(|conflict| &conflict["value"]).collect();
        assert_eq!(values, [&json!({"n": 6}), &json!({"other": true})]);
        assert_ne!(conflicts[0]["conflict_id"], first["conflict_id"], "whoever merged the first has not seen this");
    }

    async fn what_was_applied_before_the_loss_is_no_conflict(backend) {
        let (player, a, b) = lost(backend).await;
        let repeated = |sequence: i64| save_one(backend, &a, &player, (1, sequence), json!({"n": sequence}));
        assert_eq!((repeated(3).await, repeated(2).await), ("replayed".into(), "superseded".into()));
        assert_eq!(save_one(backend, &b, &player, (2, 1), json!({"at": "b"})).await, "applied");
        assert_eq!(save_one(backend, &b, &player, (2, 2), json!({"at": "b"})).await, "applied");
        assert_eq!((repeated(3).await, repeated(2).await), ("replayed".into(), "superseded".into()));
        // Two hands later it is still known.
        release(backend, &b, &player, 2).await;
        assert_eq!(load(backend, &a, &player).await["epoch"], 3);
        assert_eq!(save_one(backend, &a, &player, (3, 1), json!({"at": "a"})).await, "applied");
        assert_eq!((repeated(3).await, repeated(2).await), ("replayed".into(), "superseded".into()));
        assert_eq!(save_one(backend, &b, &player, (2, 2), json!({"at": "b"})).await, "replayed");
        assert_eq!(kept(backend, &player).await, Vec::<Value>::new());
        assert_eq!(repeated(4).await, "conflicted");
    }

    async fn a_save_for_a_player_that_does_not_exist_is_not_kept(backend) {
        let server = backend.server("A", json!({})).await;
        let body = json!({"server_id": server, "items": [item("nobody", 1, 1, &json!({"n": 1}))]});
        let result = &backend.serve("/v1/players/save", &body).await.expect(200)["results"][0];
        let refused = json!({"player_id": "nobody", "key": "progress", "outcome": "refused", "version": 0, "code": "player_not_found"});
        assert_eq!(*result, refused);
        assert_eq!(backend.count("SELECT COUNT(*) FROM save_conflicts").await, 0);
    }

    async fn the_newest_256_conflicts_of_a_player_are_kept(backend) {
        let (player, a, b) = lost(backend).await;
        let late = |number: i64| {
            let mut late = item(&player, 1, 4 + number, &json!({"n": number}));
            late["key"] = format!("k{number:03}").into();
            late
        };
        for batch in [0..100, 100..200, 200..256] {
            let count = batch.clone().count();
            let outcomes = save(backend, &a, batch.map(late).collect()).await;
            assert_eq!(outcomes.iter().filter(|(outcome, _)| outcome == "conflicted").count(), count);
        }
        // All that a server had of a player that may have 256 documents, and nothing is lost yet.
        assert_eq!(backend.count("SELECT COUNT(*) FROM save_conflicts WHERE resolved_at IS NULL").await, 256);
        for number in 256..261 {
            assert_eq!(save(backend, &a, vec![late(number)]).await[0].0, "conflicted");
        }
        assert_eq!(backend.count("SELECT COUNT(*) FROM save_conflicts WHERE resolved_at IS NULL").await, 256);
        let conflicts = kept(backend, &player).await;
        assert_eq!((conflicts.len(), &conflicts[0]["key"], &conflicts[99]["key"]), (100, &json!("k005"), &json!("k104")));
        let metrics = text(&backend.get("/metrics", "").await.expect(200));
        assert!(metrics.contains("backend_save_conflicts_dropped_total "), "{metrics}");
        // Of any age, but not for ever.
        backend.sweep().await;
        assert_eq!(kept(backend, &player).await.len(), 100);
        backend.execute("UPDATE save_conflicts SET received_at = 1 WHERE document_key <> 'k104'").await;
        backend.sweep().await;
        assert_eq!(kept(backend, &player).await.len(), 1);
        assert_eq!(load(backend, &b, &player).await["documents"][0]["value"], json!({"n": 3}));
    }

    async fn the_holder_is_told_and_resolves(backend) {
        let (player, a, b) = lost(backend).await;
        let beat = async |server: &str, sequence: u64| {
            let body = json!({"sequence": sequence, "players": 0});
            backend.serve(&format!("/v1/servers/{server}/heartbeat"), &body).await.expect(200)["conflicts"].clone()
        };
        assert_eq!(beat(&b, 1).await, json!([]));
        assert_eq!(save_one(backend, &a, &player, (1, 4), json!({"n": 4})).await, "conflicted");
        assert_eq!((beat(&a, 1).await, beat(&b, 2).await), (json!([]), json!([player])));
        let id = &kept(backend, &player).await[0]["conflict_id"];
        resolve(backend, &a, &[id]).await.refused(409, "lease_lost");
        resolve(backend, "nobody", &[id]).await.refused(404, "server_unknown");
        assert_eq!(kept(backend, &player).await.len(), 1);
        resolve(backend, &b, &[id, &json!("unknown")]).await.expect(204);
        resolve(backend, &b, &[id]).await.expect(204);
        resolve(backend, &a, &[id]).await.expect(204);
        assert_eq!((kept(backend, &player).await, beat(&b, 3).await), (vec![], json!([])));
        // Its reply was lost: merged once is enough.
        assert_eq!(save_one(backend, &a, &player, (1, 4), json!({"n": 4})).await, "conflicted");
        assert_eq!(kept(backend, &player).await, Vec::<Value>::new());
        assert_eq!(save_one(backend, &a, &player, (1, 5), json!({"n": 5})).await, "conflicted");
        assert_eq!(kept(backend, &player).await[0]["value"], json!({"n": 5}));
    }

    async fn conflicts_are_resolved_all_or_none(backend) {
        let (one, a, b) = lost(backend).await;
        let (two, c, _) = lost(backend).await;
        save_one(backend, &a, &one, (1, 4), json!({})).await;
        save_one(backend, &c, &two, (1, 4), json!({})).await;
        let (first, second) = (kept(backend, &one).await.remove(0), kept(backend, &two).await.remove(0));
        resolve(backend, &b, &[&first["conflict_id"], &second["conflict_id"]]).await.refused(409, "lease_lost");
        assert_eq!((kept(backend, &one).await.len(), kept(backend, &two).await.len()), (1, 1));
        // A player that was let go is nobody's.
        release(backend, &b, &one, 2).await;
        resolve(backend, &b, &[&first["conflict_id"]]).await.refused(409, "lease_lost");
        assert_eq!(ask(backend, &a, &one).await["players"][0]["conflicts"][0], first);
        resolve(backend, &a, &[&first["conflict_id"]]).await.expect(204);
    }

    async fn only_the_holder_sees_conflicts(backend) {
        let guest = backend.guest("Ada").await;
        let path = format!("/v1/players/{}/conflicts", text(&guest["player_id"]));
        backend.get(&path, &text(&guest["access_token"])).await.refused(401, "unauthorized");
        backend.get(&path, &backend.key).await.refused(409, "lease_lost");
        let server = backend.server("A", json!({})).await;
        let player = text(&guest["player_id"]);
        load(backend, &server, &player).await;
        assert_eq!(backend.get(&path, &backend.key).await.expect(200), json!({"conflicts": []}));
        release(backend, &server, &player, 1).await;
        backend.get(&path, &backend.key).await.refused(409, "lease_lost");
        let path = format!("/v1/players/{}/conflicts", "x".repeat(65));
        backend.get(&path, &backend.key).await.refused(422, "invalid_field");
    }
}
