//! Who finds a room and gets into it: visibility, passwords, invite codes. Custom attributes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};

async fn ticket(backend: &Backend, room_id: &str, token: &str, body: Value) -> Answer {
    backend.post(&format!("/v1/rooms/{room_id}/ticket"), token, &body).await
}

async fn by_code(backend: &Backend, token: &str, body: Value) -> Answer {
    backend.post("/v1/rooms/by-code/ticket", token, &body).await
}

async fn player(backend: &Backend) -> String {
    text(&backend.guest("Ada").await["access_token"])
}

/// Registers a server; gives the reply.
async fn register(backend: &Backend, name: &str, change: Value) -> Value {
    let mut body =
        json!({"instance_id": name, "name": name, "address": "127.0.0.1", "port": 7777, "max_players": 2});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    backend.serve("/v1/servers", &body).await.expect(201)
}

async fn beat(backend: &Backend, server: &Value, sequence: u64, change: Value) -> Value {
    let mut body = json!({"sequence": sequence, "players": 0});
    for (member, value) in change.as_object().into_iter().flatten() {
        body[member] = value.clone();
    }
    let path = format!("/v1/servers/{}/heartbeat", text(&server["server_id"]));
    backend.serve(&path, &body).await.expect(200)
}

async fn listed(backend: &Backend) -> Vec<String> {
    let page = backend.get("/v1/rooms", &backend.key).await.expect(200);
    page["rooms"].as_array().expect("list").iter().map(|room| text(&room["name"])).collect()
}

