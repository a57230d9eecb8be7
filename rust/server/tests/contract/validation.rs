//! Public keys, tokens and tickets.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, Backend, at_once, on_both_databases, text};

async fn ticket(backend: &Backend, server_id: &str, player: &Value) -> String {
    let path = format!("/v1/rooms/{server_id}/ticket");
    let request = backend.request(Method::POST, &path).bearer_auth(text(&player["access_token"]));
    text(&backend.send(request).await.expect(200)["ticket"])
}

async fn validate(backend: &Backend, token: &str, server_id: Option<&str>) -> Answer {
    let mut body = json!({"token": token});
    if let Some(id) = server_id {
        body["server_id"] = id.into();
    }
    backend.serve("/v1/validate", &body).await
}

on_both_databases! {
    async fn an_access_token_names_its_player(backend) {
        let guest = backend.guest("Ada").await;
        let validated = validate(backend, &text(&guest["access_token"]), None).await.expect(200);
        assert_eq!((&validated["player_id"], &validated["kind"]), (&guest["player_id"], &json!("access")));
        assert_eq!(validated["display_name"], "Ada");
    }

    /// However often something was asked, and whoever changed it.
    async fn what_another_process_commits_counts_from_the_next_request_on(backend) {
        let ada = backend.guest("Ada").await;
        let (id, token) = (text(&ada["player_id"]), text(&ada["access_token"]));
        let room = backend.server("Pond", json!({})).await;
        let other = backend_server::database::Database::open(backend.database()).await.expect("opens");
        let change = async |sql: &'static str, of: &str| {
            sqlx::query(sql).bind(of).execute(other.pool()).await.expect("executed");
        };
        // More at once than there are threads: each of them comes to know the answer.
        let validated = async |status: u16| {
            for answer in at_once((0..16).map(|_| validate(backend, &token, None))).await {
                assert_eq!(answer.status, status);
            }
        };
        let found = async |status: u16| {
            let path = format!("/v1/rooms/{room}");
            for answer in at_once((0..16).map(|_| backend.get(&path, &token))).await {
                assert_eq!(answer.status, status);
            }
        };
        for _ in 0..10 {
            validated(200).await;
            validated(200).await;
            change("UPDATE players SET banned_at = 1 WHERE player_id = $1", &id).await;
            validated(403).await;
            change("UPDATE players SET banned_at = NULL WHERE player_id = $1", &id).await;
            validated(200).await;
            change("UPDATE server_keys SET revoked_at = 1 WHERE label = $1", "file").await;
            validated(401).await;
            change("UPDATE server_keys SET revoked_at = NULL WHERE label = $1", "file").await;
            found(200).await;
            found(200).await;
            change("UPDATE servers SET status = 'unhealthy' WHERE server_id = $1", &room).await;
            found(404).await;
            change("UPDATE servers SET status = 'ready' WHERE server_id = $1", &room).await;
        }
        other.close().await;
    }

    async fn a_ticket_is_good_once_and_for_one_server(backend) {
        let (here, there) = (backend.server("Here", json!({})).await, backend.server("There", json!({})).await);
        let ticket = ticket(backend, &here, &backend.guest("Ada").await).await;
        validate(backend, &ticket, Some(&there)).await.refused(401, "token_invalid");
        validate(backend, &ticket, None).await.refused(401, "token_invalid");
        let validated = validate(backend, &ticket, Some(&here)).await.expect(200);
        assert_eq!(validated["kind"], "join");
        validate(backend, &ticket, Some(&here)).await.refused(409, "ticket_used");
    }

    async fn a_repeated_question_is_the_same_use(backend) {
        let server = backend.server("Here", json!({})).await;
        let ticket = ticket(backend, &server, &backend.guest("Ada").await).await;
        let key = Uuid::new_v4().to_string();
        let body = json!({"token": ticket, "server_id": server});
        let ask = |key: &str| backend.request(Method::POST, "/v1/validate").bearer_auth(&backend.key)
            .header("idempotency-key", key).json(&body);
        backend.send(ask(&key)).await.expect(200);
        backend.send(ask(&key)).await.expect(200);
        backend.send(ask(&Uuid::new_v4().to_string())).await.refused(409, "ticket_used");
    }

    async fn tickets_at_once_are_used_once(backend) {
        let server = backend.server("Here", json!({})).await;
        let ticket = ticket(backend, &server, &backend.guest("Ada").await).await;
        let ask = || validate(backend, &ticket, Some(&server));
        let answers: [Answer; 4] = tokio::join!(ask(), ask(), ask(), ask()).into();
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    }

    async fn forged_tokens_are_refused(backend) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let parts: Vec<&str> = token.split('.').collect();
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiYWNjZXNzK2p3dCJ9";
        let signature_of_other = text(&backend.guest("Eve").await["access_token"]);
        let other = signature_of_other.rsplit('.').next().expect("signature");
        for forged in [
            format!("{none}.{}.", parts[1]), format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{other}", parts[0], parts[1]), format!("{}.{}", parts[0], parts[1]), "garbage".into(), "..".into(),
        ] {
            validate(backend, &forged, None).await.refused(401, "token_invalid");
            backend.get("/v1/players/me/documents", &forged).await.refused(401, "token_invalid");
        }
    }

    async fn each_route_takes_its_own_credential(backend) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let entry = json!({"instance_id": "i", "name": "n", "address": "a", "port": 1, "max_players": 1});
        backend.post("/v1/servers", &token, &entry).await.refused(401, "unauthorized");
        backend.post("/v1/servers", "", &entry).await.refused(401, "unauthorized");
        backend.get("/v1/players/me/documents", &backend.key).await.refused(401, "unauthorized");
        let (body, last) = backend.key.split_at(backend.key.len() - 1);
        let mistyped = format!("{body}{}", if last == "0" { "1" } else { "0" });
        backend.post("/v1/servers", &mistyped, &entry).await.refused(401, "server_key_invalid");
        let unknown = backend_server::server_keys::generate("live").expect("key");
        backend.post("/v1/servers", &unknown, &entry).await.refused(401, "server_key_invalid");
    }

    async fn the_public_key_verifies_a_token(backend) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let answer = backend.get("/.well-known/jwks.json", "").await;
        let etag = answer.headers["etag"].clone();
        let jwks = answer.expect(200);
        // By the crypto library itself, past everything that issues and verifies tokens here.
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let (signed, signature) = token.rsplit_once('.').expect("dots");
        let (header, _) = signed.split_once('.').expect("a dot");
        let header: Value = serde_json::from_slice(&decoded(header)).expect("JSON");
        assert_eq!(header["kid"], jwks["keys"][0]["kid"]);
        let key = UnparsedPublicKey::new(&ED25519, decoded(&text(&jwks["keys"][0]["x"])));
        key.verify(signed.as_bytes(), &decoded(signature)).expect("its signature");
        let again = backend.request(Method::GET, "/.well-known/jwks.json").header("if-none-match", etag);
        assert_eq!(backend.send(again).await.status, 304);
    }
}

#[tokio::test]
async fn a_token_past_its_time_is_expired() {
    let backend = Backend::on_sqlite_with(|config| config.access_token_seconds = 1).await;
    let token = text(&backend.guest("Ada").await["access_token"]);
    let mut answer = validate(&backend, &token, None).await;
    while answer.status == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        answer = validate(&backend, &token, None).await;
    }
    answer.refused(401, "token_expired");
    backend.stop().await;
}
