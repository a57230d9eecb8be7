//! The registry of game servers.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Backend, on_both_databases, text};
use crate::player_store::{ask, load};

fn entry(instance: &str) -> serde_json::Value {
    json!({"instance_id": instance, "name": "Pond", "address": "127.0.0.1", "port": 7777, "max_players": 2})
}

async fn listed(backend: &Backend) -> Vec<serde_json::Value> {
    backend.get("/v1/rooms?include_draining=true", &backend.key).await.expect(200)["rooms"]
        .as_array()
        .expect("list")
        .clone()
}

on_both_databases! {
    async fn the_same_instance_keeps_its_id(backend) {
        let first = backend.serve("/v1/servers", &entry("one")).await.expect(201);
        let mut changed = entry("one");
        changed["name"] = "Lake".into();
        let again = backend.serve("/v1/servers", &changed).await.expect(201);
        let other = backend.serve("/v1/servers", &entry("two")).await.expect(201);
        assert_eq!(first["server_id"], again["server_id"]);
        assert_ne!(first["server_id"], other["server_id"]);
        let names: Vec<String> = listed(backend).await.iter().map(|room| text(&room["name"])).collect();
        assert_eq!(names, ["Lake", "Pond"]);
    }

    async fn the_port_for_queries_is_listed_while_there_is_one(backend) {
        let port = async |port: serde_json::Value| {
            let mut entry = entry("one");
            entry["query_port"] = port;
            backend.serve("/v1/servers", &entry).await
        };
        port(json!(7778)).await.expect(201);
        assert_eq!(listed(backend).await[0]["query_port"], 7778);
        port(serde_json::Value::Null).await.expect(201);
        assert_eq!(listed(backend).await[0].get("query_port"), None);
    }

    async fn a_heartbeat_carries_what_changed(backend) {
        let id = backend.server("Pond", json!({"map": "old"})).await;
        let path = format!("/v1/servers/{id}/heartbeat");
        let beat = json!({"sequence": 1, "players": 1, "map": "new", "status": "draining", "tags": ["a", "b"]});
        backend.serve(&path, &beat).await.expect(200);
        let room = &listed(backend).await[0];
        assert_eq!((&room["players"], &room["map"], &room["status"]), (&json!(1), &json!("new"), &json!("draining")));
        assert_eq!(room["tags"], json!(["a", "b"]));
        // Overtaken on the way: changes nothing, and is no error.
        backend.serve(&path, &json!({"sequence": 1, "players": 9})).await.expect(200);
        assert_eq!(listed(backend).await[0]["players"], 1);
        backend.serve(&path, &json!({"sequence": 2, "players": 0, "status": "unhealthy"})).await.expect(200);
        assert!(listed(backend).await.is_empty());
        backend.serve(&path, &json!({"sequence": 3, "players": 0})).await.expect(200);
        assert_eq!(listed(backend).await.len(), 1);
    }

    async fn a_heartbeat_tells_whose_tokens_ended(backend) {
        let id = backend.server("Pond", json!({})).await;
        let path = format!("/v1/servers/{id}/heartbeat");
        let beat = |sequence: u64, after: Option<u64>| {
            let mut body = json!({"sequence": sequence, "players": 0});
            if let Some(after) = after {
                body["revocations_after"] = after.into();
            }
            body
        };
        let first = backend.serve(&path, &beat(1, None)).await.expect(200);
        assert_eq!(first["revocations"], json!([]));
        let ada = backend.guest("Ada").await;
        let out = json!({"refresh_token": ada["refresh_token"]});
        backend.post("/v1/auth/logout-everywhere", "", &out).await.expect(204);
        for after in [None, first["revocations_as_of"].as_u64()] {
            // The same sequence again: an overtaken beat hears it too.
            let reply = backend.serve(&path, &beat(2, after)).await.expect(200);
            let told = &reply["revocations"][0];
            assert_eq!((&told["player_id"], &told["reason"]), (&ada["player_id"], &json!("sessions_ended")));
            assert!(told["before"].as_u64().expect("seconds") > 1_600_000_000);
            assert!(reply["revocations_as_of"].as_u64().expect("a cursor") >= first["revocations_as_of"].as_u64().expect("a cursor"));
        }
        // Once the server has heard of it and time has passed, it is not told again.
        backend.execute("UPDATE revocations SET revoked_at = revoked_at - 60000").await;
        let later = backend.serve(&path, &beat(3, first["revocations_as_of"].as_u64())).await.expect(200);
        assert_eq!(later["revocations"], json!([]));
        assert_eq!(backend.serve(&path, &beat(4, None)).await.expect(200)["revocations"][0]["player_id"], ada["player_id"]);
    }

    async fn who_left_is_unknown_until_it_registers_again(backend) {
        let first = text(&backend.serve("/v1/servers", &entry("one")).await.expect(201)["server_id"]);
        let delete = || backend.request(Method::DELETE, &format!("/v1/servers/{first}")).bearer_auth(&backend.key);
        backend.send(delete()).await.expect(204);
        backend.send(delete()).await.expect(204);
        assert!(listed(backend).await.is_empty());
        let beat = json!({"sequence": 5, "players": 0});
        backend.serve(&format!("/v1/servers/{first}/heartbeat"), &beat).await.refused(404, "server_unknown");
        backend.serve("/v1/servers/nobody/heartbeat", &beat).await.refused(404, "server_unknown");
        let again = backend.serve("/v1/servers", &entry("one")).await.expect(201);
        assert_eq!(again["server_id"], first.as_str());
    }
}

#[tokio::test]
async fn a_silent_server_expires_and_a_restart_gives_grace() {
    let backend = Backend::on_sqlite_with(|config| config.lease_seconds = 2).await;
    backend.server("Lake", json!({})).await;
    let player = text(&backend.guest("Ada").await["player_id"]);
    let id = backend.server("Pond", json!({})).await;
    assert!(listed(&backend).await.iter().any(|room| room["name"] == "Pond"));
    load(&backend, &id, &player).await;
    // The server's lease and the player's begin anew, and end together.
    let beat = json!({"sequence": 1, "players": 0});
    backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.expect(200);
    while !listed(&backend).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let beat = json!({"sequence": 2, "players": 0});
    backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.refused(404, "server_unknown");
    // It was not listed any more when the backend went away.
    let backend = backend.restart_with(|config| config.lease_seconds = 60).await;
    assert!(listed(&backend).await.is_empty());
    backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.refused(404, "server_unknown");
    // Whoever was gets a lease to be heard again, and keeps its players meanwhile.
    let (id, other) = (backend.server("Pond", json!({})).await, backend.server("Lake", json!({})).await);
    load(&backend, &id, &player).await;
    let backend = backend.restart_after_leases().await;
    assert_eq!(ask(&backend, &other, &player).await["held"][0]["server_id"], id.as_str());
    let reply = backend.serve(&format!("/v1/servers/{id}/heartbeat"), &beat).await.expect(200);
    assert_eq!(reply["wanted"], json!([player]));
    backend.stop().await;
}
