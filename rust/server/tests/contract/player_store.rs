//! Players' documents: versions, replays, limits.

use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};

/// What asking for one player comes to: in `players` or in `held`. Epochs are counted, in whatever these helpers give and
/// take: the first that a player was given is 1.
pub async fn ask(backend: &Backend, server_id: &str, player_id: &str) -> Value {
    let body = json!({"server_id": server_id, "player_ids": [player_id]});
    let mut reply = backend.serve("/v1/players/load", &body).await.expect(200);
    if let Some(player) = reply["players"].get_mut(0) {
        let epoch = player["epoch"].as_i64().expect("number");
        player["epoch"] = backend.ordinal(player_id, epoch).into();
    }
    reply
}

/// Takes one player that nobody else holds.
pub async fn load(backend: &Backend, server_id: &str, player_id: &str) -> Value {
    let reply = ask(backend, server_id, player_id).await;
    assert_eq!(reply["held"], json!([]));
    reply["players"][0].clone()
}

pub fn item(player_id: &str, epoch: i64, sequence: i64, value: &Value) -> Value {
    json!({"player_id": player_id, "key": "progress", "epoch": epoch, "sequence": sequence, "value": value})
}

/// The outcome of each item and the version after it.
pub async fn save(backend: &Backend, server_id: &str, mut items: Vec<Value>) -> Vec<(String, i64)> {
    for item in &mut items {
        let ordinal = item["epoch"].as_i64().expect("number");
        item["epoch"] = backend.epoch(&text(&item["player_id"]), ordinal).into();
    }
    let saved =
        backend.serve("/v1/players/save", &json!({"server_id": server_id, "items": items})).await.expect(200);
    let results = saved["results"].as_array().expect("list");
    results
        .iter()
        .map(|result| (text(&result["outcome"]), result["version"].as_i64().expect("number")))
        .collect()
}

/// Saves one document of one player, and gives the outcome as a word.
pub async fn save_one(
    backend: &Backend,
    server_id: &str,
    player_id: &str,
    number: (i64, i64),
    value: Value,
) -> String {
    save(backend, server_id, vec![item(player_id, number.0, number.1, &value)]).await.remove(0).0
}

pub async fn release(backend: &Backend, server_id: &str, player_id: &str, epoch: i64) {
    let epoch = backend.epoch(player_id, epoch);
    let body = json!({"server_id": server_id, "players": [{"player_id": player_id, "epoch": epoch}]});
    backend.serve("/v1/players/release", &body).await.expect(200);
}

fn outcome(word: &str, version: i64) -> Vec<(String, i64)> {
    vec![(word.to_owned(), version)]
}

