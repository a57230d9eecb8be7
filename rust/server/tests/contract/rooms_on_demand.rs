//! Rooms on demand: a request starts a server, and nothing is left behind when it does not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backend_server::Config;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, Backend, at_once, on_both_databases, text};

/// A server that registers and then stays until it is asked to end, or the test is over. `$1` is its port.
pub const SERVER: &str = r#"
trap 'exit 0' TERM
curl -sf "$BACKEND_URL/v1/servers" -H "Authorization: Bearer $(cat "$BACKEND_SERVER_KEY_FILE")" -H 'Content-Type: application/json' \
  -d "{\"instance_id\":\"$BACKEND_ALLOCATION_ID\",\"allocation_id\":\"$BACKEND_ALLOCATION_ID\",\"name\":\"Own\",\"address\":\"127.0.0.1\",\"port\":$1,\"max_players\":4}" || exit 4
echo registered
while [ -e "$BACKEND_SERVER_KEY_FILE" ]; do sleep 0.1; done
"#;

/// A server that starts for ever. It ends with the test.
pub const HANGING: &str =
    r#"trap 'exit 0' TERM; while [ -e "$BACKEND_SERVER_KEY_FILE" ]; do sleep 0.1; done"#;

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("bound");
    socket.local_addr().expect("an address").port()
}

/// The settings with a server that runs `script`, in a folder of their own.
pub fn with_servers(config: &mut Config, script: &str, change: &Value) {
    let key_file = config.server_key_file.clone().expect("a key file");
    let folder = key_file.parent().expect("a folder").to_owned();
    // Within the ports that programs get by chance, so that ranges seldom meet; what is taken is skipped.
    let first = free_port().min(65_000);
    let mut file = json!({"command": ["sh", "-c", script, "server", "{port}"], "ports": format!("{first}-{}", first + 200),
        "max_servers": 20, "max_players": 4, "start_timeout_seconds": 20, "log_in_errors": true});
    for (member, value) in change.as_object().into_iter().flatten() {
        file[member] = value.clone();
    }
    let path = folder.join("rooms.json");
    std::fs::write(&path, file.to_string()).expect("written");
    config.rooms_on_demand = Some(path);
    config.room_process_program = Some(PathBuf::from(env!("CARGO_BIN_EXE_backend-server")));
}

fn servers(config: &mut Config) {
    with_servers(config, SERVER, &json!({}));
}

pub async fn player(backend: &Backend) -> String {
    text(&backend.guest("Ada").await["access_token"])
}

/// Repeats a request for a room until there is a ticket or an error.
pub async fn until_ready(backend: &Backend, path: &str, token: &str, mut body: Value) -> Answer {
    body["wait_seconds"] = 20.into();
    loop {
        let answer = backend.post(path, token, &body).await;
        if answer.status != 200 || answer.body["status"] == "ready" {
            return answer;
        }
    }
}

pub async fn create(backend: &Backend, token: &str, request_id: &str, room: Value) -> Answer {
    until_ready(backend, "/v1/rooms", token, json!({"request_id": request_id, "room": room})).await
}

pub async fn cancel(backend: &Backend, token: &str, request_id: &str) {
    let path = format!("/v1/rooms/requests/{request_id}");
    backend.send(backend.request(Method::DELETE, &path).bearer_auth(token)).await.expect(204);
}

/// Waits until no allocation is open and no process of a server is left.
pub async fn until_nothing_runs(backend: &Backend) {
    let folder = backend.folder().join("room-servers");
    // One that is open may not be started yet.
    while backend.count("SELECT COUNT(*) FROM allocations WHERE ended_at IS NULL").await > 0
        || kept(&folder) > 0
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn kept(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().join("port").exists())).count()
}

async fn rooms(backend: &Backend, token: &str) -> usize {
    backend.get("/v1/rooms", token).await.expect(200)["rooms"].as_array().map_or(0, Vec::len)
}

