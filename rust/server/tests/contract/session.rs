//! Accounts, logins and refresh tokens.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Backend, on_both_databases, text};

on_both_databases! {
    async fn guests_are_new_and_devices_come_back(backend) {
        let (one, two) = (backend.guest("Ada").await, backend.guest("Ada").await);
        assert_ne!(one["player_id"], two["player_id"]);
        assert_eq!((&one["created"], &one["display_name"]), (&json!(true), &json!("Ada")));

        let device = json!({"device_id": "0123456789abcdef", "display_name": "Pad"});
        let first = backend.post("/v1/auth/device", "", &device).await.expect(200);
        let again = backend.post("/v1/auth/device", "", &device).await.expect(200);
        assert_eq!(first["player_id"], again["player_id"]);
        assert_eq!((&first["created"], &again["created"]), (&json!(true), &json!(false)));
    }

    async fn a_password_account_logs_in_and_says_nothing_about_others(backend) {
        let account = json!({"email": "Ada@Example.org", "password": "correct horse", "display_name": "Ada"});
        let made = backend.post("/v1/auth/register", "", &account).await.expect(201);
        let login = json!({"email": "ada@example.org", "password": "correct horse"});
        let back = backend.post("/v1/auth/password", "", &login).await.expect(200);
        assert_eq!(made["player_id"], back["player_id"]);

        let wrong = backend.post("/v1/auth/password", "", &json!({"email": "ada@example.org", "password": "incorrect"})).await;
        wrong.refused(401, "invalid_credentials");
        let nobody = backend.post("/v1/auth/password", "", &json!({"email": "eve@example.org", "password": "incorrect"})).await;
        nobody.refused(401, "invalid_credentials");
        assert_eq!(wrong.body["detail"], nobody.body["detail"]);

        let twice = backend.post("/v1/auth/register", "", &json!({"email": "ADA@example.org", "password": "another one", "display_name": "Eve"})).await;
        twice.refused(409, "account_exists");
        assert_eq!(twice.field(), "email");
    }

    async fn a_repeated_registration_makes_one_account(backend) {
        let key = Uuid::new_v4().to_string();
        let body = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        let send = |body: serde_json::Value| backend.request(Method::POST, "/v1/auth/register").header("idempotency-key", &key).json(&body);
        let first = backend.send(send(body.clone())).await.expect(201);
        let again = backend.send(send(body)).await.expect(201);
        assert_eq!(first["player_id"], again["player_id"]);
        let other = json!({"email": "eve@example.org", "password": "correct horse", "display_name": "Eve"});
        backend.send(send(other)).await.refused(422, "idempotency_key_reused");

        let guest = |key: &str| backend.request(Method::POST, "/v1/auth/anonymous").header("idempotency-key", key).json(&json!({}));
        let key = Uuid::new_v4().to_string();
        let (one, two) = (backend.send(guest(&key)).await.expect(200), backend.send(guest(&key)).await.expect(200));
        assert_eq!(one["player_id"], two["player_id"]);
        let bad = backend.send(guest("not a uuid")).await;
        bad.refused(422, "invalid_field");
        assert_eq!(bad.field(), "idempotency-key");
    }

    async fn a_lost_reply_to_a_refresh_logs_nobody_out(backend) {
        let first = text(&backend.guest("Ada").await["refresh_token"]);
        let second = trade(backend, &first).await.expect(200);
        let replayed = trade(backend, &first).await.expect(200);
        assert_eq!(second["refresh_token"], replayed["refresh_token"]);
        trade(backend, &text(&second["refresh_token"])).await.expect(200);
    }

    async fn an_old_refresh_token_ends_the_session(backend) {
        let first = text(&backend.guest("Ada").await["refresh_token"]);
        let second = text(&trade(backend, &first).await.expect(200)["refresh_token"]);
        let third = text(&trade(backend, &second).await.expect(200)["refresh_token"]);
        trade(backend, &first).await.refused(401, "refresh_token_reused");
        trade(backend, &third).await.refused(401, "refresh_token_invalid");
        trade(backend, &second).await.refused(401, "refresh_token_invalid");
    }

    async fn a_replay_after_a_while_ends_the_session(backend) {
        let first = text(&backend.guest("Ada").await["refresh_token"]);
        let second = text(&trade(backend, &first).await.expect(200)["refresh_token"]);
        backend.execute("UPDATE refresh_tokens SET used_at = used_at - 60001 WHERE used_at IS NOT NULL").await;
        trade(backend, &first).await.refused(401, "refresh_token_reused");
        trade(backend, &second).await.refused(401, "refresh_token_invalid");
    }

    async fn concurrent_refreshes_get_one_successor(backend) {
        let first = text(&backend.guest("Ada").await["refresh_token"]);
        let (a, b, c) = tokio::join!(trade(backend, &first), trade(backend, &first), trade(backend, &first));
        let (a, b, c) = (a.expect(200), b.expect(200), c.expect(200));
        assert_eq!(a["refresh_token"], b["refresh_token"]);
        assert_eq!(b["refresh_token"], c["refresh_token"]);
    }

    async fn logout_ends_the_session_and_is_silent(backend) {
        let token = text(&backend.guest("Ada").await["refresh_token"]);
        for _ in 0..2 {
            backend.post("/v1/auth/logout", "", &json!({"refresh_token": token})).await.expect(204);
        }
        backend.post("/v1/auth/logout", "", &json!({"refresh_token": "grt_unknown"})).await.expect(204);
        trade(backend, &token).await.refused(401, "refresh_token_invalid");
    }
}

async fn trade(backend: &Backend, refresh_token: &str) -> crate::harness::Answer {
    backend.post("/v1/auth/refresh", "", &json!({"refresh_token": refresh_token})).await
}

#[tokio::test]
async fn sessions_survive_a_restart() {
    let backend = Backend::on_sqlite().await;
    let guest = backend.guest("Ada").await;
    let backend = backend.restart().await;
    backend.get("/v1/players/me/documents", &text(&guest["access_token"])).await.expect(200);
    trade(&backend, &text(&guest["refresh_token"])).await.expect(200);
    backend.stop().await;
}

#[tokio::test]
async fn the_server_key_is_made_once_and_kept() {
    let backend = Backend::on_sqlite().await;
    let key = backend.key.clone();
    let backend = backend.restart().await;
    assert_eq!(backend.key, key);
    backend.server("Pond", json!({})).await;
    backend.stop().await;
}

/// Of what lets somebody in, the database holds hashes only.
#[tokio::test]
async fn a_stolen_database_logs_nobody_in() {
    let backend = Backend::on_sqlite().await;
    let device = "device-id-0123456789";
    let guest = backend.post("/v1/auth/device", "", &json!({"device_id": device})).await.expect(200);
    let next = trade(&backend, &text(&guest["refresh_token"])).await.expect(200);
    let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
    let ada = backend.post("/v1/auth/register", "", &account).await.expect(201);
    let secrets = [
        device.to_owned(),
        "correct horse".to_owned(),
        backend.key.clone(),
        text(&guest["refresh_token"]),
        text(&next["refresh_token"]),
        text(&ada["refresh_token"]),
        text(&ada["access_token"]),
    ];
    let database = backend.database().to_owned();
    let mut bytes = std::fs::read(&database).expect("database");
    bytes.extend(std::fs::read(format!("{database}-wal")).expect("its log"));
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("ada@example.org"), "what was written is there");
    for secret in &secrets {
        assert!(!holds(secret), "a secret is there as well");
    }
    backend.stop().await;
}
