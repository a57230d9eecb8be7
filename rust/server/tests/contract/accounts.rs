//! Guests that get more ways to log in, other passwords, and identities of other platforms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};
use crate::player_store::{load, save_one};

pub async fn account(backend: &Backend, session: &Value) -> Value {
    backend.get("/v1/account", &text(&session["access_token"])).await.expect(200)
}

pub async fn as_player(backend: &Backend, session: &Value, path: &str, body: &Value) -> Answer {
    backend.post(path, &text(&session["access_token"]), body).await
}

pub async fn log_in(backend: &Backend, email: &str, password: &str) -> Answer {
    backend.post("/v1/auth/password", "", &json!({"email": email, "password": password})).await
}

pub async fn refresh(backend: &Backend, session: &Value) -> Answer {
    backend.post("/v1/auth/refresh", "", &json!({"refresh_token": session["refresh_token"]})).await
}

on_both_databases! {
    async fn a_guest_that_gets_a_password_keeps_everything(backend) {
        let guest = backend.guest("Ada").await;
        let id = text(&guest["player_id"]);
        assert_eq!(account(backend, &guest).await["guest"], true);
        let server = backend.server("Pond", json!({})).await;
        let epoch = load(backend, &server, &id).await["epoch"].as_i64().expect("epoch");
        assert_eq!(save_one(backend, &server, &id, (epoch, 1), json!({"gold": 7})).await, "applied");

        let link = json!({"email": "Ada@example.org", "password": "correct horse"});
        let linked = as_player(backend, &guest, "/v1/account/link/password", &link).await.expect(200);
        assert_eq!((&linked["email"], &linked["guest"], &linked["has_password"]), (&json!("ada@example.org"), &json!(false), &json!(true)));
        // The same again is no error; something else is.
        as_player(backend, &guest, "/v1/account/link/password", &link).await.expect(200);
        let other = json!({"email": "eve@example.org", "password": "correct horse"});
        as_player(backend, &guest, "/v1/account/link/password", &other).await.refused(409, "already_linked");

        let back = log_in(backend, "ada@example.org", "correct horse").await.expect(200);
        assert_eq!(back["player_id"], guest["player_id"]);
        let documents = backend.get("/v1/players/me/documents", &text(&back["access_token"])).await.expect(200);
        assert!(documents.to_string().contains("\"gold\":7"), "{documents}");

        let eve = backend.guest("Eve").await;
        as_player(backend, &eve, "/v1/account/link/password", &link).await.refused(409, "account_exists");
        assert_eq!(account(backend, &eve).await["has_password"], false);
    }

    async fn a_device_logs_in_to_one_account(backend) {
        let (ada, eve) = (backend.guest("Ada").await, backend.guest("Eve").await);
        let pad = json!({"device_id": "0123456789abcdef"});
        for _ in 0..2 {
            as_player(backend, &ada, "/v1/account/link/device", &pad).await.expect(200);
        }
        let back = backend.post("/v1/auth/device", "", &pad).await.expect(200);
        assert_eq!((&back["player_id"], &back["created"]), (&ada["player_id"], &json!(false)));
        as_player(backend, &eve, "/v1/account/link/device", &pad).await.refused(409, "already_linked");
        let other = json!({"device_id": "fedcba9876543210"});
        as_player(backend, &ada, "/v1/account/link/device", &other).await.refused(409, "already_linked");
    }

    async fn another_password_ends_the_other_sessions(backend) {
        let register = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        let here = backend.post("/v1/auth/register", "", &register).await.expect(201);
        let there = log_in(backend, "ada@example.org", "correct horse").await.expect(200);
        let change = |current: &str| json!({"current_password": current, "new_password": "battery staple",
            "refresh_token": here["refresh_token"]});
        as_player(backend, &here, "/v1/account/password", &change("incorrect")).await.refused(401, "invalid_credentials");
        as_player(backend, &here, "/v1/account/password", &change("correct horse")).await.expect(204);

        refresh(backend, &there).await.refused(401, "refresh_token_invalid");
        backend.get("/v1/account", &text(&there["access_token"])).await.refused(401, "token_invalid");
        let here = refresh(backend, &here).await.expect(200);
        // A repetition of a request whose reply was lost is told the same.
        as_player(backend, &here, "/v1/account/password", &json!({"current_password": "correct horse", "new_password": "battery staple"})).await.expect(204);
        assert_eq!(account(backend, &here).await["email"], "ada@example.org");
        log_in(backend, "ada@example.org", "correct horse").await.refused(401, "invalid_credentials");
        log_in(backend, "ada@example.org", "battery staple").await.expect(200);
        let news = backend.mail(2).await;
        assert!(news.contains("To: ada@example.org") && news.contains("password was changed"), "{news}");
    }

    async fn a_guest_has_no_password_to_change(backend) {
        let guest = backend.guest("Ada").await;
        let change = json!({"current_password": "whatever it is", "new_password": "battery staple"});
        as_player(backend, &guest, "/v1/account/password", &change).await.refused(401, "invalid_credentials");
    }

    async fn logging_out_everywhere_ends_all_sessions(backend) {
        let pad = json!({"device_id": "0123456789abcdef"});
        let one = backend.post("/v1/auth/device", "", &pad).await.expect(200);
        let two = backend.post("/v1/auth/device", "", &pad).await.expect(200);
        let out = json!({"refresh_token": one["refresh_token"]});
        backend.post("/v1/auth/logout-everywhere", "", &out).await.expect(204);
        for session in [&one, &two] {
            refresh(backend, session).await.refused(401, "refresh_token_invalid");
            backend.get("/v1/account", &text(&session["access_token"])).await.refused(401, "token_invalid");
            let question = json!({"token": session["access_token"]});
            backend.serve("/v1/validate", &question).await.refused(401, "token_invalid");
        }
        backend.post("/v1/auth/logout-everywhere", "", &out).await.refused(401, "refresh_token_invalid");
        // Whoever logs in again, even within the same second, is in.
        let again = backend.post("/v1/auth/device", "", &pad).await.expect(200);
        account(backend, &again).await;
        backend.serve("/v1/validate", &json!({"token": again["access_token"]})).await.expect(200);
    }

    async fn accounts_are_their_owners(backend) {
        for (method, path) in [(Method::GET, "/v1/account"), (Method::POST, "/v1/account/email/code")] {
            backend.send(backend.request(method.clone(), path)).await.refused(401, "unauthorized");
            backend.send(backend.request(method, path).bearer_auth(&backend.key)).await.refused(401, "unauthorized");
        }
    }
}