on_both_databases! {
    async fn visibility_decides_who_finds_a_room(backend) {
        let token = player(backend).await;
        let public = register(backend, "Public", json!({})).await;
        let unlisted = register(backend, "Unlisted", json!({"visibility": "unlisted"})).await;
        let private = register(backend, "Private", json!({"visibility": "private"})).await;
        assert_eq!(listed(backend).await, ["Public"]);
        assert_eq!(public["invite_code"], Value::Null);
        for server in [&public, &unlisted] {
            let id = text(&server["server_id"]);
            backend.get(&format!("/v1/rooms/{id}"), &token).await.expect(200);
            ticket(backend, &id, &token, json!({})).await.expect(200);
        }
        let id = text(&private["server_id"]);
        backend.get(&format!("/v1/rooms/{id}"), &token).await.refused(404, "room_not_found");
        ticket(backend, &id, &token, json!({})).await.refused(404, "room_not_found");
        for server in [&unlisted, &private] {
            let code = text(&server["invite_code"]);
            for typed in [code.clone(), code.to_lowercase().replace('-', " ")] {
                let joined = by_code(backend, &token, json!({"invite_code": typed})).await.expect(200);
                assert_eq!(joined["room"]["room_id"], server["server_id"]);
            }
        }
    }

    async fn an_invite_code_ends_with_its_room(backend) {
        let token = player(backend).await;
        let server = register(backend, "Pond", json!({"visibility": "private"})).await;
        let first = text(&server["invite_code"]);
        // A heartbeat tells it, also one that was overtaken.
        assert_eq!(beat(backend, &server, 2, json!({})).await["invite_code"], first.as_str());
        assert_eq!(beat(backend, &server, 1, json!({})).await["invite_code"], first.as_str());
        // The same instance keeps it.
        assert_eq!(register(backend, "Pond", json!({"visibility": "private"})).await["invite_code"], first.as_str());
        let second = text(&beat(backend, &server, 3, json!({"new_invite_code": true})).await["invite_code"]);
        assert_ne!(first, second);
        by_code(backend, &token, json!({"invite_code": first})).await.refused(404, "invite_code_unknown");
        by_code(backend, &token, json!({"invite_code": second})).await.expect(200);
        // A public room has none; one that is hidden again has another.
        assert_eq!(beat(backend, &server, 4, json!({"visibility": "public"})).await["invite_code"], Value::Null);
        by_code(backend, &token, json!({"invite_code": second})).await.refused(404, "invite_code_unknown");
        assert_eq!(listed(backend).await, ["Pond"]);
        let third = text(&beat(backend, &server, 5, json!({"visibility": "unlisted"})).await["invite_code"]);
        assert!(listed(backend).await.is_empty());
        by_code(backend, &token, json!({"invite_code": third})).await.expect(200);
        let path = format!("/v1/servers/{}", text(&server["server_id"]));
        backend.send(backend.request(Method::DELETE, &path).bearer_auth(&backend.key)).await.expect(204);
        by_code(backend, &token, json!({"invite_code": third})).await.refused(404, "invite_code_unknown");
        let again = register(backend, "Pond", json!({"visibility": "private"})).await;
        assert_ne!(again["invite_code"], third.as_str());
    }

    async fn an_invite_code_does_not_outlive_the_lease(backend) {
        let token = player(backend).await;
        let server = register(backend, "Pond", json!({"visibility": "private"})).await;
        let code = text(&server["invite_code"]);
        by_code(backend, &token, json!({"invite_code": code})).await.expect(200);
        backend.execute("UPDATE servers SET lease_until = 1").await;
        by_code(backend, &token, json!({"invite_code": code})).await.refused(404, "invite_code_unknown");
    }

    async fn an_invite_code_is_of_one_game(backend) {
        let server = register(backend, "Pond", json!({"visibility": "private"})).await;
        let other = backend.beside(|config| config.environment = "staging".into()).await;
        let token = player(&other).await;
        by_code(&other, &token, json!({"invite_code": server["invite_code"]})).await.refused(404, "invite_code_unknown");
        other.stop().await;
    }

    async fn invite_codes_cannot_be_guessed_for_long(backend) {
        let token = player(backend).await;
        let server = register(backend, "Pond", json!({"visibility": "private"})).await;
        let code = text(&server["invite_code"]);
        // What cannot be a code is not looked up, and counts nowhere.
        for typed in ["", "K7Q", "K7Q-X30", "K7Q-X3M-K7Q", "%_%_%_"] {
            let answer = by_code(backend, &token, json!({"invite_code": typed})).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), "invite_code");
        }
        for attempt in 0..10 {
            let wrong = if code == "222-222" { "333-333" } else { "222-222" };
            by_code(backend, &token, json!({"invite_code": wrong})).await.refused(404, "invite_code_unknown");
            // Right ones count nowhere.
            let joined = by_code(backend, &token, json!({"invite_code": code})).await;
            if attempt < 9 {
                joined.expect(200);
            } else {
                joined.refused(429, "rate_limited");
            }
        }
        let answer = by_code(backend, &token, json!({"invite_code": code})).await;
        answer.refused(429, "rate_limited");
        assert!(answer.body["retry_after"].as_u64().expect("seconds") <= 61);
        // Others are not kept out.
        by_code(backend, &player(backend).await, json!({"invite_code": code})).await.expect(200);
    }

    async fn a_password_is_checked_by_the_backend(backend) {
        let token = player(backend).await;
        let secret = "Grüße, 7 Frösche";
        let server = register(backend, "Pond", json!({"password": secret})).await;
        let id = text(&server["server_id"]);
        for body in [json!({}), json!({"password": ""}), json!({"password": "grüße, 7 frösche"})] {
            ticket(backend, &id, &token, body).await.refused(403, "wrong_room_password");
        }
        // Also without a body, as earlier games ask.
        let bare = backend.request(Method::POST, &format!("/v1/rooms/{id}/ticket")).bearer_auth(&token);
        backend.send(bare).await.refused(403, "wrong_room_password");
        let typed = backend.request(Method::POST, &format!("/v1/rooms/{id}/ticket")).bearer_auth(&token);
        backend.send(typed.header("content-type", "application/json")).await.refused(403, "wrong_room_password");
        // In another form of the same letters.
        ticket(backend, &id, &token, json!({"password": "Gru\u{308}ße, 7 Fro\u{308}sche"})).await.expect(200);
        let room = backend.get(&format!("/v1/rooms/{id}"), &token).await.expect(200);
        assert_eq!(room["has_password"], true);
        assert!(!room.to_string().contains("argon2") && !room.to_string().contains("Frösche"), "{room}");
        assert_eq!(backend.count("SELECT COUNT(*) FROM servers WHERE password_hash LIKE '$argon2id$%'").await, 1);
        // Another one, none, and one again.
        beat(backend, &server, 1, json!({"password": "second"})).await;
        ticket(backend, &id, &token, json!({"password": secret})).await.refused(403, "wrong_room_password");
        ticket(backend, &id, &token, json!({"password": "second"})).await.expect(200);
        beat(backend, &server, 2, json!({})).await;
        ticket(backend, &id, &token, json!({})).await.refused(403, "wrong_room_password");
        beat(backend, &server, 3, json!({"password": ""})).await;
        ticket(backend, &id, &token, json!({})).await.expect(200);
        ticket(backend, &id, &token, json!({"password": "whatever"})).await.expect(200);
        assert_eq!(backend.get(&format!("/v1/rooms/{id}"), &token).await.expect(200)["has_password"], false);
    }

    async fn an_invite_code_does_not_stand_in_for_the_password(backend) {
        let token = player(backend).await;
        let server = register(backend, "Pond", json!({"password": "frog", "visibility": "private"})).await;
        let code = server["invite_code"].clone();
        by_code(backend, &token, json!({"invite_code": code})).await.refused(403, "wrong_room_password");
        by_code(backend, &token, json!({"invite_code": code, "password": "frog"})).await.expect(200);
    }

    async fn room_passwords_cannot_be_guessed_for_long(backend) {
        let token = player(backend).await;
        let server = register(backend, "Pond", json!({"password": "frog"})).await;
        let other = register(backend, "Lake", json!({"password": "toad"})).await;
        let (id, other) = (text(&server["server_id"]), text(&other["server_id"]));
        for _ in 0..5 {
            ticket(backend, &id, &token, json!({"password": "toad"})).await.refused(403, "wrong_room_password");
        }
        let answer = ticket(backend, &id, &token, json!({"password": "frog"})).await;
        answer.refused(429, "rate_limited");
        assert!(answer.body["retry_after"].as_u64().expect("seconds") <= 61);
        // Neither other rooms are closed to this player, nor is this one to others.
        ticket(backend, &other, &token, json!({"password": "toad"})).await.expect(200);
        ticket(backend, &id, &player(backend).await, json!({"password": "frog"})).await.expect(200);
    }

    async fn attributes_keep_their_types_and_change(backend) {
        let attributes = json!({"difficulty": 3.0, "round": 3, "ranked": true, "host": "Ada \"Frog\" ♥", "least": i64::MIN});
        let server = register(backend, "Pond", json!({"attributes": attributes})).await;
        let path = format!("/v1/rooms/{}", text(&server["server_id"]));
        let request = backend.request(Method::GET, &path).bearer_auth(&backend.key);
        let raw = request.send().await.expect("a reply").text().await.expect("text");
        assert!(raw.contains(r#""difficulty":3.0"#) && raw.contains(r#""round":3}"#), "{raw}");
        assert_eq!(backend.get("/v1/rooms", &backend.key).await.expect(200)["rooms"][0]["attributes"], attributes);
        beat(backend, &server, 1, json!({})).await;
        assert_eq!(backend.get(&path, &backend.key).await.expect(200)["attributes"], attributes);
        beat(backend, &server, 2, json!({"attributes": {"round": 4}})).await;
        assert_eq!(backend.get(&path, &backend.key).await.expect(200)["attributes"], json!({"round": 4}));
        beat(backend, &server, 3, json!({"attributes": {}})).await;
        assert_eq!(backend.get(&path, &backend.key).await.expect(200)["attributes"], Value::Null);
    }

    async fn what_breaks_a_limit_is_named_and_changes_nothing(backend) {
        let server = register(backend, "Pond", json!({"attributes": {"round": 1}})).await;
        let path = format!("/v1/servers/{}/heartbeat", text(&server["server_id"]));
        let many: serde_json::Map<_, _> = (0..33).map(|index| (format!("a{index}"), json!(1))).collect();
        let large: serde_json::Map<_, _> = (0..9).map(|index| (format!("a{index}"), json!("x".repeat(250)))).collect();
        for (field, body) in [
            ("attributes", json!({"attributes": many})),
            ("attributes", json!({"attributes": large})),
            ("attributes", json!({"attributes": {"a b": 1}})),
            ("attributes.a", json!({"attributes": {"a": "x".repeat(257)}})),
            ("attributes.a", json!({"attributes": {"a": null}})),
            ("attributes.a", json!({"attributes": {"a": {"b": 1}}})),
            ("attributes.a", json!({"attributes": {"a": 9_223_372_036_854_775_808_u64}})),
            ("password", json!({"password": "x".repeat(65)})),
            ("visibility", json!({"visibility": "secret"})),
        ] {
            let mut beat = json!({"sequence": 1, "players": 0});
            for (member, value) in body.as_object().expect("an object") {
                beat[member] = value.clone();
            }
            let answer = backend.serve(&path, &beat).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{}", answer.body);
        }
        let room = backend.get(&format!("/v1/rooms/{}", text(&server["server_id"])), &backend.key).await.expect(200);
        assert_eq!(room["attributes"], json!({"round": 1}));
    }
}
