//! Signing keys: rotated without anybody being refused, and revoked with everything they signed.

use std::time::Duration;

use backend_server::database::Database;
use backend_server::signing_keys::{self, SigningKeyRecord};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};

async fn listed(backend: &Backend) -> Vec<SigningKeyRecord> {
    let database = Database::open(backend.database()).await.expect("opens");
    let records = signing_keys::list(&database).await.expect("lists");
    database.close().await;
    records
}

fn state_of<'a>(records: &'a [SigningKeyRecord], kid: &str) -> &'a str {
    &records.iter().find(|record| record.kid == kid).expect("listed").state
}

async fn rotate(backend: &Backend, ahead: u32) -> String {
    let database = Database::open(backend.database()).await.expect("opens");
    let kid = signing_keys::rotate(&database, ahead).await.expect("rotated");
    database.close().await;
    kid
}

async fn revoke(backend: &Backend, kid: &str) -> bool {
    let database = Database::open(backend.database()).await.expect("opens");
    let revoked = signing_keys::revoke(&database, kid).await;
    database.close().await;
    revoked.is_ok()
}

async fn published(backend: &Backend) -> Vec<String> {
    let jwks = backend.get("/.well-known/jwks.json", "").await.expect(200);
    jwks["keys"].as_array().expect("keys").iter().map(|key| text(&key["kid"])).collect()
}

/// Until the replica publishes exactly these keys.
async fn until_published(backend: &Backend, kids: &[&str]) {
    loop {
        let names = published(backend).await;
        if names.len() == kids.len() && kids.iter().all(|kid| names.iter().any(|name| name == kid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header")).expect("base64");
    text(&serde_json::from_slice::<Value>(&header).expect("JSON")["kid"])
}

async fn new_token(backend: &Backend) -> String {
    text(&backend.guest("Ada").await["access_token"])
}

async fn heartbeat(backend: &Backend, server_id: &str, sequence: u64) -> Value {
    let beat = json!({"sequence": sequence, "status": "ready", "players": 0});
    backend.serve(&format!("/v1/servers/{server_id}/heartbeat"), &beat).await.expect(200)
}

on_both_databases! {
    async fn a_new_key_is_published_before_it_signs(backend) {
        let first = published(backend).await.remove(0);
        let second = rotate(backend, 3_600).await;
        until_published(backend, &[&first, &second]).await;
        assert_eq!(kid_of(&new_token(backend).await), first);
        let records = listed(backend).await;
        assert_eq!((state_of(&records, &first), state_of(&records, &second)), ("signing", "published"));
    }

    async fn after_a_rotation_old_and_new_tokens_are_good(backend) {
        let old = new_token(backend).await;
        let second = rotate(backend, 0).await;
        until_published(backend, &[&kid_of(&old), &second]).await;
        let new = new_token(backend).await;
        assert_eq!(kid_of(&new), second);
        for token in [&old, &new] {
            backend.get("/v1/players/me/documents", token).await.expect(200);
        }
        let records = listed(backend).await;
        assert_eq!(state_of(&records, &kid_of(&old)), "published");
        assert!(records.iter().any(|record| record.retires_at.is_some()));
    }

    async fn a_retired_key_is_not_published(backend) {
        let old = new_token(backend).await;
        let second = rotate(backend, 0).await;
        backend.execute("UPDATE signing_keys SET retires_at = 1 WHERE retires_at IS NOT NULL").await;
        until_published(backend, &[&second]).await;
        backend.get("/v1/players/me/documents", &old).await.refused(401, "token_invalid");
    }

    async fn a_revoked_key_is_gone_with_its_tokens_and_heartbeats_say_so(backend) {
        let server = backend.server("Here", json!({})).await;
        let old = new_token(backend).await;
        let leaked = kid_of(&old);
        assert_eq!(heartbeat(backend, &server, 1).await["key_ids"], json!([leaked]));
        assert!(revoke(backend, &leaked).await);
        assert!(!revoke(backend, &leaked).await, "twice");
        assert!(!revoke(backend, "unknown").await);
        let new = loop {
            let new = new_token(backend).await;
            if kid_of(&new) != leaked {
                break new;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        backend.get("/v1/players/me/documents", &old).await.refused(401, "token_invalid");
        backend.get("/v1/players/me/documents", &new).await.expect(200);
        assert_eq!(heartbeat(backend, &server, 2).await["key_ids"], json!([kid_of(&new)]));
        assert_eq!(state_of(&listed(backend).await, &leaked), "revoked");
    }

    async fn the_next_in_line_signs_when_the_one_that_signs_is_revoked(backend) {
        let first = published(backend).await.remove(0);
        let second = rotate(backend, 3_600).await;
        assert!(revoke(backend, &first).await);
        until_published(backend, &[&second]).await;
        assert_eq!(kid_of(&new_token(backend).await), second);
    }
}

#[tokio::test]
async fn a_revoked_first_key_stays_revoked_after_a_restart() {
    let backend = Backend::on_sqlite().await;
    let old = new_token(&backend).await;
    assert!(revoke(&backend, &kid_of(&old)).await);
    let backend = backend.restart().await;
    assert!(!published(&backend).await.contains(&kid_of(&old)));
    backend.get("/v1/players/me/documents", &old).await.refused(401, "token_invalid");
    backend.stop().await;
}