/// A hook as an operator would write it: the token `good-<name>` is that of `<name>`.
async fn hook(up: Arc<AtomicBool>) -> String {
    let answer = move |headers: HeaderMap, Json(question): Json<Value>| async move {
        if !up.load(Ordering::Relaxed) {
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({})));
        }
        assert_eq!(headers["authorization"], "Bearer hook-secret");
        assert_eq!(question["provider"], "pier");
        match question["token"].as_str().and_then(|token| token.strip_prefix("good-")) {
            Some(name) => {
                (StatusCode::OK, Json(json!({"subject": format!("pier:{name}"), "display_name": name})))
            }
            None => (StatusCode::UNAUTHORIZED, Json(json!({}))),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        axum::serve(listener, axum::Router::new().route("/verify", post(answer))).await.expect("serves");
    });
    format!("pier=http://{address}/verify")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_platform_says_who_somebody_is() {
    let up = Arc::new(AtomicBool::new(true));
    let provider = backend_server::identity_provider(&hook(Arc::clone(&up)).await).expect("provider");
    let backend = Backend::on_sqlite_with(|config| {
        config.identity_providers = vec![provider];
        config.identity_hook_secret = Some("hook-secret".into());
    })
    .await;
    let custom = |token: &str| json!({"provider": "pier", "token": token});
    let login = |body: Value| async { backend.post("/v1/auth/custom", "", &{ body }).await };

    let ada = login(custom("good-Ada")).await.expect(200);
    assert_eq!((&ada["created"], &ada["display_name"]), (&json!(true), &json!("Ada")));
    let again = login(custom("good-Ada")).await.expect(200);
    assert_eq!((&again["player_id"], &again["created"]), (&ada["player_id"], &json!(false)));
    login(custom("bad")).await.refused(401, "token_invalid");
    let unknown = login(json!({"provider": "quay", "token": "good-Ada"})).await;
    unknown.refused(422, "invalid_field");
    assert_eq!(unknown.field(), "provider");

    let guest = backend.guest("Bob").await;
    as_player(&backend, &guest, "/v1/account/link/custom", &custom("good-Ada"))
        .await
        .refused(409, "already_linked");
    for _ in 0..2 {
        let linked =
            as_player(&backend, &guest, "/v1/account/link/custom", &custom("good-Bob")).await.expect(200);
        assert_eq!((&linked["providers"], &linked["guest"]), (&json!(["pier"]), &json!(false)));
    }
    as_player(&backend, &guest, "/v1/account/link/custom", &custom("good-Bobby"))
        .await
        .refused(409, "already_linked");
    assert_eq!(login(custom("good-Bob")).await.expect(200)["player_id"], guest["player_id"]);

    up.store(false, Ordering::Relaxed);
    let away = login(custom("good-Ada")).await;
    away.refused(503, "unavailable");
    assert!(away.headers.contains_key("retry-after"));
    backend.stop().await;
}
