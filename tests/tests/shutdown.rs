//! A server that is told to go saves everybody, says so, and goes.

use anyhow::{Result, ensure};
use end_to_end::backend::{Backend, as_whole};
use end_to_end::fixture::{self, Fixture, FixtureLaunch};
use rustix::process::Signal;
use serde_json::json;

/// The end-of-shutdown line of the addon.
const SUMMARY: &str = "backend_client: shutdown complete";

/// A fixture server that sends nothing on its own for an hour, so that every save waits for the shutdown.
fn quiet_server(backend: &Backend, name: &str) -> Result<FixtureLaunch> {
    let launch = fixture::server(name, &backend.url(), &backend.server_key_file())?;
    Ok(launch.arg("--debounce-seconds=3600").arg("--max-delay-seconds=3600"))
}

/// Registers `server` and makes it hold `count` new players with an unsaved document each.
fn with_dirty_players(server: &mut Fixture, backend: &Backend, count: usize) -> Result<()> {
    let api = backend.api()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    let ids = (0..count).map(|number| Ok(api.log_in(&format!("Player {number}"))?.id().to_owned()));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": ids }))?;
    ensure!(loaded.get("documents").is_some(), "{loaded}");
    let saved = server.ask(&json!({ "do": "save", "key": "progress", "value": { "races": 7 } }))?;
    ensure!(saved["dirty"].as_f64().is_some_and(|dirty| as_whole(&json!(dirty)) == count as i64), "{saved}");
    ensure!(backend.players()?.iter().all(|player| player.documents.is_empty()), "saved too early");
    Ok(())
}

/// Everybody has what was handed over before the signal and what the game handed in when asked for it.
fn all_saved(backend: &Backend, count: usize, last_words: bool) -> Result<()> {
    let players = backend.players()?;
    ensure!(players.len() == count, "{} players", players.len());
    for player in players {
        ensure!(player.progress("races") == 7, "{player:?}");
        ensure!(player.documents.contains_key("last") == last_words, "{player:?}");
    }
    Ok(())
}

fn orderly(signal: Signal, reason: &str) -> Result<()> {
    const PLAYERS: usize = 50;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Orderly")?.start()?;
    with_dirty_players(&mut server, &backend, PLAYERS)?;
    server.godot().signal(signal)?;
    server.godot().finish(0)?;
    let summary = server.log().wait_for(SUMMARY)?;
    for part in [reason, "saved=", "unsaved=0", "deregistered=true"] {
        ensure!(summary.contains(part), "no {part:?} in {summary}");
    }
    all_saved(&backend, PLAYERS, true)?;
    ensure!(backend.api()?.rooms()?.is_empty(), "it is still listed");
    Ok(())
}

#[test]
fn sigterm_saves_fifty_players_and_exits_with_zero() -> Result<()> {
    orderly(Signal::TERM, "reason=SIGTERM")
}

#[test]
fn sigint_does_the_same() -> Result<()> {
    orderly(Signal::INT, "reason=SIGINT")
}

#[test]
fn sigterm_works_as_process_one_of_a_container() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Container")?.with_pid_one().start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    all_saved(&backend, 5, true)
}

#[test]
fn a_blocked_main_thread_does_not_stop_the_saves() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Blocked")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "6").start()?;
    with_dirty_players(&mut server, &backend, 10)?;
    let folder = tempfile::tempdir()?;
    server.ask(&json!({ "do": "hang", "until": folder.path().join("never") }))?;
    server.log().wait_for("EVENT hanging")?;
    server.godot().signal(Signal::TERM)?;
    // The main thread never wakes up; that the process ends at all is the watchdog's doing.
    let code = server.godot().wait()?;
    ensure!(!server.log().contains("EVENT unhung"), "{}", server.log().tail());
    ensure!(server.log().contains("saved=10"), "exit code {code}\n{}", server.log().tail());
    all_saved(&backend, 10, false)?;
    backend.api()?.wait_for_no_room("Blocked")
}

#[test]
fn a_second_signal_ends_it_at_once() -> Result<()> {
    let mut backend = Backend::start()?;
    // Nothing but the second signal ends this within the patience of a test.
    let mut server =
        quiet_server(&backend, "Impatient")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600").start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    server.log().wait_for("EVENT draining")?;
    ensure!(server.godot().is_running()?, "it should still be trying to save\n{}", server.log().tail());
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code != 0, "unsaved players and exit code 0\n{}", server.log().tail());
    Ok(())
}

#[test]
fn with_the_backend_down_it_ends_in_time_and_says_what_is_unsaved() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Alone")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5").start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    let summary = server.log().wait_for(SUMMARY)?;
    ensure!(summary.contains("unsaved=") && !summary.contains("unsaved=0"), "{summary}");
    ensure!(summary.contains("deregistered=false"), "{summary}");
    ensure!(code != 0, "three players are unsaved, and the exit code is 0\n{}", server.log().tail());
    Ok(())
}

#[test]
fn a_shutdown_can_be_asked_for_by_the_game() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Console")?.start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    server.send(&json!({ "do": "request_shutdown", "reason": "maintenance" }))?;
    server.godot().finish(0)?;
    ensure!(server.log().wait_for(SUMMARY)?.contains("reason=maintenance"), "{}", server.log().tail());
    all_saved(&backend, 2, true)
}

#[test]
fn a_server_without_players_closes_itself() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Empty")?.arg("--empty-server-timeout=1").start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    server.godot().finish(0)?;
    ensure!(server.log().wait_for(SUMMARY)?.contains("reason=empty"), "{}", server.log().tail());
    all_saved(&backend, 1, true)?;
    backend.api()?.wait_for_no_room("Empty")
}
