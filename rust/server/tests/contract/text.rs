//! Texts of people: what a name may be, one address for each mailbox, one password for each way to type it, and no NUL that
//! PostgreSQL would choke on.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use backend_server::admin_keys;
use backend_server::database::Database;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::accounts::log_in;
use crate::harness::{Backend, on_both_databases, text};
use crate::mail::forgotten;

/// Builds requests from the API's own description, so that no string of it is left out.
struct Samples {
    api: Value,
    known: Vec<(&'static str, String)>,
}

impl Samples {
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.api.pointer(reference.trim_start_matches('#')).expect("a schema"),
            None => ["oneOf", "anyOf", "allOf"]
                .iter()
                .find_map(|choice| schema[choice].as_array()?.iter().find(|one| one["type"] != "null"))
                .map_or(schema, |one| self.resolve(one)),
        }
    }

    /// A value for `schema`, in which every string is a good one.
    fn of(&self, name: &str, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default(),
            kind => kind.clone(),
        };
        if let Some(choices) = schema["enum"].as_array() {
            return choices[0].clone();
        }
        match kind.as_str() {
            Some("string") => json!(self.string(name)),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(false),
            Some("array") => json!([self.of(name, &schema["items"])]),
            _ => {
                let members = schema["properties"].as_object().cloned().unwrap_or_default();
                let member = |(name, schema): (&String, &Value)| (name.clone(), self.of(name, schema));
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
        }
    }

    fn string(&self, name: &str) -> String {
        let known = self.known.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| "abcdefghijklmnop".to_owned(), |(_, value)| value.clone())
    }
}

