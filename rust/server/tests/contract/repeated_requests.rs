//! A repeated request gets the reply that was lost. Its key is no credential: it ends with what it began.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::{as_player, refresh};
use crate::harness::{Answer, Backend, at_once, on_both_databases, text};
use crate::mail::{code, forgotten, reset};

/// A request under a key of its own.
struct Keyed {
    key: String,
    path: &'static str,
    body: Value,
}

impl Keyed {
    fn guest() -> Self {
        Self { key: Uuid::new_v4().to_string(), path: "/v1/auth/anonymous", body: json!({}) }
    }

    fn registration() -> Self {
        let body = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        Self { key: Uuid::new_v4().to_string(), path: "/v1/auth/register", body }
    }

    async fn send(&self, backend: &Backend) -> Answer {
        let request = backend.request(Method::POST, self.path).header("idempotency-key", &self.key);
        backend.send(request.json(&self.body)).await
    }

    async fn session(&self, backend: &Backend) -> Value {
        let answer = self.send(backend).await;
        assert!(answer.status.is_success(), "{}", answer.body);
        answer.body
    }

    async fn is_spent(&self, backend: &Backend) {
        self.send(backend).await.refused(422, "idempotency_key_reused");
    }
}

async fn log_out(backend: &Backend, path: &str, session: &Value) {
    backend.post(path, "", &json!({"refresh_token": session["refresh_token"]})).await.expect(204);
}

on_both_databases! {
    async fn a_repetition_gets_the_same_session(backend) {
        for keyed in [Keyed::guest(), Keyed::registration()] {
            let (one, two) = (keyed.session(backend).await, keyed.session(backend).await);
            for member in ["player_id", "refresh_token", "created"] {
                assert_eq!(one[member], two[member], "{member}");
            }
            backend.get("/v1/account", &text(&two["access_token"])).await.expect(200);
            refresh(backend, &two).await.expect(200);
        }
    }

    async fn at_once_they_make_one_account(backend) {
        let keyed = Keyed::guest();
        let answers = at_once((0..4).map(|_| keyed.send(backend))).await;
        let ids: Vec<Value> = answers.into_iter().map(|answer| answer.expect(200)["player_id"].clone()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    async fn another_body_or_another_route_is_refused(backend) {
        let keyed = Keyed::registration();
        keyed.session(backend).await;
        for (member, value) in [("password", "battery staple"), ("email", "eve@example.org"), ("display_name", "Eve")] {
            let mut other = Keyed { key: keyed.key.clone(), path: keyed.path, body: keyed.body.clone() };
            other.body[member] = json!(value);
            other.is_spent(backend).await;
        }
        Keyed { key: keyed.key.clone(), ..Keyed::guest() }.is_spent(backend).await;
        keyed.session(backend).await;
    }

    async fn a_session_that_went_on_or_ended_is_not_given_again(backend) {
        let keyed = Keyed::guest();
        let session = keyed.session(backend).await;
        refresh(backend, &session).await.expect(200);
        keyed.is_spent(backend).await;

        for path in ["/v1/auth/logout", "/v1/auth/logout-everywhere"] {
            let keyed = Keyed::guest();
            let session = keyed.session(backend).await;
            log_out(backend, path, &session).await;
            keyed.is_spent(backend).await;
        }
    }

    async fn a_changed_credential_ends_the_key(backend) {
        // Also when the session itself goes on.
        let keyed = Keyed::registration();
        let session = keyed.session(backend).await;
        let change = json!({"current_password": "correct horse", "new_password": "battery staple",
            "refresh_token": session["refresh_token"]});
        as_player(backend, &session, "/v1/account/password", &change).await.expect(204);
        keyed.is_spent(backend).await;
        refresh(backend, &session).await.expect(200);

        for (path, link) in [
            ("/v1/account/link/password", json!({"email": "eve@example.org", "password": "correct horse"})),
            ("/v1/account/link/device", json!({"device_id": "0123456789abcdef"})),
        ] {
            let keyed = Keyed::guest();
            let session = keyed.session(backend).await;
            as_player(backend, &session, path, &link).await.expect(200);
            keyed.is_spent(backend).await;
            refresh(backend, &session).await.expect(200);
        }
    }

    /// Who registers another's address first must not get in again when its owner has come.
    async fn the_owner_of_an_address_ends_the_key_of_who_was_there_before(backend) {
        let keyed = Keyed::registration();
        let thief = keyed.session(backend).await;
        backend.mail(1).await;
        forgotten(backend, "ada@example.org").await.expect(202);
        reset(backend, "ada@example.org", &code(&backend.mail(2).await), "battery staple").await.expect(204);
        keyed.is_spent(backend).await;
        refresh(backend, &thief).await.refused(401, "refresh_token_invalid");
    }

    async fn a_key_is_good_for_ten_minutes(backend) {
        let (guest, registration) = (Keyed::guest(), Keyed::registration());
        let first = guest.session(backend).await;
        registration.session(backend).await;
        backend.execute("UPDATE idempotency_keys SET created_at = created_at - 600001").await;
        // Nothing of the first account: as if it had never come.
        assert_ne!(guest.session(backend).await["player_id"], first["player_id"]);
        registration.send(backend).await.refused(409, "account_exists");
    }

    async fn an_access_token_ends_with_its_session(backend) {
        let server = backend.server("Pond", json!({})).await;
        let session = backend.guest("Ada").await;
        let token = text(&session["access_token"]);
        let path = format!("/v1/rooms/{server}/ticket");
        let ticket = text(&backend.post(&path, &token, &json!({})).await.expect(200)["ticket"]);
        let other = backend.guest("Eve").await;
        log_out(backend, "/v1/auth/logout", &session).await;
        for path in ["/v1/account", "/v1/rooms", "/v1/players/me/documents"] {
            backend.get(path, &token).await.refused(401, "token_invalid");
        }
        backend.post(&path, &token, &json!({})).await.refused(401, "token_invalid");
        backend.serve("/v1/validate", &json!({"token": token})).await.refused(401, "token_invalid");
        // Nor does a ticket that was got with it.
        backend.serve("/v1/validate", &json!({"token": ticket, "server_id": server})).await.refused(401, "token_invalid");
        backend.get("/v1/account", &text(&other["access_token"])).await.expect(200);
    }

    async fn a_session_ended_for_safety_ends_its_access_tokens(backend) {
        let first = backend.guest("Ada").await;
        let second = refresh(backend, &first).await.expect(200);
        let third = refresh(backend, &second).await.expect(200);
        refresh(backend, &first).await.refused(401, "refresh_token_reused");
        for session in [first, second, third] {
            backend.get("/v1/account", &text(&session["access_token"])).await.refused(401, "token_invalid");
        }
    }
}
