//! The checked-in description of the API is the served one.

use backend_protocol::routes;

use crate::harness::Backend;

#[test]
fn the_checked_in_file_is_current() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let checked_in = std::fs::read_to_string(file).unwrap_or_default();
    let current = backend_server::openapi_document().expect("document");
    assert!(
        checked_in == current,
        "docs/openapi.json is stale: cargo run -p backend-server -- openapi > docs/openapi.json"
    );
}

/// Generators of clients make a function of each.
#[test]
fn every_operation_has_a_name_of_its_own() {
    let document = backend_server::openapi_document().expect("document");
    let api: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in api["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let name = operation["operationId"].as_str().expect("a name").to_owned();
            let is_identifier = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(is_identifier && name.contains('_'), "{method} {path}: {name} says what it is of");
            assert!(names.insert(name.clone()), "{method} {path}: {name} is there twice");
        }
    }
    for name in ["players_save", "rooms_list", "auth_login_password"] {
        assert!(names.contains(name), "{name}");
    }
}

#[tokio::test]
async fn it_is_served_and_names_every_route() {
    let backend = Backend::on_sqlite().await;
    let api = backend.get("/openapi.json", "").await.expect(200);
    assert!(api["openapi"].as_str().expect("version").starts_with("3.1"));
    for route in [
        routes::AUTH_ANONYMOUS,
        routes::AUTH_DEVICE,
        routes::AUTH_PASSWORD,
        routes::AUTH_REGISTER,
        routes::AUTH_REFRESH,
        routes::AUTH_LOGOUT,
        routes::JWKS,
        routes::VALIDATE,
        routes::SERVERS,
        routes::SERVER,
        routes::HEARTBEAT,
        routes::ROOMS,
        routes::ROOM_EVENTS,
        routes::REGIONS,
        routes::ROOM,
        routes::TICKET,
        routes::PLAYERS_LOAD,
        routes::PLAYERS_SAVE,
        routes::PLAYERS_RELEASE,
        routes::PLAYER_CONFLICTS,
        routes::CONFLICTS_RESOLVE,
        routes::OWN_DOCUMENTS,
        routes::WORLD_OPEN,
        routes::WORLD_CHUNKS,
        routes::WORLD_UPLOADS,
        routes::WORLD_DOWNLOADS,
        routes::WORLD_OBJECT,
        routes::WORLD_COMMIT,
        routes::WORLD_RELEASE,
        routes::HEALTHZ,
        routes::READYZ,
        routes::METRICS,
    ] {
        assert!(api["paths"][route].is_object(), "{route}");
    }
    backend.stop().await;
}
