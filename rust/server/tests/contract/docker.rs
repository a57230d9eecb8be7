//! Rooms on demand as containers: what the engine is asked, and what becomes of a room when the engine fails.

mod engine;

use std::path::Path;
use std::time::Duration;

use backend_server::{Config, doctor};
use serde_json::{Value, json};

use self::engine::{Engine, IMAGE, Manner};
use crate::harness::{Backend, text};
use crate::rooms_on_demand::{HANGING, cancel, create, kept, player, with_servers};

/// A server that registers and then stays until it is asked to end. `$1` is its port; its key is in the environment.
const SERVER: &str = r#"
trap 'exit 0' TERM
curl -sf "$BACKEND_URL/v1/servers" -H "Authorization: Bearer $BACKEND_SERVER_KEY" -H 'Content-Type: application/json' \
  -d "{\"instance_id\":\"$BACKEND_ALLOCATION_ID\",\"allocation_id\":\"$BACKEND_ALLOCATION_ID\",\"name\":\"Own\",\"address\":\"127.0.0.1\",\"port\":$1,\"max_players\":4}" || exit 4
echo registered
while :; do sleep 0.1; done
"#;

/// A backend whose servers are containers that run `script`.
async fn backend(script: &str, change: Value) -> (Backend, Engine) {
    let mut engine = None;
    let backend = Backend::on_sqlite_with(|config: &mut Config| {
        let folder = config.server_key_file.as_deref().and_then(Path::parent).expect("a folder");
        let started = Engine::start(folder);
        let mut file = change;
        for (member, value) in [("image", json!(IMAGE)), ("network", json!("host"))] {
            if file["docker"][member].is_null() {
                file["docker"][member] = value;
            }
        }
        file["docker"]["socket"] = json!(started.socket);
        with_servers(config, script, &file);
        engine = Some(started);
    })
    .await;
    (backend, engine.expect("started"))
}

async fn until_nothing_runs(backend: &Backend, engine: &Engine) {
    let folder = backend.folder().join("room-servers");
    while backend.count("SELECT COUNT(*) FROM allocations WHERE ended_at IS NULL").await > 0
        || kept(&folder) + engine.containers() > 0
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    engine.check();
}

/// The only container that was created.
fn only(engine: &Engine) -> Value {
    let created = engine.created();
    assert_eq!(created.len(), 1, "{created:?}");
    created[0].clone()
}

#[tokio::test]
async fn a_room_is_a_container() {
    let (backend, engine) = backend(SERVER, json!({"environment": {"GAME": "frogs"}, "log_kib": 64})).await;
    let ada = player(&backend).await;
    create(&backend, &ada, "one", json!({})).await.expect(200);
    let body = only(&engine);
    let environment: Vec<&str> =
        body["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for expected in ["GAME=frogs", "BACKEND_MODE=server"] {
        assert!(environment.contains(&expected), "{environment:?}");
    }
    assert!(!environment.iter().any(|pair| pair.starts_with("PATH=")), "it is the image's: {environment:?}");
    let host = &body["HostConfig"];
    assert_eq!((&host["NetworkMode"], &host["RestartPolicy"]["Name"]), (&json!("host"), &json!("no")));
    assert_eq!(host["LogConfig"]["Config"], json!({"max-size": "32768", "max-file": "2"}));
    assert_eq!(host["PortBindings"], json!({}), "it listens on the machine's own ports");
    assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(0), &json!(0)));
    cancel(&backend, &ada, "one").await;
    until_nothing_runs(&backend, &engine).await;
    assert_eq!(engine.signals(), ["SIGTERM"]);
    // What it has printed is still there when the container is gone.
    let allocation = text(&body["Labels"]["backend-server.allocation"]);
    let log = backend.folder().join("room-servers").join(allocation).join("output.log");
    assert!(std::fs::read_to_string(log).expect("kept").contains("registered"));
    backend.stop().await;
}

#[tokio::test]
async fn ports_are_published_under_the_number_that_the_game_listens_on() {
    let docker = json!({"network": "games", "memory_mib": 256, "cpu_percent": 50, "volumes": ["a:/b"]});
    let (backend, engine) =
        backend(SERVER, json!({"docker": docker, "backend_url": "http://api:8420"})).await;
    // This server reaches no backend: what is asked of the engine is enough.
    let ada = player(&backend).await;
    let answer = create(&backend, &ada, "one", json!({})).await;
    assert!(text(&answer.body["detail"]).contains("exit code 4"), "{}", answer.body);
    let body = only(&engine);
    let port = text(body["Cmd"].as_array().and_then(|command| command.last()).expect("a port"));
    let bound = json!([{"HostPort": port}]);
    let (udp, tcp) = (format!("{port}/udp"), format!("{port}/tcp"));
    assert_eq!(body["HostConfig"]["PortBindings"], json!({udp.as_str(): bound, tcp.as_str(): bound}));
    assert_eq!(body["ExposedPorts"], json!({udp.as_str(): {}, tcp.as_str(): {}}));
    let host = &body["HostConfig"];
    assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(268_435_456), &json!(500_000_000)));
    assert_eq!(host["Binds"], json!(["a:/b"]));
    until_nothing_runs(&backend, &engine).await;
    backend.stop().await;
}

