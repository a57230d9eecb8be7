//! Server keys: made, listed, rotated and revoked by the operator, and good for one game and environment.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, Backend, on_both_databases, text};

/// `backend-server keys …` on the backend's database. Gives what it printed, or else what it complained about.
async fn keys(backend: &Backend, arguments: &[&str]) -> Result<String, String> {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_backend-server"))
        .arg("keys")
        .args(arguments)
        .args(["--database", backend.database()])
        .output()
        .await
        .expect("runs");
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(words(&output.stdout)) } else { Err(words(&output.stderr)) }
}

/// Id and key of `key_… (shown once): gsk_…`.
fn shown(line: &str) -> (String, String) {
    let (id, key) = line.split_once(" (shown once): ").expect("a key");
    (id.to_owned(), key.to_owned())
}

async fn listed(backend: &Backend) -> Vec<Value> {
    let text = keys(backend, &["list", "--json"]).await.expect("lists");
    assert!(!text.contains("gsk_"), "the list shows a key");
    serde_json::from_str(&text).expect("JSON")
}

async fn state_of(backend: &Backend, key_id: &str) -> Value {
    let found = listed(backend).await.into_iter().find(|record| record["key_id"] == key_id);
    found.expect("listed")
}

async fn register(backend: &Backend, key: &str, instance: &str) -> Answer {
    let entry =
        json!({"instance_id": instance, "name": "n", "address": "127.0.0.1", "port": 1, "max_players": 2});
    backend.post("/v1/servers", key, &entry).await
}

on_both_databases! {
    async fn a_key_is_made_used_and_revoked(backend) {
        let (id, key) = shown(&keys(backend, &["create", "--label", "pond fleet"]).await.expect("made"));
        assert!(key.starts_with("gsk_live_"));
        let before = state_of(backend, &id).await;
        assert_eq!((&before["state"], &before["label"], &before["game"]), (&json!("active"), &json!("pond fleet"), &json!("default")));
        assert_eq!(before["last_used_at"], Value::Null);

        let server = text(&register(backend, &key, "one").await.expect(201)["server_id"]);
        assert!(state_of(backend, &id).await["last_used_at"].is_string());
        backend.get(&format!("/v1/rooms/{server}"), &backend.key).await.expect(200);

        keys(backend, &["revoke", &id]).await.expect("revoked");
        register(backend, &key, "two").await.refused(401, "server_key_invalid");
        backend.get(&format!("/v1/rooms/{server}"), &backend.key).await.refused(404, "room_not_found");
        assert_eq!(state_of(backend, &id).await["state"], "revoked");
        backend.server("Others go on", json!({})).await;

        assert!(keys(backend, &["revoke", "key_unknown"]).await.is_err());
        assert!(keys(backend, &["rotate", &id]).await.is_err(), "a revoked key has no successor");
    }

    async fn a_rotated_key_keeps_its_servers(backend) {
        let (old_id, old) = shown(&keys(backend, &["create"]).await.expect("made"));
        let server = text(&register(backend, &old, "one").await.expect(201)["server_id"]);
        let (new_id, new) = shown(&keys(backend, &["rotate", &old_id, "--grace-seconds", "600"]).await.expect("rotated"));
        assert_eq!(state_of(backend, &old_id).await["state"], "expiring");
        let beat = |sequence: u32| json!({"sequence": sequence, "players": 0});
        let path = format!("/v1/servers/{server}/heartbeat");
        backend.post(&path, &old, &beat(1)).await.expect(200);
        backend.post(&path, &new, &beat(2)).await.expect(200);
        assert_eq!(register(backend, &new, "one").await.expect(201)["server_id"], server.as_str());

        keys(backend, &["revoke", &old_id]).await.expect("revoked");
        backend.post(&path, &old, &beat(3)).await.refused(401, "server_key_invalid");
        backend.post(&path, &new, &beat(4)).await.expect(200);
        assert!(keys(backend, &["rotate", &old_id]).await.is_err());

        let (_, newest) = shown(&keys(backend, &["rotate", &new_id, "--grace-seconds", "0"]).await.expect("rotated"));
        backend.post(&path, &new, &beat(5)).await.refused(401, "server_key_invalid");
        backend.post(&path, &newest, &beat(6)).await.expect(200);
        assert_eq!(state_of(backend, &new_id).await["state"], "expired");
    }

    async fn a_key_is_for_one_game_and_environment(backend) {
        for scope in [["--game", "other"], ["--environment", "staging"]] {
            let (_, key) = shown(&keys(backend, &["create", scope[0], scope[1]]).await.expect("made"));
            register(backend, &key, "one").await.refused(401, "server_key_invalid");
            backend.get("/v1/rooms", &key).await.refused(401, "server_key_invalid");
        }
        // Two games on one database, as an operator may run them.
        let other = backend.beside(|config| config.game = "other".into()).await;
        let (here, there) = (backend.server("Here", json!({})).await, other.server("There", json!({})).await);
        register(&other, &backend.key, "one").await.refused(401, "server_key_invalid");
        for (own, own_room, foreign_room) in [(backend, &here, &there), (&other, &there, &here)] {
            let token = text(&own.guest("Ada").await["access_token"]);
            let rooms = own.get("/v1/rooms", &token).await.expect(200);
            assert_eq!(rooms["rooms"].as_array().map(Vec::len), Some(1));
            assert_eq!(rooms["rooms"][0]["room_id"], own_room.as_str());
            own.get(&format!("/v1/rooms/{foreign_room}"), &token).await.refused(404, "room_not_found");
            let ticket = |room: &str| own.request(Method::POST, &format!("/v1/rooms/{room}/ticket")).bearer_auth(&token);
            own.send(ticket(foreign_room)).await.refused(404, "room_not_found");
            own.send(ticket(own_room)).await.expect(200);
        }
        let token = text(&other.guest("Eve").await["access_token"]);
        backend.get("/v1/rooms", &token).await.refused(401, "token_invalid");
        other.stop().await;
    }

    async fn a_key_goes_to_a_private_file(backend) {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("fleet.key");
        let path = file.display().to_string();
        let printed = keys(backend, &["create", "--key-file", &path]).await.expect("made");
        assert!(!printed.contains("gsk_"));
        let key = std::fs::read_to_string(&file).expect("written");
        register(backend, key.trim(), "one").await.expect(201);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        }
        let before = listed(backend).await.len();
        assert!(keys(backend, &["create", "--key-file", &path]).await.is_err(), "an existing file is not replaced");
        assert_eq!(listed(backend).await.len(), before, "no key is made that cannot be handed out");
    }
}

#[tokio::test]
async fn a_key_file_of_another_environment_is_refused_at_start() {
    let backend = Backend::on_sqlite_with(|config| config.environment = "staging".into()).await;
    assert!(backend.key.starts_with("gsk_staging_"));
    backend.server("Pond", json!({})).await;
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("live.key");
    std::fs::write(&file, backend_server::server_keys::generate("live").expect("key")).expect("written");
    let config = backend_server::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database: folder.path().join(format!("{}.db", Uuid::new_v4())).display().to_string(),
        environment: "staging".into(),
        server_key_file: Some(file),
        ..backend_server::Config::default()
    };
    let error = backend_server::start(config).await.err().expect("refused");
    assert!(error.to_string().contains("staging"), "{error:#}");
    backend.stop().await;
}
