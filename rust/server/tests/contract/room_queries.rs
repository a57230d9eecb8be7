//! Room lists by attributes and passwords, in every order, with selected fields.

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};

async fn ask(backend: &Backend, parameters: &[(&str, &str)]) -> Answer {
    let url = reqwest::Url::parse_with_params("http://backend/v1/rooms", parameters).expect("a URL");
    backend.get(&format!("/v1/rooms?{}", url.query().unwrap_or_default()), &backend.key).await
}

async fn names(backend: &Backend, parameters: &[(&str, &str)]) -> Vec<String> {
    let page = ask(backend, parameters).await.expect(200);
    page["rooms"].as_array().expect("list").iter().map(|room| text(&room["name"])).collect()
}

async fn rooms(backend: &Backend) {
    for (name, change) in [
        (
            "a",
            json!({"attributes": {"round": 1, "size": "small", "ranked": true, "pace": 1.5}, "map": "y", "max_players": 4}),
        ),
        (
            "b",
            json!({"attributes": {"round": 2.0, "size": "large", "ranked": false}, "map": "x", "password": "frog", "max_players": 2}),
        ),
        ("c", json!({"attributes": {"round": 3, "size": "Small", "pace": -1}, "map": "y", "max_players": 3})),
        ("d", json!({"attributes": {"round": "3"}, "map": "x", "max_players": 2})),
        ("e", json!({"map": "z"})),
    ] {
        backend.server(name, change).await;
    }
}