#[tokio::test]
async fn a_container_that_ends_at_once_fails_with_its_exit_code_and_last_lines() {
    let (backend, engine) = backend("echo loading; echo no such map >&2; exit 3", json!({})).await;
    let answer = create(&backend, &player(&backend).await, "one", json!({})).await;
    answer.refused(409, "room_start_failed");
    let detail = text(&answer.body["detail"]);
    assert!(detail.contains("exit code 3") && detail.contains("loading\nno such map"), "{detail}");
    until_nothing_runs(&backend, &engine).await;
    backend.stop().await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named_with_what_to_do() {
    let (backend, engine) = backend(SERVER, json!({"docker": {"image": "gone:2"}})).await;
    let answer = create(&backend, &player(&backend).await, "one", json!({})).await;
    answer.refused(409, "room_start_failed");
    let detail = text(&answer.body["detail"]);
    assert!(detail.contains("gone:2") && detail.contains("docker pull"), "{detail}");
    until_nothing_runs(&backend, &engine).await;
    backend.stop().await;
}

#[tokio::test]
async fn the_doctor_looks_for_engine_and_image() {
    let folder = tempfile::tempdir().expect("folder");
    let engine = Engine::start(folder.path());
    let path = folder.path().join("rooms.json");
    let found = async |image: &str, socket: &Path| {
        let docker = json!({"image": image, "network": "host", "socket": socket});
        let file = json!({"command": ["server"], "ports": "27000-27099", "docker": docker});
        std::fs::write(&path, file.to_string()).expect("written");
        let database = folder.path().join("backend.db").display().to_string();
        let listen = ([127, 0, 0, 1], 0).into();
        let rooms_on_demand = Some(path.clone());
        let config = Config { rooms_on_demand, listen, database, ..Config::default() };
        let findings = doctor::examine(&config, None).await;
        findings.iter().map(ToString::to_string).find(|line| line.contains(" rooms ")).expect("a finding")
    };
    let good = found(IMAGE, &engine.socket).await;
    assert!(good.starts_with("ok") && good.contains(IMAGE), "{good}");
    let missing = found("gone:2", &engine.socket).await;
    assert!(missing.starts_with("FAILED") && missing.contains("docker pull"), "{missing}");
    let nowhere = found(IMAGE, Path::new("/nowhere/engine.sock")).await;
    assert!(nowhere.starts_with("FAILED") && nowhere.contains("/nowhere/engine.sock"), "{nowhere}");
}

#[tokio::test]
async fn a_port_that_is_taken_after_all_is_followed_by_the_next_one() {
    let (backend, engine) = backend(SERVER, json!({})).await;
    engine.behaves(Manner::PortsTaken(2));
    create(&backend, &player(&backend).await, "one", json!({})).await.expect(200);
    let ports: Vec<Value> = engine.created().iter().map(|body| body["Cmd"][4].clone()).collect();
    assert_eq!(ports.len(), 3);
    assert!(ports[0] != ports[1] && ports[1] != ports[2], "{ports:?}");
    assert_eq!(engine.containers(), 1);
    backend.stop().await;
}

#[tokio::test]
async fn replies_that_are_lost_start_no_second_container() {
    let (backend, engine) = backend(SERVER, json!({"max_servers": 1})).await;
    engine.behaves(Manner::LosesReplies);
    let ada = player(&backend).await;
    create(&backend, &ada, "one", json!({})).await.expect(200);
    assert_eq!(engine.containers(), 1);
    cancel(&backend, &ada, "one").await;
    until_nothing_runs(&backend, &engine).await;
    backend.stop().await;
}

#[tokio::test]
async fn an_engine_that_answers_nonsense_is_waited_for() {
    let (backend, engine) = backend(SERVER, json!({})).await;
    engine.behaves(Manner::Garbage);
    let ada = player(&backend).await;
    let body = json!({"request_id": "one", "room": {}, "wait_seconds": 1});
    let waiting = backend.post("/v1/rooms", &ada, &body).await.expect(200);
    assert_eq!(waiting["ticket"], Value::Null);
    engine.behaves(Manner::Good);
    create(&backend, &ada, "one", json!({})).await.expect(200);
    assert_eq!(engine.containers(), 1);
    backend.stop().await;
}

#[tokio::test]
async fn a_container_that_ignores_sigterm_is_killed_after_the_grace() {
    let script = HANGING.replace("exit 0", "").replace("-e", "-z");
    let (backend, engine) = backend(&script, json!({"stop_grace_seconds": 1})).await;
    let ada = player(&backend).await;
    let body = json!({"request_id": "one", "wait_seconds": 0});
    backend.post("/v1/rooms", &ada, &body).await.expect(200);
    while engine.containers() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cancel(&backend, &ada, "one").await;
    until_nothing_runs(&backend, &engine).await;
    assert_eq!(engine.signals(), ["SIGTERM", "SIGKILL"]);
    backend.stop().await;
}

#[tokio::test]
async fn a_backend_that_starts_again_finds_its_containers() {
    let (backend, engine) = backend(SERVER, json!({})).await;
    let ada = player(&backend).await;
    let created = create(&backend, &ada, "one", json!({})).await.expect(200);
    let backend = backend.restart().await;
    let again = create(&backend, &ada, "one", json!({})).await.expect(200);
    assert_eq!(again["ticket"]["room"]["room_id"], created["ticket"]["room"]["room_id"]);
    // A crash is seen at once.
    engine.end_all();
    until_nothing_runs(&backend, &engine).await;
    assert_eq!(engine.created().len(), 1);
    backend.stop().await;
}