on_both_databases! {
    async fn a_save_is_applied_once_and_in_order(backend) {
        let guest = backend.guest("Ada").await;
        let (player, server) = (text(&guest["player_id"]), backend.server("Pond", json!({})).await);
        let loaded = load(backend, &server, &player).await;
        assert_eq!((&loaded["epoch"], &loaded["sequence"], &loaded["documents"]), (&json!(1), &json!(0), &json!([])));
        let send = |sequence, value: Value| { let items = vec![item(&player, 1, sequence, &value)]; save(backend, &server, items) };
        assert_eq!(send(1, json!({"wins": 1})).await, outcome("applied", 1));
        assert_eq!(send(1, json!({"wins": 1})).await, outcome("replayed", 1));
        assert_eq!(send(3, json!({"wins": 3})).await, outcome("applied", 2));
        assert_eq!(send(2, json!({"wins": 2})).await, outcome("superseded", 2));
        let own = backend.get("/v1/players/me/documents", &text(&guest["access_token"])).await.expect(200);
        assert_eq!((&own["documents"][0]["value"], &own["documents"][0]["version"]), (&json!({"wins": 3}), &json!(2)));
        assert_eq!(load(backend, &server, &player).await["sequence"], 3);
    }

    async fn who_lost_the_player_overwrites_nothing(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let (a, b) = (backend.server("A", json!({})).await, backend.server("B", json!({})).await);
        assert_eq!(load(backend, &a, &player).await["epoch"], 1);
        assert_eq!(save(backend, &a, vec![item(&player, 1, 1, &json!({"at": "a"}))]).await, outcome("applied", 1));
        release(backend, &a, &player, 1).await;
        assert_eq!(load(backend, &b, &player).await["epoch"], 2);
        assert_eq!(save(backend, &a, vec![item(&player, 1, 2, &json!({"at": "a, late"}))]).await, outcome("conflicted", 1));
        assert_eq!(save(backend, &b, vec![item(&player, 3, 2, &json!({"at": "b, never given"}))]).await, outcome("refused", 0));
        assert_eq!(save(backend, &b, vec![item(&player, 2, 1, &json!({"at": "b"}))]).await, outcome("applied", 2));
        assert_eq!(save(backend, &a, vec![item(&player, 1, 3, &json!({"at": "a, later"}))]).await, outcome("conflicted", 2));
        assert_eq!(load(backend, &b, &player).await["documents"][0]["value"], json!({"at": "b"}));
    }

    async fn a_player_has_so_many_documents(backend, |config| config.max_documents_per_player = 3) {
        let (one, two) = (text(&backend.guest("1").await["player_id"]), text(&backend.guest("2").await["player_id"]));
        let server = backend.server("Pond", json!({})).await;
        load(backend, &server, &one).await;
        load(backend, &server, &two).await;
        let send = async |items: &[(&String, &str, i64)]| {
            let item = |(player, key, sequence): &(&String, &str, i64)| {
                let mut item = item(player, backend.epoch(player, 1), *sequence, &json!({"n": sequence}));
                item["key"] = (*key).into();
                item
            };
            let body = json!({"server_id": server, "items": items.iter().map(item).collect::<Vec<_>>()});
            let saved = backend.serve("/v1/players/save", &body).await.expect(200);
            let word = |result: &Value| text(result.get("code").unwrap_or(&result["outcome"]));
            saved["results"].as_array().expect("list").iter().map(word).collect::<Vec<_>>()
        };
        let (fits, full) = ("applied", "too_many_documents");
        // In one batch, in several, and beside another player who has room.
        assert_eq!(send(&[(&one, "a", 1), (&one, "b", 2)]).await, [fits, fits]);
        let batch = [(&two, "a", 1), (&one, "d", 3), (&one, "c", 4), (&one, "e", 5), (&one, "a", 6), (&one, "e", 7), (&two, "b", 2)];
        assert_eq!(send(&batch).await, [fits, full, fits, full, fits, full, fits]);
        assert_eq!(send(&[(&one, "d", 8)]).await, [full]);
        assert_eq!(send(&[(&one, "c", 9), (&two, "c", 3), (&two, "d", 4)]).await, [fits, fits, full]);
        assert_eq!(load(backend, &server, &one).await["documents"].as_array().expect("list").len(), 3);
        assert_eq!(backend.count("SELECT COUNT(*) FROM documents").await, 6);
    }

    async fn a_batch_is_judged_item_by_item(backend) {
        let (one, two) = (text(&backend.guest("1").await["player_id"]), text(&backend.guest("2").await["player_id"]));
        let server = backend.server("Pond", json!({})).await;
        load(backend, &server, &one).await;
        let items = vec![item(&one, 1, 1, &json!({})), item(&two, 1, 1, &json!({})), item("nobody", 1, 1, &json!({})), item(&one, 1, 2, &json!({"n": 2}))];
        let results = save(backend, &server, items).await;
        let words: Vec<&str> = results.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["applied", "refused", "refused", "applied"]);
        assert_eq!(results[3].1, 2);
    }

    async fn concurrent_saves_are_all_counted(backend) {
        let server = backend.server("Pond", json!({})).await;
        let mut players = Vec::new();
        for name in ["1", "2", "3"] {
            let player = text(&backend.guest(name).await["player_id"]);
            load(backend, &server, &player).await;
            players.push(player);
        }
        let batch = |sequence: i64| players.iter().map(|player| item(player, 1, sequence, &json!({"s": sequence}))).collect::<Vec<_>>();
        let (mut forwards, mut backwards) = (batch(1), batch(2));
        backwards.reverse();
        forwards.push(item(&players[0], 1, 3, &json!({"s": 3})));
        tokio::join!(save(backend, &server, forwards), save(backend, &server, backwards), save(backend, &server, batch(2)));
        for player in &players[1..] {
            assert_eq!(load(backend, &server, player).await["documents"][0]["value"], json!({"s": 2}));
        }
        assert_eq!(load(backend, &server, &players[0]).await["documents"][0]["value"], json!({"s": 3}));
    }

    async fn limits_are_told_and_nothing_is_half_written(backend) {
        let player = text(&backend.guest("Ada").await["player_id"]);
        let server = backend.server("Pond", json!({})).await;
        load(backend, &server, &player).await;
        let large = json!({"text": "x".repeat(256 * 1024)});
        let body = json!({"server_id": server, "items": [item(&player, 1, 1, &json!({})), item(&player, 1, 2, &large)]});
        let answer = backend.serve("/v1/players/save", &body).await;
        answer.refused(422, "invalid_field");
        assert_eq!(answer.field(), "items[1].value");
        assert_eq!(load(backend, &server, &player).await["documents"], json!([]));
        let many: Vec<Value> = (1..=101).map(|sequence| item(&player, 1, sequence, &json!({}))).collect();
        let answer = backend.serve("/v1/players/save", &json!({"server_id": server, "items": many})).await;
        answer.refused(422, "invalid_field");
        assert_eq!(answer.field(), "items");
        let foreign = json!({"server_id": "nobody", "items": [item(&player, 1, 1, &json!({}))]});
        backend.serve("/v1/players/save", &foreign).await.refused(404, "server_unknown");
    }

    async fn numbers_and_texts_come_back_as_they_went(backend) {
        let guest = backend.guest("Ada").await;
        let (player, server) = (text(&guest["player_id"]), backend.server("Pond", json!({})).await);
        load(backend, &server, &player).await;
        let value = json!({"i": i64::MAX, "n": -1, "f": 0.1, "z": 1.0, "t": "Zoë 🐸 \u{0}\"\\", "l": [1, null, true, {"a": {}}]});
        assert_eq!(save(backend, &server, vec![item(&player, 1, 1, &value)]).await, outcome("applied", 1));
        assert_eq!(load(backend, &server, &player).await["documents"][0]["value"], value);
    }

    async fn every_name_of_a_member_is_a_name(backend) {
        let guest = backend.guest("Ada").await;
        let (player, server) = (text(&guest["player_id"]), backend.server("Pond", json!({})).await);
        load(backend, &server, &player).await;
        // serde_json's reader would take this one for an instruction, and this test's own reader does.
        let value = json!({"a": {"$serde_json::private::RawValue": "[1]"}});
        assert_eq!(save(backend, &server, vec![item(&player, 1, 1, &value)]).await, outcome("applied", 1));
        let kept = r#"SELECT COUNT(*) FROM documents WHERE value LIKE '{"a":{"$serde_json::private::RawValue":"[1]"}}'"#;
        assert_eq!(backend.count(kept).await, 1);
        let message = json!({"a": {"$serde_json::private::RawValue": "no JSON"}});
        assert_eq!(save(backend, &server, vec![item(&player, 1, 2, &message)]).await, outcome("applied", 2));
    }
}