on_both_databases! {
    /// A connection of the database remembers a statement with the types that it first saw.
    async fn an_attribute_of_each_type_can_follow_one_of_any_other(backend) {
        let values = [json!("text"), json!(1), json!(0.5), json!(true)];
        // Often enough for one connection to see each type after each other.
        for round in 0..12 {
            for first in &values {
                for then in &values {
                    backend.server(&format!("first {round}"), json!({"attributes": {"a": first}})).await;
                    backend.server(&format!("then {round}"), json!({"attributes": {"a": then}})).await;
                }
            }
        }
    }

    async fn attributes_filter_by_every_comparison(backend) {
        rooms(backend).await;
        for (conditions, expected) in [
            (json!([["round", "=", 2]]), "b"),
            (json!([["round", "=", 2.0]]), "b"),
            (json!([["round", "!=", 2]]), "ac"),
            (json!([["round", "<", 2]]), "a"),
            (json!([["round", "<=", 2]]), "ab"),
            (json!([["round", ">", 1.5]]), "bc"),
            (json!([["round", ">=", 3]]), "c"),
            (json!([["round", "in", [1, 3.0, "3"]]]), "acd"),
            (json!([["round", "=", "3"]]), "d"),
            (json!([["pace", "<", 0]]), "c"),
            (json!([["size", "=", "small"]]), "a"),
            // By code points: capitals come first.
            (json!([["size", "<", "large"]]), "c"),
            (json!([["size", ">=", "large"]]), "ab"),
            (json!([["size", "in", ["small", "large"]]]), "ab"),
            (json!([["ranked", "=", true]]), "a"),
            (json!([["ranked", "!=", true]]), "b"),
            (json!([["ranked", "in", [true, false]]]), "ab"),
            (json!([["round", ">=", 1], ["ranked", "=", false]]), "b"),
            (json!([["missing", "!=", 1]]), ""),
            (json!([["size", "=", "' OR 1=1 --"]]), ""),
            (json!([]), "abcde"),
        ] {
            let filters: Vec<Value> = conditions.as_array().expect("list").iter()
                .map(|one| json!({"name": one[0], "op": one[1], "value": one[2]}))
                .collect();
            let got = names(backend, &[("attributes", &json!(filters).to_string())]).await.concat();
            assert_eq!(got, expected, "{conditions}");
        }
        assert_eq!(names(backend, &[("no_password", "true")]).await.concat(), "acde");
    }

    async fn filters_follow_the_heartbeats(backend) {
        let id = backend.server("Pond", json!({"attributes": {"round": 1}})).await;
        let filter = json!([{"name": "round", "op": "=", "value": 2}]).to_string();
        assert!(names(backend, &[("attributes", &filter)]).await.is_empty());
        let beat = json!({"sequence": 1, "players": 0, "attributes": {"round": 2, "other": "x"}});
        backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.expect(200);
        assert_eq!(names(backend, &[("attributes", &filter)]).await, ["Pond"]);
        let beat = json!({"sequence": 2, "players": 0, "attributes": {}});
        backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.expect(200);
        assert!(names(backend, &[("attributes", &filter)]).await.is_empty());
    }

    async fn every_order_pages_without_gaps(backend) {
        rooms(backend).await;
        for (sort, expected) in [
            ("name", "abcde"), ("map", "bdace"), ("mode", "abcde"), ("region", "abcde"), ("version", "abcde"),
        ] {
            for descending in ["false", "true"] {
                let (mut seen, mut cursor) = (String::new(), None::<String>);
                loop {
                    let mut parameters = vec![("sort", sort), ("descending", descending), ("limit", "2")];
                    if let Some(cursor) = &cursor {
                        parameters.push(("cursor", cursor));
                    }
                    let page = ask(backend, &parameters).await.expect(200);
                    seen.extend(page["rooms"].as_array().expect("list").iter().map(|room| text(&room["name"])));
                    let Some(next) = page["next_cursor"].as_str() else { break };
                    cursor = Some(next.to_owned());
                }
                let expected: String = if descending == "true" { expected.chars().rev().collect() } else { expected.into() };
                assert_eq!(seen, expected, "{sort}, {descending}");
            }
        }
        let by_places = names(backend, &[("sort", "max_players"), ("descending", "true")]).await.concat();
        assert!(by_places.starts_with("ac") && by_places.len() == 5, "{by_places}");
    }

    async fn only_the_selected_fields_are_sent(backend) {
        rooms(backend).await;
        let page = ask(backend, &[("fields", "name, players"), ("limit", "1")]).await.expect(200);
        let room = page["rooms"][0].as_object().expect("a room");
        let mut fields: Vec<&str> = room.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["name", "players", "room_id"]);
        // The next page may show other ones.
        let next = text(&page["next_cursor"]);
        let page = ask(backend, &[("cursor", &next), ("limit", "1")]).await.expect(200);
        assert_eq!(page["rooms"][0]["map"], "x");
    }

    async fn what_is_no_query_is_refused_by_its_field(backend) {
        let condition = |name: &str, op: &str, value: Value| json!([{"name": name, "op": op, "value": value}]).to_string();
        let many = json!(vec![json!({"name": "a", "op": "=", "value": 1}); 9]).to_string();
        let values: Vec<i64> = (0..17).collect();
        for (field, value) in [
            ("attributes", "round>=3".to_owned()),
            ("attributes", "[".repeat(5_000)),
            ("attributes", format!("[{}]", " ".repeat(4_096))),
            ("attributes", many),
            ("attributes", condition("a b", "=", json!(1))),
            ("attributes", condition("a", "==", json!(1))),
            ("attributes", condition("a", "=", json!(null))),
            ("attributes", condition("a", "=", json!([1]))),
            ("attributes", condition("a", "in", json!(1))),
            ("attributes", condition("a", "in", json!([]))),
            ("attributes", condition("a", "in", json!(values))),
            ("attributes", condition("a", "<", json!(true))),
            ("attributes", condition("a", "=", json!("\u{0}"))),
            ("attributes", json!([{"name": "a", "op": "=", "value": 1, "or": 2}]).to_string()),
            ("fields", "name,password_hash".into()),
            ("fields", "name,".repeat(backend_protocol::rooms::ROOM_FIELDS.len() + 1)),
            ("sort", "password_hash".into()),
            ("password_hash", "x".into()),
        ] {
            let answer = ask(backend, &[(field, &value)]).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{value}: {}", answer.body);
        }
    }
}
