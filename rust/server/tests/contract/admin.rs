//! Bans, ended sessions and server keys, by the operator's tools.

use backend_server::admin_keys;
use backend_server::database::Database;
use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::refresh;
use crate::harness::{Answer, Backend, on_both_databases, text};
use crate::rooms_on_demand::with_servers;

struct Admin<'a> {
    backend: &'a Backend,
    key: String,
    key_id: String,
}

impl<'a> Admin<'a> {
    async fn of(backend: &'a Backend) -> Self {
        let database = Database::open(backend.database()).await.expect("opens");
        let made = admin_keys::create(&database, "test").await.expect("made");
        database.close().await;
        Self { backend, key: made.key, key_id: made.key_id }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.backend.request(method, path).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.backend.send(request).await
    }
}

on_both_databases! {
    async fn the_operator_sees_servers_and_players_and_drains_a_server(backend) {
        let admin = Admin::of(backend).await;
        let pond = backend.server("Pond", json!({"mode": "race", "version": "1.2", "players": 3})).await;
        let reed = backend.server("Reed", json!({"version": "1.3", "visibility": "private"})).await;
        let ada = backend.guest("Ada").await;
        backend.serve("/v1/players/load", &json!({"server_id": pond, "player_ids": [ada["player_id"]]})).await.expect(200);
        let seen = admin.ask(Method::GET, "/v1/admin/overview", None).await.expect(200);
        assert_eq!((&seen["live_servers"], &seen["players"], &seen["accounts"]), (&json!(2), &json!(3), &json!(1)));
        let first = &seen["servers"][0];
        assert_eq!((&first["server_id"], &first["mode"], &first["drain_requested"]), (&json!(pond), &json!("race"), &json!(false)));
        assert!(first["heartbeat_age_seconds"].as_u64().is_some_and(|age| age < 60), "{first}");
        assert_eq!(seen["servers"][1]["visibility"], "private");
        assert_eq!(seen["versions"].as_array().map(Vec::len), Some(2));
        let held = admin.ask(Method::GET, &format!("/v1/admin/servers/{pond}/players"), None).await.expect(200);
        assert_eq!(held["players"][0], json!({"player_id": ada["player_id"], "display_name": "Ada"}));

        let beat = |sequence: u32| {
            let body = json!({"sequence": sequence, "players": 3});
            let path = format!("/v1/servers/{pond}/heartbeat");
            async move { backend.serve(&path, &body).await.expect(200) }
        };
        let path = format!("/v1/admin/servers/{pond}/drain");
        assert_eq!(beat(1).await["drain"], false);
        admin.ask(Method::PUT, &path, None).await.expect(204);
        assert_eq!(beat(2).await["drain"], true);
        // Also to a heartbeat that was overtaken.
        assert_eq!(beat(1).await["drain"], true);
        admin.ask(Method::DELETE, &path, None).await.expect(204);
        assert_eq!(beat(3).await["drain"], false);
        admin.ask(Method::PUT, "/v1/admin/servers/another/drain", None).await.refused(404, "server_unknown");

        // The end of a room: nobody gets in, and who is in is put out.
        let token = text(&backend.guest("Bob").await["access_token"]);
        admin.ask(Method::DELETE, &format!("/v1/admin/servers/{pond}/room"), None).await.expect(204);
        backend.post(&format!("/v1/rooms/{pond}/ticket"), &token, &json!({})).await.refused(409, "room_draining");
        let beaten = beat(4).await;
        assert_eq!((&beaten["drain"], &beaten["revocations"][0]["player_id"]), (&json!(true), &ada["player_id"]));
        refresh(backend, &ada).await.refused(401, "refresh_token_invalid");

        for (method, path) in [
            (Method::GET, "/v1/admin/overview".to_owned()),
            (Method::GET, "/v1/admin/allocations".to_owned()),
            (Method::GET, "/v1/admin/allocations/0123456789abcdef0123456789abcdef/log".to_owned()),
            (Method::GET, format!("/v1/admin/servers/{reed}/players")),
            (Method::PUT, format!("/v1/admin/servers/{reed}/drain")),
            (Method::DELETE, format!("/v1/admin/servers/{reed}/drain")),
            (Method::DELETE, format!("/v1/admin/servers/{reed}/room")),
        ] {
            let request = backend.request(method, &path).bearer_auth(&backend.key);
            backend.send(request).await.refused(401, "unauthorized");
        }
    }

    async fn the_operator_sees_what_was_started_on_demand(backend, |config| {
        with_servers(config, "echo loading; echo no such map >&2; exit 3", &json!({}));
    }) {
        let admin = Admin::of(backend).await;
        let ada = backend.guest("Ada").await;
        let body = json!({"request_id": "one", "room": {"name": "Pond"}, "wait_seconds": 20});
        let answer = backend.post("/v1/rooms", &text(&ada["access_token"]), &body).await;
        answer.refused(409, "room_start_failed");
        let seen = admin.ask(Method::GET, "/v1/admin/allocations", None).await.expect(200);
        assert_eq!((&seen["is_enabled"], seen["allocations"].as_array().map(Vec::len)), (&json!(true), Some(1)), "{seen}");
        let one = &seen["allocations"][0];
        for (member, value) in [("name", json!("Pond")), ("status", json!("failed")), ("creator", ada["player_id"].clone()),
            ("is_here", json!(true)), ("is_spare", json!(false))] {
            assert_eq!(one[member], value, "{member}: {one}");
        }
        assert!(text(&one["reason"]).contains("exit code 3") && one["ended_at"].is_string(), "{one}");
        let path = format!("/v1/admin/allocations/{}/log", text(&one["allocation_id"]));
        assert_eq!(admin.ask(Method::GET, &path, None).await.expect(200)["lines"], "loading\nno such map");
        // Of what is no allocation, and of one of another replica, there is no log.
        for unknown in ["owner.json", "0123456789abcdef0123456789abcdef"] {
            admin.ask(Method::GET, &format!("/v1/admin/allocations/{unknown}/log"), None).await.refused(404, "not_found");
        }
        let beside = backend.beside(|config| with_servers(config, "exit 3", &json!({}))).await;
        let seen = beside.send(beside.request(Method::GET, "/v1/admin/allocations").bearer_auth(&admin.key)).await.expect(200);
        assert_eq!(seen["allocations"][0]["is_here"], false);
        beside.send(beside.request(Method::GET, &path).bearer_auth(&admin.key)).await.refused(404, "not_found");
        beside.stop().await;
    }

    async fn the_operators_page_loads_nothing_from_elsewhere(backend) {
        for (path, media_type) in [("/admin", "text/html; charset=utf-8"), ("/admin/page.js", "text/javascript; charset=utf-8")] {
            let reply = backend.request(Method::GET, path).send().await.expect("answered");
            let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            assert_eq!((reply.status().as_u16(), header("content-type").as_str()), (200, media_type));
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'sha256-"), "{policy}");
            assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!((header("set-cookie"), header("x-frame-options")), (String::new(), "DENY".to_owned()));
            let body = reply.text().await.expect("text");
            for outside in ["http://", "https://", "//cdn", " onclick=", " style=", "innerHTML", "localStorage", "cookie"] {
                let found = body.match_indices(outside).filter(|(at, _)| !body[*at..].starts_with("http://www.w3.org/2000/svg"));
                assert_eq!(found.count(), 0, "{path} has {outside}");
            }
        }
    }

    async fn a_banned_player_is_out_everywhere_until_the_ban_ends(backend) {
        let admin = Admin::of(backend).await;
        let device = json!({"device_id": "0123456789abcdef"});
        let ada = backend.post("/v1/auth/device", "", &device).await.expect(200);
        let id = text(&ada["player_id"]);
        let server = backend.server("Pond", json!({})).await;
        let ticket = backend.post(&format!("/v1/rooms/{server}/ticket"), &text(&ada["access_token"]), &json!({})).await.expect(200);
        let path = format!("/v1/admin/players/{id}");
        assert_eq!(admin.ask(Method::GET, &path, None).await.expect(200)["sessions"], 1);

        let ban = Some(json!({"reason": "flies"}));
        admin.ask(Method::PUT, &format!("{path}/ban"), ban.clone()).await.expect(204);
        let seen = admin.ask(Method::GET, &path, None).await.expect(200);
        assert_eq!((&seen["ban"]["reason"], &seen["sessions"]), (&json!("flies"), &json!(0)));
        backend.get("/v1/account", &text(&ada["access_token"])).await.refused(403, "banned");
        backend.post("/v1/auth/device", "", &device).await.refused(403, "banned");
        refresh(backend, &ada).await.refused(403, "banned");
        let question = json!({"token": ticket["ticket"], "server_id": server});
        backend.serve("/v1/validate", &question).await.refused(403, "banned");
        let beat = backend.serve(&format!("/v1/servers/{server}/heartbeat"), &json!({"sequence": 1, "players": 1})).await.expect(200);
        assert_eq!((&beat["revocations"][0]["player_id"], &beat["revocations"][0]["reason"]), (&json!(id), &json!("banned")));

        admin.ask(Method::DELETE, &format!("{path}/ban"), None).await.expect(204);
        assert_eq!(admin.ask(Method::GET, &path, None).await.expect(200)["ban"], Value::Null);
        let back = backend.post("/v1/auth/device", "", &device).await.expect(200);
        backend.get("/v1/account", &text(&back["access_token"])).await.expect(200);
        // What was issued before the ban stays ended.
        refresh(backend, &ada).await.refused(401, "refresh_token_invalid");
        backend.get("/v1/account", &text(&ada["access_token"])).await.refused(401, "token_invalid");
        backend.serve("/v1/validate", &question).await.refused(401, "token_invalid");
    }

    /// The other replica has just looked up what is taken back, and learns of it from the database only.
    async fn what_one_replica_takes_back_is_refused_by_the_other_from_the_next_request_on(backend) {
        let admin = Admin::of(backend).await;
        let other = backend.beside(|_| {}).await;
        for _ in 0..5 {
            let ada = backend.guest("Ada").await;
            let (id, token) = (text(&ada["player_id"]), text(&ada["access_token"]));
            let made = admin.ask(Method::POST, "/v1/admin/server-keys", Some(json!({"label": "fleet"}))).await.expect(201);
            let (key_id, key) = (text(&made["key_id"]), text(&made["key"]));
            let question = json!({"token": token});
            other.get("/v1/account", &token).await.expect(200);
            other.get("/v1/rooms", &key).await.expect(200);
            other.post("/v1/validate", &key, &question).await.expect(200);

            let ban = Some(json!({"reason": "flies"}));
            admin.ask(Method::PUT, &format!("/v1/admin/players/{id}/ban"), ban).await.expect(204);
            other.get("/v1/account", &token).await.refused(403, "banned");
            other.post("/v1/validate", &key, &question).await.refused(403, "banned");

            admin.ask(Method::DELETE, &format!("/v1/admin/server-keys/{key_id}"), None).await.expect(204);
            other.get("/v1/rooms", &key).await.refused(401, "server_key_invalid");
            other.post("/v1/validate", &key, &question).await.refused(401, "server_key_invalid");
        }
        other.stop().await;
    }

    async fn a_ban_for_a_while_ends_by_itself(backend) {
        let admin = Admin::of(backend).await;
        let device = json!({"device_id": "0123456789abcdef"});
        let id = text(&backend.post("/v1/auth/device", "", &device).await.expect(200)["player_id"]);
        let ban = Some(json!({"reason": "", "seconds": 3600}));
        admin.ask(Method::PUT, &format!("/v1/admin/players/{id}/ban"), ban).await.expect(204);
        backend.post("/v1/auth/device", "", &device).await.refused(403, "banned");
        backend.execute("UPDATE players SET banned_until = banned_until - 3600001").await;
        backend.post("/v1/auth/device", "", &device).await.expect(200);
    }

    async fn ended_sessions_end_everywhere(backend) {
        let admin = Admin::of(backend).await;
        let ada = backend.guest("Ada").await;
        let id = text(&ada["player_id"]);
        admin.ask(Method::DELETE, &format!("/v1/admin/players/{id}/sessions"), None).await.expect(204);
        refresh(backend, &ada).await.refused(401, "refresh_token_invalid");
        backend.get("/v1/account", &text(&ada["access_token"])).await.refused(401, "token_invalid");
    }

    async fn server_keys_are_made_rotated_and_revoked(backend) {
        let admin = Admin::of(backend).await;
        let made = admin.ask(Method::POST, "/v1/admin/server-keys", Some(json!({"label": "fleet"}))).await.expect(201);
        let (id, key) = (text(&made["key_id"]), text(&made["key"]));
        backend.get("/v1/rooms", &key).await.expect(200);
        let rotate = format!("/v1/admin/server-keys/{id}/rotate");
        let newer = admin.ask(Method::POST, &rotate, Some(json!({"grace_seconds": 60}))).await.expect(201);
        admin.ask(Method::POST, &rotate, Some(json!({"grace_seconds": 60}))).await.refused(422, "invalid_field");
        for key in [&key, &text(&newer["key"])] {
            backend.get("/v1/rooms", key).await.expect(200);
        }
        admin.ask(Method::DELETE, &format!("/v1/admin/server-keys/{id}"), None).await.expect(204);
        backend.get("/v1/rooms", &key).await.refused(401, "server_key_invalid");
        let list = admin.ask(Method::GET, "/v1/admin/server-keys", None).await.expect(200);
        assert!(!list.to_string().contains(&key), "the key itself is never shown again");
        let states: Vec<&Value> = list["keys"].as_array().expect("list").iter().map(|key| &key["state"]).collect();
        assert_eq!(states, [&json!("active"), &json!("revoked"), &json!("active")]);
        admin.ask(Method::DELETE, "/v1/admin/server-keys/key_none", None).await.refused(404, "not_found");
    }

    async fn only_an_admin_key_opens_admin_routes(backend) {
        let admin = Admin::of(backend).await;
        let player = text(&backend.guest("Ada").await["access_token"]);
        for key in [&player, &backend.key, &String::new()] {
            backend.get("/v1/admin/server-keys", key).await.refused(401, "unauthorized");
        }
        let mut mistyped = admin.key.clone();
        mistyped.pop();
        backend.get("/v1/admin/server-keys", &mistyped).await.refused(401, "admin_key_invalid");
        // And it opens nothing else.
        backend.get("/v1/rooms", &admin.key).await.refused(401, "token_invalid");
        backend.post("/v1/servers", &admin.key, &json!({})).await.refused(401, "unauthorized");
        admin.ask(Method::GET, "/v1/admin/players/nobody", None).await.refused(404, "player_not_found");

        let database = Database::open(backend.database()).await.expect("opens");
        assert!(admin_keys::revoke(&database, &admin.key_id).await.expect("revoked"));
        database.close().await;
        admin.ask(Method::GET, "/v1/admin/server-keys", None).await.refused(401, "admin_key_invalid");
    }
}
