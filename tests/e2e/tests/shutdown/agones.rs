//! The life of a server in a fleet of Agones, and what becomes of it when its sidecar misbehaves.

use std::time::Duration;

use test_harness::agones::{AgonesPeer, GameServer, Manner};

use super::*;

/// Longer than the pause between two health calls of a GameServer with a period of two seconds.
const SILENCE: Duration = Duration::from_secs(3);

fn game_server() -> GameServer {
    GameServer {
        ports: vec![("query".to_owned(), 7_412), ("game".to_owned(), 7_411)],
        counters: [("players".to_owned(), (0, 4))].into(),
        health_period: 2,
        ..GameServer::default()
    }
}

/// A fixture server in a pod with this sidecar.
fn in_a_pod(backend: &Backend, name: &str, peer: &AgonesPeer) -> Result<FixtureLaunch> {
    let port = peer.port().to_string();
    Ok(quiet_server(backend, name)?
        .env("AGONES_SDK_HTTP_PORT", &port)
        // As in a pod whose recipe leaves the address to the host.
        .env("BACKEND_PUBLIC_ADDRESS", "auto"))
}

#[test]
fn a_server_of_a_fleet_lives_from_a_late_sidecar_to_a_deletion() -> Result<()> {
    let backend = Backend::start()?;
    let peer = AgonesPeer::new(game_server())?;
    let mut server = in_a_pod(&backend, "Fleet", &peer)?.start()?;
    server
        .log()
        .wait_for(&format!("host: Agones (sidecar at port {}, by AGONES_SDK_HTTP_PORT)", peer.port()))?;
    // Registering waits for the address, which only the sidecar knows.
    server.send(&json!({ "do": "register" }))?;
    peer.start(Manner::Good)?;
    let registered = server.answer()?;
    let server_id = registered["server_id"].as_str().with_context(|| registered.to_string())?;
    let ready = peer.wait_for_state("Ready")?;
    ensure!(ready.sdk_annotation("server-id") == Some(server_id), "{ready:?}");
    let room = backend.api()?.wait_for_room("Fleet", "listed", |_| true)?;
    let place = (room.address.as_str(), room.port, room.query_port);
    ensure!(place == ("192.0.2.17", 7_411, Some(7_412)), "{place:?}");
    peer.wait_for_calls("POST /health", 2)?;

    peer.allocate(&[("match", "m7")], &[("map", "pond")])?;
    server.log().wait_for(&format!("EVENT allocated name={} map=pond match=m7", GameServer::NAME))?;
    server.ask(&json!({ "do": "set_players", "players": 2 }))?;
    peer.wait_until("two players", |game_server| game_server.counters["players"] == (2, 16))?;
    with_dirty_players(&mut server, &backend, 2)?;

    peer.delete()?;
    server.log().wait_for("EVENT host_notice reason=agones_deleted deadline=25")?;
    server.godot().finish(0)?;
    let lines = server.log().lines();
    let position = |part: &str| lines.iter().position(|line| line.contains(part));
    ensure!(position("EVENT host_notice") < position("EVENT draining reason=agones_deleted"), "{lines:?}");
    summary(&server)?.has_all(&[
        ("reason", "agones_deleted"),
        ("left_in_journal", "0"),
        ("exit_code", "0"),
    ])?;
    all_saved(&backend, 2, true)?;
    ensure!(peer.count("POST /shutdown") == 1 && peer.count("POST /allocate") == 0, "{:?}", peer.calls());
    peer.check()
}

#[test]
fn sigterm_in_a_pod_tells_the_sidecar_when_all_is_saved() -> Result<()> {
    let backend = Backend::start()?;
    let peer = AgonesPeer::new(game_server())?;
    peer.start(Manner::Good)?;
    let mut server = in_a_pod(&backend, "Scaled down", &peer)?.start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    // Whoever came by the room list keeps the server from being scaled down.
    peer.wait_for_state("Ready")?;
    server.ask(&json!({ "do": "set_players", "players": 1 }))?;
    peer.wait_for_state("Allocated")?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    all_saved(&backend, 2, true)?;
    let game_server = peer.game_server();
    ensure!(game_server.sdk_label("draining") == Some("true"), "{game_server:?}");
    ensure!(game_server.state == "Shutdown", "{game_server:?}");
    ensure!(!server.log().contains("EVENT allocated"), "{}", server.log().tail());
    peer.check()
}

#[test]
fn a_sidecar_that_misbehaves_costs_no_save() -> Result<()> {
    let backend = Backend::start()?;
    for (number, manner) in [Some(Manner::Garbage), Some(Manner::Hangs), None].into_iter().enumerate() {
        let peer = AgonesPeer::new(game_server())?;
        peer.start(Manner::Good)?;
        let mut server = in_a_pod(&backend, "Unlucky", &peer)?.start()?;
        let registered = server.ask(&json!({ "do": "register" }))?;
        ensure!(registered["server_id"].is_string(), "{registered}");
        peer.wait_for_state("Ready")?;
        match manner {
            Some(manner) => peer.behave(manner),
            None => peer.kill_sidecar(),
        }
        let player = backend.api()?.log_in(&format!("Player {number}"))?;
        server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
        server.ask(&json!({ "do": "save", "key": "progress", "value": { "races": 7 } }))?;
        server.godot().signal(Signal::TERM)?;
        server.godot().finish(0)?;
        all_saved(&backend, number + 1, true)?;
        peer.check()?;
    }
    Ok(())
}

#[test]
fn a_game_that_hangs_is_not_called_healthy() -> Result<()> {
    let backend = Backend::start()?;
    let peer = AgonesPeer::new(game_server())?;
    peer.start(Manner::Good)?;
    let folder = tempfile::tempdir()?;
    let mut server = in_a_pod(&backend, "Hung", &peer)?.arg("--stall-seconds=2").start()?;
    // Healthy before it is ready.
    peer.wait_for_calls("POST /health", 1)?;
    with_dirty_players(&mut server, &backend, 1)?;
    let wake = folder.path().join("wake");
    hang(&mut server, &wake)?;
    let silence = until("silence", || {
        let before = peer.count("POST /health");
        std::thread::sleep(SILENCE);
        Ok((peer.count("POST /health") == before).then_some(before))
    })?;
    std::fs::write(&wake, "")?;
    peer.wait_for_calls("POST /health", silence + 1)?;

    // What Agones does with a server that it gave up.
    peer.set_state("Unhealthy")?;
    server.log().wait_for("EVENT host_notice reason=agones_unhealthy")?;
    server.godot().finish(0)?;
    all_saved(&backend, 1, true)?;
    peer.check()
}