on_both_databases! {
    async fn a_room_is_created_with_everything_that_was_requested(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        let options = json!({"name": "Pond", "map": "swamp", "mode": "race", "max_players": 3, "password": "frog",
            "tags": ["new"], "attributes": {"round": 3}});
        let created = create(backend, &ada, "one", options.clone()).await.expect(200);
        let room = &created["ticket"]["room"];
        for (member, value) in [("name", json!("Pond")), ("map", json!("swamp")), ("mode", json!("race")), ("max_players", json!(3)),
            ("has_password", json!(true)), ("tags", json!(["new"])), ("attributes", json!({"round": 3})), ("reserved", json!(1))] {
            assert_eq!(room[member], value, "{member}: {room}");
        }
        // The creator needs no password; the others do.
        let path = format!("/v1/rooms/{}/ticket", text(&room["room_id"]));
        backend.post(&path, &bob, &json!({})).await.refused(403, "wrong_room_password");
        backend.post(&path, &bob, &json!({"password": "frog"})).await.expect(200);
        // The same request is the same room.
        let again = create(backend, &ada, "one", options).await.expect(200);
        assert_eq!(again["ticket"]["room"]["room_id"], room["room_id"]);
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 1);
        create(backend, &ada, "one", json!({"name": "Lake"})).await.refused(422, "invalid_field");
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations WHERE room LIKE '%frog%' OR password_hash LIKE '%frog%'").await, 0);
    }

    async fn a_private_room_is_never_listed(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        let created = create(backend, &ada, "one", json!({"visibility": "private"})).await.expect(200);
        assert_eq!(created["ticket"]["room"]["visibility"], "private");
        assert_eq!(rooms(backend, &bob).await, 0);
        let path = format!("/v1/rooms/{}/ticket", text(&created["ticket"]["room"]["room_id"]));
        backend.post(&path, &bob, &json!({})).await.refused(404, "room_not_found");
        // The creator passes the code on, as does whoever has come by it.
        let code = &created["ticket"]["invite_code"];
        assert_eq!(text(code).len(), 7, "{created}");
        let joined = backend.post("/v1/rooms/by-code/ticket", &bob, &json!({"invite_code": code})).await.expect(200);
        assert_eq!((&joined["room"]["room_id"], &joined["invite_code"]), (&created["ticket"]["room"]["room_id"], code));
        let again = create(backend, &ada, "one", json!({"visibility": "private"})).await.expect(200);
        assert_eq!(&again["ticket"]["invite_code"], code);
    }

    async fn only_its_creator_is_given_the_invite_code_of_an_unlisted_room(backend, servers) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        let created = create(backend, &ada, "one", json!({"visibility": "unlisted"})).await.expect(200);
        assert_eq!(text(&created["ticket"]["invite_code"]).len(), 7, "{created}");
        let path = format!("/v1/rooms/{}/ticket", text(&created["ticket"]["room"]["room_id"]));
        let joined = backend.post(&path, &bob, &json!({})).await.expect(200);
        assert!(joined.get("invite_code").is_none(), "{joined}");
        let listed = create(backend, &bob, "two", json!({})).await.expect(200);
        assert!(listed["ticket"].get("invite_code").is_none(), "{listed}");
    }

    async fn a_party_gets_its_seats(backend, servers) {
        let ada = player(backend).await;
        let body = json!({"request_id": "party", "seats": 3, "room": {}});
        let created = until_ready(backend, "/v1/rooms", &ada, body).await.expect(200);
        assert_eq!(created["ticket"]["room"]["reserved"], 3);
        let path = format!("/v1/rooms/{}/ticket", text(&created["ticket"]["room"]["room_id"]));
        let claim = json!({"party_code": created["ticket"]["party_code"]});
        backend.post(&path, &player(backend).await, &claim).await.expect(200);
    }

    async fn a_server_that_ends_at_once_fails_with_its_exit_code_and_last_lines(backend, |config| {
        with_servers(config, "echo loading; echo no such map >&2; exit 3", &json!({}));
    }) {
        let ada = player(backend).await;
        let answer = create(backend, &ada, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        let detail = text(&answer.body["detail"]);
        for expected in ["exit code 3", "loading\nno such map"] {
            assert!(detail.contains(expected), "{detail}");
        }
        until_nothing_runs(backend).await;
        // It stays failed, and does not count as one of the player's rooms.
        create(backend, &ada, "one", json!({})).await.refused(409, "room_start_failed");
        create(backend, &ada, "two", json!({})).await.refused(409, "room_start_failed");
        create(backend, &ada, "three", json!({})).await.refused(409, "room_start_failed");
    }

    async fn a_command_that_is_not_there_is_named(backend, |config| {
        with_servers(config, "", &json!({"command": ["/nowhere/server"]}));
    }) {
        let answer = create(backend, &player(backend).await, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        assert!(text(&answer.body["detail"]).contains("/nowhere/server: No such file"), "{}", answer.body);
        until_nothing_runs(backend).await;
    }

    async fn players_see_no_log_unless_it_is_set(backend, |config| {
        with_servers(config, "echo secret; exit 3", &json!({"log_in_errors": false}));
    }) {
        let answer = create(backend, &player(backend).await, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        assert!(!text(&answer.body["detail"]).contains("secret"), "{}", answer.body);
    }

    async fn a_server_that_hangs_fails_after_its_time_and_is_ended(backend, |config| {
        let script = format!("echo thinking; {}", HANGING.replace("exit 0", ""));
        with_servers(config, &script, &json!({"start_timeout_seconds": 1, "stop_grace_seconds": 1}));
    }) {
        let answer = create(backend, &player(backend).await, "one", json!({})).await;
        answer.refused(409, "room_start_failed");
        let detail = text(&answer.body["detail"]);
        assert!(detail.contains("did not register within 1 s") && detail.contains("thinking"), "{detail}");
        until_nothing_runs(backend).await;
    }

    async fn a_request_that_is_given_up_ends_its_server(backend, |config| {
        with_servers(config, HANGING, &json!({}));
    }) {
        let ada = player(backend).await;
        let answer = backend.post("/v1/rooms", &ada, &json!({"request_id": "one", "wait_seconds": 0})).await.expect(200);
        assert_eq!(answer["ticket"], Value::Null);
        cancel(backend, &ada, "one").await;
        until_nothing_runs(backend).await;
        // A server that comes too late is told.
        let allocation = Uuid::new_v4().simple().to_string();
        let body = json!({"instance_id": "late", "allocation_id": allocation, "name": "Late", "address": "127.0.0.1", "port": 7777, "max_players": 2});
        backend.serve("/v1/servers", &body).await.refused(409, "allocation_ended");
        // Another's request is another one.
        cancel(backend, &player(backend).await, "one").await;
    }

    async fn a_room_that_is_given_up_when_it_is_ready_ends(backend, servers) {
        let ada = player(backend).await;
        create(backend, &ada, "one", json!({})).await.expect(200);
        cancel(backend, &ada, "one").await;
        until_nothing_runs(backend).await;
    }

    async fn a_request_whose_client_is_gone_is_given_up(backend, |config| {
        with_servers(config, HANGING, &json!({}));
    }) {
        let ada = player(backend).await;
        backend.post("/v1/rooms", &ada, &json!({"request_id": "one", "wait_seconds": 0})).await.expect(200);
        backend.execute("UPDATE room_requests SET polled_at = 0").await;
        until_nothing_runs(backend).await;
    }

    async fn an_empty_room_ends_after_its_time(backend, |config| {
        with_servers(config, SERVER, &json!({"empty_timeout_seconds": 1}));
    }) {
        let ada = player(backend).await;
        create(backend, &ada, "one", json!({})).await.expect(200);
        // A seat that is reserved keeps it.
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ready'").await, 1);
        backend.execute("DELETE FROM seats").await;
        until_nothing_runs(backend).await;
    }

    async fn a_server_that_dies_leaves_the_list(backend, |config| {
        with_servers(config, &format!("{}exit 9", SERVER.replace(r#"-e "$BACKEND_SERVER_KEY_FILE""#, r#"! -e "${BACKEND_SERVER_KEY_FILE}.die""#)),
            // These are for one that has not registered yet.
            &json!({"start_attempts": 3}));
    }) {
        let ada = player(backend).await;
        create(backend, &ada, "one", json!({})).await.expect(200);
        assert_eq!(rooms(backend, &ada).await, 1);
        std::fs::write(backend.folder().join("server.key.die"), "").expect("written");
        until_nothing_runs(backend).await;
        assert_eq!(rooms(backend, &ada).await, 0);
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ended' AND reason LIKE '%exit code 9'").await, 1);
    }

    async fn a_player_creates_so_many_rooms(backend, |config| {
        with_servers(config, SERVER, &json!({"rooms_per_player": 1}));
    }) {
        let ada = player(backend).await;
        create(backend, &ada, "one", json!({})).await.expect(200);
        create(backend, &ada, "two", json!({})).await.refused(409, "room_limit_reached");
        create(backend, &player(backend).await, "one", json!({})).await.expect(200);
        cancel(backend, &ada, "one").await;
        create(backend, &ada, "three", json!({})).await.expect(200);
    }

    async fn a_host_that_is_full_keeps_requests_waiting_until_their_time_is_over(backend, |config| {
        with_servers(config, SERVER, &json!({"max_servers": 1, "start_timeout_seconds": 3}));
    }) {
        create(backend, &player(backend).await, "one", json!({})).await.expect(200);
        let answer = create(backend, &player(backend).await, "two", json!({})).await;
        answer.refused(409, "room_start_failed");
        assert!(text(&answer.body["detail"]).contains("no host had a place"), "{}", answer.body);
    }

    async fn guests_create_none_where_accounts_are_required(backend, |config| {
        with_servers(config, SERVER, &json!({"creators": "accounts"}));
    }) {
        create(backend, &player(backend).await, "one", json!({})).await.refused(403, "room_creation_refused");
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        let session = backend.post("/v1/auth/register", "", &account).await;
        let token = text(&session.body["access_token"]);
        create(backend, &token, "one", json!({})).await.expect(200);
    }

    /// Many at once would be sent away with `rate_limited` if their passwords were hashed.
    async fn what_is_refused_is_refused_without_a_hash_of_the_password(backend, |config| {
        with_servers(config, SERVER, &json!({"creators": "accounts"}));
    }) {
        let ada = player(backend).await;
        let bodies: Vec<Value> =
            (0..150).map(|id| json!({"request_id": id.to_string(), "room": {"password": "frog"}})).collect();
        for answer in at_once(bodies.iter().map(|body| backend.post("/v1/rooms", &ada, body))).await {
            answer.refused(403, "room_creation_refused");
        }
    }

    async fn a_spare_is_a_room_at_once(backend, |config| {
        with_servers(config, SERVER, &json!({"spare_servers": 1}));
    }) {
        let (ada, bob) = (player(backend).await, player(backend).await);
        while backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ready' AND spare = 1").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(rooms(backend, &bob).await, 0);
        let spare = backend.text("SELECT server_id FROM allocations WHERE spare = 1").await;
        backend.get(&format!("/v1/rooms/{spare}"), &bob).await.refused(404, "room_not_found");
        let beat = |sequence: u64, change: Value| {
            let mut body = json!({"sequence": sequence, "players": 0, "map": "lobby", "visibility": "public", "attributes": {}, "max_players": 2, "password": ""});
            for (member, value) in change.as_object().into_iter().flatten() {
                body[member] = value.clone();
            }
            let path = format!("/v1/servers/{spare}/heartbeat");
            async move { backend.serve(&path, &body).await.expect(200) }
        };
        // Whatever a spare says of itself, nobody sees it.
        let reply = beat(1, json!({})).await;
        assert_eq!((&reply["room"], &reply["heartbeat_seconds"]), (&Value::Null, &json!(1)));
        assert_eq!(rooms(backend, &bob).await, 0);

        let options = json!({"name": "Pond", "map": "swamp", "password": "frog", "attributes": {"round": 3}});
        let body = json!({"request_id": "one", "room": options, "wait_seconds": 0});
        let created = backend.post("/v1/rooms", &ada, &body).await.expect(200);
        let room = &created["ticket"]["room"];
        assert_eq!((&room["room_id"], &room["name"], &room["map"], &room["max_players"]), (&json!(spare), &json!("Pond"), &json!("swamp"), &json!(4)));
        // The server learns of it, and what it still says of the spare that it was is not listed.
        for sequence in 2..4 {
            let reply = beat(sequence, json!({})).await;
            assert_eq!(reply["room"]["name"], "Pond", "{reply}");
            assert_eq!(reply["room"]["password"], Value::Null);
        }
        let listed = backend.get(&format!("/v1/rooms/{spare}"), &bob).await.expect(200);
        assert_eq!((&listed["map"], &listed["has_password"], &listed["attributes"]), (&json!("swamp"), &json!(true), &json!({"round": 3})));
        let reply = beat(4, json!({"room_taken_over": true, "map": "swamp 2", "max_players": 4, "password": null})).await;
        assert_eq!(reply["room"], Value::Null);
        assert_eq!(backend.get(&format!("/v1/rooms/{spare}"), &bob).await.expect(200)["map"], "swamp 2");
        // The next one is started.
        while backend.count("SELECT COUNT(*) FROM allocations WHERE status = 'ready' AND spare = 1").await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn what_is_no_room_is_refused(backend, servers) {
        let ada = player(backend).await;
        for (field, body) in [
            ("request_id", json!({})),
            ("request_id", json!({"request_id": "a b"})),
            ("room.max_players", json!({"request_id": "one", "room": {"max_players": 5}})),
            ("room.max_players", json!({"request_id": "one", "room": {"max_players": 0}})),
            ("seats", json!({"request_id": "one", "seats": 17})),
            ("seats", json!({"request_id": "one", "seats": 3, "room": {"max_players": 2}})),
            ("wait_seconds", json!({"request_id": "one", "wait_seconds": 21})),
            ("room.attributes.round", json!({"request_id": "one", "room": {"attributes": {"round": []}}})),
            ("room.command", json!({"request_id": "one", "room": {"command": "rm"}})),
        ] {
            let answer = backend.post("/v1/rooms", &ada, &body).await;
            answer.refused(422, "invalid_field");
            assert_eq!(answer.field(), field, "{}", answer.body);
        }
        assert_eq!(backend.count("SELECT COUNT(*) FROM allocations").await, 0);
    }

    async fn without_the_setting_there_are_none(backend) {
        let ada = player(backend).await;
        create(backend, &ada, "one", json!({})).await.refused(403, "room_creation_refused");
    }
}
