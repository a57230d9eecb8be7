//! Whatever is sent, the answer is a 4xx that says what is wrong.

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};

async fn raw(backend: &Backend, path: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request =
        backend.request(Method::POST, path).bearer_auth(&backend.key).header("content-type", media_type);
    backend.send(request.body(body)).await
}

on_both_databases! {
    async fn what_is_no_json_is_malformed(backend) {
        for body in [&b"{"[..], b"", b"nonsense", b"{} {}", b"\xff\xfe", b"{\"display_name\": \"\xff\"}"] {
            let answer = raw(backend, "/v1/auth/anonymous", "application/json", body.to_vec()).await;
            answer.refused(400, "malformed_json");
        }
        raw(backend, "/v1/auth/anonymous", "text/plain", "{}").await.refused(415, "unsupported_media_type");
        raw(backend, "/v1/auth/anonymous", "application/json; charset=utf-8", "{}").await.expect(200);
        raw(backend, "/v1/auth/anonymous", "application/json", "x".repeat(65 * 1024)).await.refused(413, "body_too_large");
    }

    async fn the_field_at_fault_is_named(backend) {
        let server = json!({"instance_id": "i", "name": "n", "address": "a", "port": 1, "max_players": 1});
        let with = |field: &str, value: Value| { let mut body = server.clone(); body[field] = value; body };
        for (path, body, field) in [
            ("/v1/auth/anonymous", json!({"display_nam": "x"}), "display_nam"),
            ("/v1/auth/anonymous", json!({"display_name": 3}), "display_name"),
            ("/v1/auth/anonymous", json!({"display_name": ""}), "display_name"),
            ("/v1/auth/anonymous", json!({"display_name": "   "}), "display_name"),
            ("/v1/auth/anonymous", json!({"display_name": "x".repeat(33)}), "display_name"),
            ("/v1/auth/anonymous", json!({"display_name": "a\nb"}), "display_name"),
            ("/v1/auth/anonymous", json!({"display_name": "a\u{0}b"}), "display_name"),
            ("/v1/auth/device", json!({"device_id": "short"}), "device_id"),
            ("/v1/auth/device", json!({}), "device_id"),
            ("/v1/auth/password", json!({"email": "no", "password": "12345678"}), "email"),
            ("/v1/auth/password", json!({"email": "a@b", "password": "1"}), "password"),
            ("/v1/auth/register", json!({"email": "a@b", "password": "x".repeat(129), "display_name": "A"}), "password"),
            ("/v1/auth/refresh", json!({"refresh_token": "x".repeat(9000)}), "refresh_token"),
            ("/v1/validate", json!({"token": ""}), "token"),
            ("/v1/validate", json!({"token": "x", "server_id": "a b"}), "server_id"),
            ("/v1/servers", with("port", json!(0)), "port"),
            ("/v1/servers", with("port", json!(65536)), "port"),
            ("/v1/servers", with("port", json!(-1)), "port"),
            ("/v1/servers", with("port", json!("1")), "port"),
            ("/v1/servers", with("query_port", json!(0)), "query_port"),
            ("/v1/servers", with("query_port", json!(65536)), "query_port"),
            ("/v1/servers", with("query_port", json!("1")), "query_port"),
            ("/v1/servers", with("players", json!(-1)), "players"),
            ("/v1/servers", with("players", json!(1.5)), "players"),
            ("/v1/servers", with("max_players", json!(0)), "max_players"),
            ("/v1/servers", with("max_players", json!(100_001)), "max_players"),
            ("/v1/servers", with("name", json!("x".repeat(65))), "name"),
            ("/v1/servers", with("address", json!("a b")), "address"),
            ("/v1/servers", with("address", json!("")), "address"),
            ("/v1/servers", with("address", json!("0.0.0.0")), "address"),
            ("/v1/servers", with("address", json!("::")), "address"),
            ("/v1/servers", with("address", json!("*")), "address"),
            ("/v1/servers", with("address", json!("http://example.org")), "address"),
            ("/v1/servers", with("address", json!("1.2.3.4:7777")), "address"),
            ("/v1/servers", with("address", json!("[::1]")), "address"),
            ("/v1/servers", with("instance_id", json!("../i")), "instance_id"),
            ("/v1/servers", with("tags", json!(["a", ""])), "tags[1]"),
            ("/v1/servers", with("tags", json!(["a,b"])), "tags"),
            ("/v1/servers", with("tags", json!(vec!["a"; 17])), "tags"),
            ("/v1/servers", with("extra", json!(1)), "extra"),
            ("/v1/servers/x/heartbeat", json!({"sequence": -1, "players": 0}), "sequence"),
            ("/v1/servers/x/heartbeat", json!({"sequence": 1, "players": 0, "status": "odd"}), "status"),
            ("/v1/players/load", json!({"server_id": "s", "player_ids": []}), "player_ids"),
            ("/v1/players/release", json!({"server_id": "s", "players": []}), "players"),
            ("/v1/players/release", json!({"server_id": "s", "players": [{"player_id": "p"}]}), "players[0].epoch"),
            ("/v1/players/release", json!({"server_id": "s", "players": [{"player_id": "a b", "epoch": 1}]}), "players[0].player_id"),
            ("/v1/players/conflicts/resolve", json!({"server_id": "s", "conflict_ids": []}), "conflict_ids"),
            ("/v1/players/conflicts/resolve", json!({"server_id": "s", "conflict_ids": vec!["x"; 101]}), "conflict_ids"),
            ("/v1/players/save", json!({"server_id": "s", "items": [{"player_id": "p"}]}), "items[0].key"),
            ("/v1/players/save", json!({"server_id": "s", "items": [{"player_id": "p", "key": "a/b", "epoch": 1, "sequence": 1, "value": {}}]}), "items[0].key"),
            ("/v1/players/save", json!({"server_id": "s", "items": [{"player_id": "p", "key": "k", "epoch": 0, "sequence": 1, "value": {}}]}), "items[0].epoch"),
            ("/v1/players/save", json!({"server_id": "s", "items": [{"player_id": "p", "key": "k", "epoch": 1, "sequence": 1, "value": []}]}), "items[0].value"),
        ] {
            let answer = backend.serve(path, &body).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{path} {body} {}", answer.body);
        }
        for (query, field) in [("limit=0", "limit"), ("limit=201", "limit"), ("limit=-1", "limit"), ("limit=x", "limit"),
            ("sort=odd", "sort"), ("not_full=maybe", "not_full"), ("colour=red", "colour"), ("map=", "map")] {
            let answer = backend.get(&format!("/v1/rooms?{query}"), &backend.key).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{query} {}", answer.body);
        }
        let rooms = backend.get("/v1/rooms", &backend.key).await.expect(200);
        assert_eq!(rooms["rooms"], json!([]), "nothing was half-written");
    }

    async fn unknown_paths_and_methods_are_problems_too(backend) {
        backend.get("/v1/nothing", "").await.refused(404, "not_found");
        backend.get("/v1/auth/anonymous", "").await.refused(405, "method_not_allowed");
        let id = "x".repeat(100);
        backend.get(&format!("/v1/rooms/{id}"), &backend.key).await.refused(422, "invalid_field");
    }

    async fn a_request_id_is_echoed_when_it_is_one(backend) {
        let ask = |id: &str| backend.request(Method::GET, "/healthz").header("x-request-id", id);
        assert_eq!(backend.send(ask("my-id_1")).await.headers["x-request-id"], "my-id_1");
        let replaced = backend.send(ask("no spaces; no logs")).await;
        assert_ne!(replaced.headers["x-request-id"], "no spaces; no logs");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    let member = prop_oneof![
        Just("display_name"),
        Just("email"),
        Just("password"),
        Just("token"),
        Just("server_id"),
        Just("items"),
        Just("player_ids"),
        Just("conflict_ids"),
        Just("name"),
        Just("port"),
        Just("sequence"),
        Just("players"),
        Just("value"),
        Just("tags"),
        Just("request_id"),
        Just("room"),
        Just("query"),
        Just("seats"),
        Just("attributes"),
        Just("invite_code"),
        Just("party_code"),
        Just("matchmaker"),
        Just("accept"),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(member.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_json_makes_a_5xx() {
    let backend = Backend::on_sqlite().await;
    let paths = [
        "/v1/auth/anonymous",
        "/v1/auth/device",
        "/v1/auth/password",
        "/v1/auth/register",
        "/v1/auth/refresh",
        "/v1/auth/logout",
        "/v1/validate",
        "/v1/servers",
        "/v1/servers/x/heartbeat",
        "/v1/players/load",
        "/v1/players/save",
        "/v1/worlds/x/open",
        "/v1/worlds/x/uploads",
        "/v1/worlds/x/commit",
        "/v1/players/release",
        "/v1/players/conflicts/resolve",
        // Of players.
        "/v1/rooms",
        "/v1/rooms/quick-play",
        "/v1/rooms/by-code/ticket",
        "/v1/rooms/x/ticket",
        "/v1/matchmaking/tickets",
        "/v1/matchmaking/tickets/x/players",
        "/v1/matchmaking/tickets/x/answer",
    ];
    let player = text(&backend.guest("Ada").await["access_token"]);
    let runtime = tokio::runtime::Handle::current();
    let strategy = (any_json(), proptest::sample::select(paths.to_vec()));
    tokio::task::block_in_place(|| {
        TestRunner::new(Runs { cases: 300, ..Runs::default() })
            .run(&strategy, |(body, path)| {
                let is_of_players = path.starts_with("/v1/rooms") || path.starts_with("/v1/matchmaking");
                let bearer = if is_of_players { &player } else { &backend.key };
                let answer = runtime.block_on(backend.post(path, bearer, &body));
                prop_assert!(answer.status.as_u16() < 500, "{path} {body} → {}", answer.body);
                Ok(())
            })
            .expect("no 5xx");
    });
    backend.stop().await;
}