/// `value` once for each string in it, with a NUL in that one.
fn with_a_nul(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let mut letters: Vec<char> = text.chars().collect();
            letters.insert(letters.len() / 2, '\0');
            vec![Value::String(letters.into_iter().collect())]
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(place, item)| {
                with_a_nul(item).into_iter().map(move |changed| {
                    let mut all = items.clone();
                    all[place] = changed;
                    Value::Array(all)
                })
            })
            .collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, member)| {
                with_a_nul(member).into_iter().map(move |changed| {
                    let mut all = members.clone();
                    all[name] = changed;
                    Value::Object(all)
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// As an older version hashed a password: as it was typed.
fn hash(password: &str) -> String {
    Argon2::default().hash_password(password.as_bytes()).expect("hashed").to_string()
}

async fn admin_key(backend: &Backend) -> String {
    let database = Database::open(backend.database()).await.expect("opens");
    let made = admin_keys::create(&database, "test").await.expect("made");
    database.close().await;
    made.key
}

on_both_databases! {
    async fn no_string_with_a_nul_reaches_the_database(backend) {
        let server = backend.server("Pond", json!({})).await;
        let player = text(&backend.guest("Ada").await["player_id"]);
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let samples = Samples {
            api: backend.get("/openapi.json", "").await.expect(200),
            known: vec![
                ("email", "eve@example.org".to_owned()), ("server_id", server), ("player_id", player.clone()), ("player_ids", player),
                ("hash", "0".repeat(64)), ("address", "203.0.113.1".to_owned()), ("certificate", certificate.to_owned()),
                ("merge", "replace".to_owned()), ("stored_as", "zstd".to_owned()),
            ],
        };
        let admin = admin_key(backend).await;
        let mut sent = 0;
        for (path, item) in samples.api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let security = operation["security"].to_string();
                // A route that ends the session must not end that of the next one.
                let player = text(&backend.guest("Ada").await["access_token"]);
                let bearer = if security.contains("server_key") { &backend.key } else if security.contains("admin_key") { &admin } else { &player };
                let request = |path: &str| {
                    backend.request(Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"), path).bearer_auth(bearer)
                };
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let filled = |bad: Option<&str>| {
                    parameters.iter().filter(|one| one["in"] == "path").fold(path.clone(), |path, one| {
                        let name = one["name"].as_str().expect("a name");
                        let value = if bad == Some(name) { "a%00b".to_owned() } else { samples.string(name) };
                        path.replace(&format!("{{{name}}}"), &value)
                    })
                };
                let body = operation["requestBody"]["content"]["application/json"]["schema"].as_object().map(|schema| samples.of("", &json!(schema)));
                let mut requests = Vec::new();
                for parameter in &parameters {
                    let name = parameter["name"].as_str().expect("a name");
                    let request = match parameter["in"].as_str() {
                        Some("path") => request(&filled(Some(name))),
                        _ => request(&format!("{}?{name}=a%00b", filled(None))),
                    };
                    requests.push((name.to_owned(), match &body { Some(body) => request.json(body), None => request }));
                }
                for changed in body.iter().flat_map(with_a_nul) {
                    requests.push((changed.to_string(), request(&filled(None)).json(&changed)));
                }
                for (what, request) in requests {
                    let answer = backend.send(request).await;
                    sent += 1;
                    assert!(answer.status.as_u16() < 500, "{method} {path} {what}: {}", answer.body);
                }
            }
        }
        assert!(sent > 90, "{sent}");
    }

    async fn a_nul_in_a_cursor_or_a_certificate_is_refused(backend) {
        for index in 0..3 {
            backend.server(&format!("Room {index}"), json!({})).await;
        }
        let page = backend.get("/v1/rooms?limit=1", &backend.key).await.expect(200);
        let cursor = URL_SAFE_NO_PAD.decode(text(&page["next_cursor"])).expect("base64");
        let mut cursor: Value = serde_json::from_slice(&cursor).expect("JSON");
        cursor["text"] = json!("Room\0 1");
        let path = format!("/v1/rooms?limit=1&cursor={}", URL_SAFE_NO_PAD.encode(cursor.to_string()));
        let refused = backend.get(&path, &backend.key).await;
        refused.refused(400, "invalid_cursor");
        assert_eq!(refused.field(), "cursor");

        let certificate = "-----BEGIN CERTIFICATE-----\nAA\0A\n-----END CERTIFICATE-----";
        let server = json!({"instance_id": "i", "name": "n", "address": "a", "port": 1, "max_players": 1, "certificate": certificate});
        let refused = backend.serve("/v1/servers", &server).await;
        refused.refused(422, "invalid_field");
        assert_eq!(refused.field(), "certificate");
    }

    async fn a_name_shows_what_it_is(backend) {
        for name in ["Ada\u{202e}nimda", "\u{200b}", "Ada\u{200d}", "\u{3164}", "\u{2800}\u{2800}", "A\u{2028}B", "\u{e000}", "Ada\u{ad}", "\u{feff}Ada", "\u{2066}Ada"] {
            let refused = backend.post("/v1/auth/anonymous", "", &json!({"display_name": name})).await;
            refused.refused(422, "invalid_field");
            assert_eq!(refused.field(), "display_name", "{name:?}");
            let server = json!({"instance_id": "i", "name": name, "address": "a", "port": 1, "max_players": 1});
            assert_eq!(backend.serve("/v1/servers", &server).await.field(), "name", "{name:?}");
            // A game shows these in its list of rooms.
            if name.chars().any(|letter| letter != '\u{2800}') {
                let server = json!({"instance_id": "i", "name": "Pond", "address": "a", "port": 1, "max_players": 1, "attributes": {"motd": name}});
                assert_eq!(backend.serve("/v1/servers", &server).await.field(), "attributes.motd", "{name:?}");
            }
        }
        assert_eq!(backend.guest("Zoe\u{308}").await["display_name"], "Zo\u{eb}");
        let room = backend.server("Caf\u{65}\u{301}", json!({})).await;
        assert_eq!(backend.get(&format!("/v1/rooms/{room}"), &backend.key).await.expect(200)["name"], "Caf\u{e9}");
    }

    /// An account from when more was taken for a name.
    async fn what_is_signed_or_shown_is_a_clean_name(backend) {
        let guest = backend.guest("Ada").await;
        let server = backend.server("Pond", json!({})).await;
        backend.execute_with("UPDATE players SET display_name = $1", "A\u{202e}d\u{200b}a\u{7}").await;
        let again = backend.post("/v1/auth/refresh", "", &json!({"refresh_token": guest["refresh_token"]})).await.expect(200);
        let token = text(&again["access_token"]);
        let ticket = text(&backend.post(&format!("/v1/rooms/{server}/ticket"), &token, &json!({})).await.expect(200)["ticket"]);
        for signed in [&token, &ticket] {
            let claims = URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).expect("claims")).expect("base64");
            let claims: Value = serde_json::from_slice(&claims).expect("JSON");
            assert_eq!(claims["name"], "Ada");
        }
        let validated = backend.serve("/v1/validate", &json!({"token": ticket, "server_id": server})).await.expect(200);
        assert_eq!(validated["display_name"], "Ada");
        for shown in [&again["display_name"], &backend.get("/v1/account", &token).await.expect(200)["display_name"]] {
            assert_eq!(shown, "Ada");
        }
    }

    async fn a_password_is_the_same_however_it_is_typed(backend) {
        let account = |email: &str, password: &str| json!({"email": email, "password": password, "display_name": "Ada"});
        backend.post("/v1/auth/register", "", &account("ada@example.org", "caf\u{e9} au lait")).await.expect(201);
        for typed in ["caf\u{e9} au lait", "cafe\u{301} au lait", "cafe\u{301}\u{a0}au\u{3000}lait"] {
            log_in(backend, "ada@example.org", typed).await.expect(200);
        }
        log_in(backend, "ada@example.org", "cafe au lait").await.refused(401, "invalid_credentials");
        for password in ["correct\u{7}horse", "correct\u{202e}horse", "correct\u{feff}horse", "e\u{301}e\u{301}e\u{301}e\u{301}"] {
            let refused = backend.post("/v1/auth/register", "", &account("eve@example.org", password)).await;
            refused.refused(422, "invalid_field");
            assert_eq!(refused.field(), "password", "{password:?}");
        }
    }

    async fn a_password_that_was_hashed_as_typed_still_opens_and_is_hashed_anew(backend) {
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        backend.post("/v1/auth/register", "", &account).await.expect(201);
        backend.execute_with("UPDATE players SET password_hash = $1", &hash("cafe\u{301} au lait")).await;
        log_in(backend, "ada@example.org", "caf\u{e9} au lait").await.refused(401, "invalid_credentials");
        log_in(backend, "ada@example.org", "cafe\u{301} au lait").await.expect(200);
        for typed in ["caf\u{e9} au lait", "cafe\u{301} au lait"] {
            log_in(backend, "ada@example.org", typed).await.expect(200);
        }
    }

    async fn an_address_is_the_same_with_blanks_and_capitals(backend) {
        let account = |email: &str| json!({"email": email, "password": "correct horse", "display_name": "Ada"});
        let ada = backend.post("/v1/auth/register", "", &account(" Ada@Example.ORG ")).await.expect(201);
        for email in ["ada@example.org", "ada@example.org \u{a0}", "\tADA@EXAMPLE.ORG\r\n"] {
            let back = log_in(backend, email, "correct horse").await.expect(200);
            assert_eq!(back["player_id"], ada["player_id"], "{email:?}");
            backend.post("/v1/auth/register", "", &account(email)).await.refused(409, "account_exists");
        }
        assert!(backend.mail(1).await.contains("To: ada@example.org\r\n"));
        forgotten(backend, " ADA@example.org ").await.expect(202);
        assert!(backend.mail(2).await.contains("To: ada@example.org\r\n"));
    }

    /// Each spelling had a limit of its own, and all of them one letter box.
    async fn nobodys_letter_box_is_filled(backend) {
        let account = |email: &str| json!({"email": email, "password": "correct horse", "display_name": "Ada"});
        for email in ["x <ada@example.org>", "x1<ada@example.org>", "\"x\"<ada@example.org>", "ada@example.org,eve@example.org",
            "ada(1)@example.org", "ada@example.org(1)", "<ada@example.org>", "Ada ada@example.org"] {
            for path in ["/v1/auth/register", "/v1/auth/password/forgotten"] {
                let body = if path.ends_with("register") { account(email) } else { json!({"email": email}) };
                let refused = backend.post(path, "", &body).await;
                refused.refused(422, "invalid_field");
                assert_eq!(refused.field(), "email", "{email}");
            }
        }
        for spelling in ["ada@example.org", "ada+1@example.org", "ADA+2@example.org", " ada+3@Example.org", "ada+4@example.org"] {
            backend.post("/v1/auth/register", "", &account(spelling)).await.expect(201);
        }
        // One letter after the other is written: with this one, the others have been judged.
        backend.post("/v1/auth/register", "", &account("eve@example.org")).await.expect(201);
        let mails = loop {
            let mails = backend.mails();
            if mails.iter().any(|mail| mail.contains("To: eve@example.org")) {
                break mails;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        assert_eq!(mails.len(), 4, "three to one person, and eve's: {mails:?}");
    }
}
