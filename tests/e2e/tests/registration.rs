//! A server stays listed while it lives, through everything, and not a lease longer.

use std::fs;

use anyhow::{Context, Result, ensure};
use backend_protocol::registration::ServerStatus;
use rustix::process::Signal;
use serde_json::json;
use test_harness::backend::Backend;
use test_harness::demo::{self, wait_for_event};
use test_harness::fault_proxy::FaultProxy;
use test_harness::fixture::{self, Fixture};
use test_harness::until;

/// Leases short enough to run out within a test.
const SHORT: &[&str] = &["--heartbeat-seconds", "1", "--lease-seconds", "4"];

fn register(server: &mut Fixture) -> Result<String> {
    let registered = server.ask(&json!({ "do": "register" }))?;
    Ok(registered["server_id"].as_str().with_context(|| registered.to_string())?.to_owned())
}

#[test]
fn a_backend_that_dies_during_a_race_loses_nothing() -> Result<()> {
    let mut backend = Backend::start_with(SHORT)?;
    let api = backend.api()?;
    let mut server = demo::start_server("Storm", &backend.url(), &backend.server_key_file())?;
    let mut ada = demo::bot("Ada", "Storm", &backend.url()).start()?;
    let mut bob = demo::bot("Bob", "Storm", &backend.url()).start()?;
    wait_for_event(server.log(), "race_started")?;
    backend.kill()?;
    wait_for_event(server.log(), "race_finished")?;
    ensure!(!server.log().contains(" saved player="), "saved without a backend\n{}", server.log().tail());
    backend.resume()?;

    for name in ["Ada", "Bob"] {
        backend.wait_for_player(name, "the race", |player| player.progress("races") == 1)?;
    }
    api.wait_for_room("Storm", "listed again, once", |room| room.status == ServerStatus::Ready)?;
    for bot in [&mut ada, &mut bob] {
        bot.finish(0)?;
    }
    server.signal(Signal::TERM)?;
    server.finish(0)?;
    api.wait_for_no_room("Storm")
}

#[test]
fn a_server_the_backend_forgot_registers_again() -> Result<()> {
    let mut backend = Backend::start_with(SHORT)?;
    let api = backend.api()?;
    let mut server = fixture::server("Forgotten", &backend.url(), &backend.server_key_file())?.start()?;
    register(&mut server)?;
    server.ask(&json!({ "do": "set_players", "players": 3 }))?;
    api.wait_for_room("Forgotten", "three players", |room| room.players == 3)?;

    // Worse than a restart: the backend has a new database and new keys and has never heard of anybody.
    backend.kill()?;
    server.log().wait_for("EVENT heartbeat_failed")?;
    backend.erase()?;
    backend.resume()?;
    let room = api.wait_for_room("Forgotten", "listed again, once", |room| room.players == 3)?;
    ensure!(room.status == ServerStatus::Ready, "{room:?}");
    server.godot().signal(Signal::TERM)?;
    // An empty database is another backend, which is told.
    server.godot().finish_despite(0, &["leads to another backend now"])?;
    api.wait_for_no_room("Forgotten")
}

#[test]
fn a_dead_server_leaves_the_list_and_a_stuck_one_is_left_out() -> Result<()> {
    let backend = Backend::start_with(SHORT)?;
    let api = backend.api()?;

    let mut dead = fixture::server("Dead", &backend.url(), &backend.server_key_file())?.start()?;
    register(&mut dead)?;
    api.wait_for_room("Dead", "listed", |_| true)?;
    dead.godot().kill()?;

    let mut stuck = fixture::server("Stuck", &backend.url(), &backend.server_key_file())?
        .arg("--stall-seconds=1")
        .start()?;
    let stuck_id = register(&mut stuck)?;
    api.wait_for_room("Stuck", "listed", |_| true)?;
    let folder = tempfile::tempdir()?;
    let release = folder.path().join("release");
    stuck.ask(&json!({ "do": "hang", "until": release }))?;
    stuck.log().wait_for("EVENT hanging")?;
    until("the stuck server to be unhealthy or gone", || {
        let rooms = api.rooms()?;
        let listed = rooms.iter().any(|room| room.name == "Stuck" && room.status != ServerStatus::Unhealthy);
        Ok((!listed).then_some(()))
    })?;
    ensure!(stuck.godot().is_running()?, "{}", stuck.log().tail());
    fs::write(&release, "")?;
    let room = api.wait_for_room("Stuck", "listed again", |room| room.status == ServerStatus::Ready)?;
    ensure!(room.room_id == stuck_id, "it came back under another id: {room:?}");
    stuck.godot().signal(Signal::TERM)?;
    stuck.godot().finish(0)?;

    api.wait_for_no_room("Dead")
}

#[test]
fn heartbeats_go_on_through_a_hitch() -> Result<()> {
    let backend = Backend::start_with(SHORT)?;
    let api = backend.api()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut server = fixture::server("Hitch", &proxy.url(), &backend.server_key_file())?
        .arg("--stall-seconds=300")
        .start()?;
    let server_id = register(&mut server)?;
    let folder = tempfile::tempdir()?;
    let release = folder.path().join("release");
    server.ask(&json!({ "do": "hang", "until": release }))?;
    server.log().wait_for("EVENT hanging")?;

    // More heartbeats than one lease has room for.
    let path = backend_protocol::routes::heartbeat(&server_id);
    proxy.wait_for_requests(&path, proxy.requests(&path) + 6)?;
    let room = api.wait_for_room("Hitch", "still listed", |room| room.status == ServerStatus::Ready)?;
    ensure!(room.room_id == server_id, "{room:?}");
    ensure!(!server.log().contains("EVENT unhung"), "the hitch was over too early\n{}", server.log().tail());

    fs::write(&release, "")?;
    server.log().wait_for("EVENT unhung")?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}
