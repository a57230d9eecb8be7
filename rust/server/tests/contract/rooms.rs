//! Listing rooms and getting into them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Backend, on_both_databases, text};

async fn names(backend: &Backend, query: &str) -> Vec<String> {
    let page = backend.get(&format!("/v1/rooms?{query}"), &backend.key).await.expect(200);
    page["rooms"].as_array().expect("list").iter().map(|room| text(&room["name"])).collect()
}

async fn ticket(backend: &Backend, room_id: &str, token: &Value) -> crate::harness::Answer {
    let request =
        backend.request(Method::POST, &format!("/v1/rooms/{room_id}/ticket")).bearer_auth(text(token));
    backend.send(request).await
}

on_both_databases! {
    async fn every_filter_filters(backend) {
        backend.server("Alpha", json!({"map": "pond", "mode": "race", "region": "eu", "version": "1", "players": 2, "tags": ["new", "100%_fun"]})).await;
        backend.server("beta", json!({"map": "lake", "mode": "race", "players": 1, "tags": ["new"]})).await;
        backend.server("Gamma 50%", json!({"map": "pond", "mode": "hunt"})).await;
        for (query, expected) in [
            ("", vec!["Alpha", "Gamma 50%", "beta"]),
            ("map=pond", vec!["Alpha", "Gamma 50%"]),
            ("mode=race&map=lake", vec!["beta"]),
            ("region=eu&version=1", vec!["Alpha"]),
            ("search=AM", vec!["Gamma 50%"]),
            ("search=%25", vec!["Gamma 50%"]),
            ("search=_", vec![]),
            ("tags=new", vec!["Alpha", "beta"]),
            ("tags=new,100%25_fun", vec!["Alpha"]),
            ("tags=ne", vec![]),
            ("not_full=true", vec!["Gamma 50%", "beta"]),
            ("not_empty=true", vec!["Alpha", "beta"]),
            ("not_full=true&not_empty=true", vec!["beta"]),
            ("sort=players&descending=true", vec!["Alpha", "beta", "Gamma 50%"]),
            ("sort=created", vec!["Alpha", "beta", "Gamma 50%"]),
            ("map=x'%20OR%201=1%20--", vec![]),
        ] {
            let mut got = names(backend, query).await;
            let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            // By name, the databases' collations differ in letter case only.
            if !query.contains("sort=") { got.sort(); expected.sort(); }
            assert_eq!(got, expected, "{query}");
        }
    }

    async fn names_are_found_in_any_case_and_form(backend) {
        for name in ["ÉCLAIR Großküche", "Ωmega", "Cafe\u{301}", "ПРИВЕТ"] {
            backend.server(name, json!({"tags": ["PvP"]})).await;
        }
        for (query, expected) in [
            ("search=éclair", "ÉCLAIR Großküche"),
            ("search=GROßK%C3%9C", "ÉCLAIR Großküche"),
            ("search=%CF%89MEGA", "Ωmega"),
            // Kept in the composed form.
            ("search=caf%C3%A9", "Caf\u{e9}"),
            ("search=привет", "ПРИВЕТ"),
        ] {
            assert_eq!(names(backend, query).await, [expected], "{query}");
        }
        // Tags are exact, whatever LIKE of a database makes of capitals.
        assert_eq!(names(backend, "tags=PvP").await.len(), 4);
        assert_eq!(names(backend, "tags=pvp").await.len(), 0);
    }

    async fn names_that_an_earlier_build_wrote_are_found(backend) {
        backend.server("ÉCLAIR", json!({})).await;
        backend.execute("UPDATE servers SET name_folded = ''").await;
        let next = backend.beside(|_| {}).await;
        assert_eq!(names(&next, "search=éclair").await, ["ÉCLAIR"]);
        next.stop().await;
    }

    async fn pages_are_complete_and_without_repetition(backend) {
        for index in 0..23 {
            backend.server(&format!("Room {:02}", index % 12), json!({"players": index % 3, "max_players": 9})).await;
        }
        for order in ["sort=name", "sort=players", "sort=players&descending=true", "sort=created&descending=true"] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = backend.get(&format!("/v1/rooms?{order}&limit=5{cursor}"), &backend.key).await.expect(200);
                seen.extend(page["rooms"].as_array().expect("list").iter().map(|room| text(&room["room_id"])));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            let mut unique = seen.clone();
            unique.sort();
            unique.dedup();
            assert_eq!((seen.len(), unique.len()), (23, 23), "{order}");
        }
    }

    async fn lists_by_players_follow_the_heartbeats(backend) {
        let mut ids = Vec::new();
        for (name, players) in [("Alpha", 1), ("Beta", 2), ("Gamma", 2)] {
            ids.push(backend.server(name, json!({"players": players, "max_players": 9})).await);
        }
        let beat = async |index: usize, sequence: u64, players: u32| {
            let path = format!("/v1/servers/{}/heartbeat", ids[index]);
            backend.serve(&path, &json!({"sequence": sequence, "players": players})).await.expect(200);
        };
        let descending = "sort=players&descending=true";
        assert_eq!(names(backend, descending).await, ["Gamma", "Beta", "Alpha"]);
        beat(0, 1, 5).await;
        beat(2, 1, 2).await;
        assert_eq!(names(backend, descending).await, ["Alpha", "Gamma", "Beta"]);
        // Overtaken on the way.
        beat(0, 1, 0).await;
        assert_eq!(names(backend, "sort=players").await, ["Beta", "Gamma", "Alpha"]);
        beat(0, 2, 0).await;
        beat(1, 1, 9).await;
        assert_eq!(names(backend, "sort=players&not_empty=true").await, ["Gamma", "Beta"]);
        assert_eq!(names(backend, "sort=players&not_full=true").await, ["Alpha", "Gamma"]);
        let page = backend.get("/v1/rooms?sort=players&limit=2", &backend.key).await.expect(200);
        let rest = format!("sort=players&limit=2&cursor={}", text(&page["next_cursor"]));
        assert_eq!(names(backend, &rest).await, ["Beta"]);
        let gone = backend.request(Method::DELETE, &format!("/v1/servers/{}", ids[2])).bearer_auth(&backend.key);
        assert_eq!(backend.send(gone).await.status, 204);
        assert_eq!(names(backend, descending).await, ["Beta", "Alpha"]);
    }

    async fn a_cursor_from_elsewhere_is_refused(backend) {
        for index in 0..3 {
            backend.server(&format!("Room {index}"), json!({})).await;
        }
        let page = backend.get("/v1/rooms?limit=1", &backend.key).await.expect(200);
        let cursor = text(&page["next_cursor"]);
        for query in [format!("limit=1&map=pond&cursor={cursor}"), format!("sort=players&cursor={cursor}"), "cursor=abc".into(), "cursor=e30".into()] {
            let answer = backend.get(&format!("/v1/rooms?{query}"), &backend.key).await;
            answer.refused(400, "invalid_cursor");
            assert_eq!(answer.field(), "cursor");
        }
        // Made by somebody who knows what is inside.
        let inside = URL_SAFE_NO_PAD.decode(&cursor).expect("base64");
        let inside: Value = serde_json::from_slice(&inside).expect("JSON");
        let forged = |member: &str, value: Value| {
            let mut forged = inside.clone();
            forged[member] = value;
            format!("/v1/rooms?limit=1&cursor={}", URL_SAFE_NO_PAD.encode(forged.to_string()))
        };
        for (member, value) in [
            ("number", json!(1e300)), ("number", json!("0")), ("text", json!(["a"])), ("text", json!("x".repeat(65))),
            ("label", json!("x".repeat(65))), ("room_id", json!("")), ("room_id", json!("' OR 1=1 --")), ("query", json!("")),
            ("limit", json!(1_000_000)),
        ] {
            let answer = backend.get(&forged(member, value), &backend.key).await;
            answer.refused(400, "invalid_cursor");
            assert_eq!(answer.field(), "cursor", "{member}");
        }
        let answer = backend.get(&format!("/v1/rooms?cursor={}", "A".repeat(5_000)), &backend.key).await;
        answer.refused(422, "invalid_field");
        assert_eq!(answer.field(), "cursor");
        // Where a page begins is free to choose: it is a name in the same list.
        let page = backend.get(&forged("text", json!("Z")), &backend.key).await.expect(200);
        assert_eq!(page["rooms"], json!([]));
        backend.get(&format!("/v1/rooms?limit=2&cursor={cursor}"), &backend.key).await.expect(200);
    }

    async fn an_unchanged_list_is_not_sent_again(backend) {
        let id = backend.server("Pond", json!({})).await;
        let etag = backend.get("/v1/rooms", &backend.key).await.headers["etag"].clone();
        let again = || backend.request(Method::GET, "/v1/rooms").bearer_auth(&backend.key).header("if-none-match", etag.clone());
        assert_eq!(backend.send(again()).await.status, 304);
        backend.serve(&format!("/v1/servers/{id}/heartbeat"), &json!({"sequence": 1, "players": 1})).await.expect(200);
        assert_eq!(backend.send(again()).await.status, 200);
    }

    async fn tickets_are_for_rooms_that_take_players(backend) {
        let token = backend.guest("Ada").await["access_token"].clone();
        let open = backend.server("Open", json!({})).await;
        let full = backend.server("Full", json!({"players": 2})).await;
        let closing = backend.server("Closing", json!({})).await;
        backend.serve(&format!("/v1/servers/{closing}/heartbeat"), &json!({"sequence": 1, "players": 0, "status": "draining"})).await.expect(200);
        let granted = ticket(backend, &open, &token).await.expect(200);
        assert_eq!((&granted["room"]["room_id"], &granted["expires_in"]), (&json!(open), &json!(60)));
        ticket(backend, &full, &token).await.refused(409, "room_full");
        ticket(backend, &closing, &token).await.refused(409, "room_draining");
        ticket(backend, "nowhere", &token).await.refused(404, "room_not_found");
        backend.get("/v1/rooms/nowhere", &backend.key).await.refused(404, "room_not_found");
        assert_eq!(backend.get(&format!("/v1/rooms/{open}"), &backend.key).await.expect(200)["name"], "Open");
    }
}

on_both_databases! {
    async fn the_regions_of_the_settings_are_returned(backend, |config| {
        config.regions = vec![backend_protocol::rooms::Region {
            region: "eu-west".into(), address: "eu.example.org".into(), query_port: 27015,
        }];
    }) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let expected = json!({"regions": [{"region": "eu-west", "address": "eu.example.org", "query_port": 27015}]});
        for bearer in [&token, &backend.key] {
            assert_eq!(backend.get("/v1/regions", bearer).await.expect(200), expected);
        }
        backend.get("/v1/regions", "").await.refused(401, "unauthorized");
        backend.get("/v1/regions", "nobody").await.refused(401, "token_invalid");
    }
}
