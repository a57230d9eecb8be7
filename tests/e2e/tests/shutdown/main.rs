//! A server that is told to go saves everybody, says so, and goes.

mod agones;
mod closed_output;
mod clouds;
mod owed;
mod quitting;
mod repeated;
mod saving_game;
mod starting;
mod stuck_game;
#[cfg(target_os = "linux")]
mod systemd;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::backend::{Backend, as_whole};
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture, FixtureLaunch};
use test_harness::until;

/// How the end-of-shutdown line of the addon begins.
const LINE: &str = "backend_client: shutdown ";
const COMPLETE: &str = "backend_client: shutdown complete";

/// A fixture server that sends nothing on its own for an hour, so that every save waits for the shutdown.
fn quiet_server(backend: &Backend, name: &str) -> Result<FixtureLaunch> {
    let launch = fixture::server(name, &backend.url(), &backend.server_key_file())?;
    Ok(launch.arg("--debounce-seconds=3600").arg("--max-delay-seconds=3600"))
}

/// [`quiet_server`] whose journal outlives it.
fn quiet_server_with(backend: &Backend, name: &str, journal: &Path) -> Result<FixtureLaunch> {
    Ok(quiet_server(backend, name)?.env("BACKEND_JOURNAL_FOLDER", &journal.to_string_lossy()))
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
fn all_saved(backend: &Backend, count: usize, has_last_save: bool) -> Result<()> {
    let players = backend.players()?;
    ensure!(players.len() == count, "{} players", players.len());
    for player in players {
        ensure!(player.progress("races") == 7, "{player:?}");
        ensure!(player.documents.contains_key("last") == has_last_save, "{player:?}");
    }
    Ok(())
}

/// Nothing of it has reached the backend.
fn none_saved(backend: &Backend) -> Result<()> {
    ensure!(backend.players()?.iter().all(|player| player.documents.is_empty()), "{:?}", backend.players()?);
    Ok(())
}

/// The next server with this journal delivers what is left in it, without being asked, and then leaves in good order.
fn next_start_delivers(backend: &Backend, journal: &Path, count: usize, has_last_save: bool) -> Result<()> {
    let mut server = quiet_server_with(backend, "Successor", journal)?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    let delivered = until("what was left in the journal in the backend", || {
        Ok(all_saved(backend, count, has_last_save).is_ok().then_some(()))
    });
    delivered.with_context(|| server.log().tail())?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has("left_in_journal", "0")
}

/// Waits until a signal no longer belongs to the one before.
fn another_request() {
    std::thread::sleep(Duration::from_millis(2_100));
}

/// The one line that says what a shutdown achieved.
struct Summary(String, HashMap<String, String>);

fn summary(server: &Fixture) -> Result<Summary> {
    let line = server.log().wait_for(LINE)?;
    let count = server.log().lines().iter().filter(|line| line.contains(LINE)).count();
    ensure!(count == 1, "{count} lines of summary\n{}", server.log().tail());
    let fields = line.split_whitespace().filter_map(|word| word.split_once('='));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Summary(line, fields))
}

impl Summary {
    fn has(&self, name: &str, value: &str) -> Result<()> {
        let found = self.1.get(name);
        ensure!(found.is_some_and(|found| found == value), "no {name}={value} in {}", self.0);
        Ok(())
    }

    fn has_all(&self, wanted: &[(&str, &str)]) -> Result<()> {
        wanted.iter().try_for_each(|(name, value)| self.has(name, value))
    }
}

fn orderly(signal: Signal, reason: &str) -> Result<()> {
    const PLAYERS: usize = 50;
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Orderly")?.start()?;
    with_dirty_players(&mut server, &backend, PLAYERS)?;
    server.godot().signal(signal)?;
    server.godot().finish(0)?;
    let summary = summary(&server)?;
    ensure!(summary.0.contains(COMPLETE), "{}", summary.0);
    // One document each from before the signal, one from the game's last words.
    summary.has_all(&[
        ("reason", reason),
        ("players", "50"),
        ("saved_locally", "100"),
        ("saved", "100"),
        ("conflicted", "0"),
        ("refused", "0"),
        ("not_collected", "0"),
        ("left_in_journal", "0"),
        ("unsaved", "0"),
        ("deregistered", "true"),
        ("exit_code", "0"),
    ])?;
    for phase in ["collect_ms", "journal_ms", "send_ms", "release_ms", "total_ms"] {
        ensure!(
            summary.1.get(phase).is_some_and(|ms| ms.parse::<u64>().is_ok()),
            "no {phase} in {}",
            summary.0
        );
    }
    all_saved(&backend, PLAYERS, true)?;
    ensure!(backend.api()?.rooms()?.is_empty(), "it is still listed");
    // Nothing keeps the process, which would wait for it in vain.
    ensure!(!server.log().contains("the process ends before"), "{}", server.log().tail());
    Ok(())
}

#[test]
fn sigterm_saves_fifty_players_and_exits_with_zero() -> Result<()> {
    orderly(Signal::TERM, "SIGTERM")
}

#[test]
fn sigint_does_the_same() -> Result<()> {
    orderly(Signal::INT, "SIGINT")
}

#[test]
fn sighup_does_the_same() -> Result<()> {
    orderly(Signal::HUP, "SIGHUP")
}

#[test]
fn sigterm_works_as_process_one_of_a_container() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Container")?.with_pid_one().start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("saved", "10"), ("unsaved", "0"), ("deregistered", "true")])?;
    all_saved(&backend, 5, true)
}

#[test]
fn a_second_signal_ends_process_one_of_a_container_too() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Impatient container")?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600")
        .with_pid_one()
        .start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    server.log().wait_for("EVENT progress phase=sending")?;
    another_request();
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 143, "exit code {code}\n{}", server.log().tail());
    Ok(())
}

#[test]
fn a_second_signal_ends_it_at_once_with_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    // Nothing but the second signal ends this within the time limit of a test.
    let mut server = quiet_server_with(&backend, "Impatient", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    server.log().wait_for("EVENT progress phase=sending")?;
    ensure!(server.godot().is_running()?, "it should still be trying to save\n{}", server.log().tail());
    another_request();
    server.godot().signal(Signal::INT)?;
    let code = server.godot().wait()?;
    ensure!(code == 130, "exit code {code}\n{}", server.log().tail());
    let summary = summary(&server)?;
    ensure!(summary.0.contains("cut short by a second request"), "{}", summary.0);
    summary.has_all(&[("left_in_journal", "6"), ("unsaved", "0"), ("exit_code", "130")])?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 3, true)
}

#[test]
fn with_the_backend_down_everything_waits_in_the_journal_for_the_next_start() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Alone", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    let summary = summary(&server)?;
    ensure!(summary.0.contains("6 documents are safe in the journal"), "{}", summary.0);
    summary.has_all(&[
        ("saved_locally", "6"),
        ("saved", "0"),
        ("left_in_journal", "6"),
        ("unsaved", "0"),
        ("deregistered", "false"),
        ("exit_code", "75"),
    ])?;
    // Its own deadline ended the attempt, and not a kill: the plan aims at 80 % of the grace, and ends at 95 %.
    ensure!(summary.0.contains(COMPLETE), "{}", summary.0);
    let total: u64 = summary.1["total_ms"].parse()?;
    ensure!(total <= 5_000, "{}", summary.0);
    backend.resume()?;
    none_saved(&backend)?;
    next_start_delivers(&backend, journal.path(), 3, true)
}

#[test]
fn with_neither_disk_nor_backend_it_says_that_documents_are_lost() -> Result<()> {
    let mut backend = Backend::start()?;
    // No folder can be made below a file.
    let mut server = quiet_server_with(&backend, "Lost", &backend.server_key_file().join("journal"))?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5")
        .start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    let summary = summary(&server)?;
    ensure!(summary.0.contains("documents are lost"), "{}", summary.0);
    // What an earlier run may have left there is not known.
    summary.has_all(&[("saved_locally", "0"), ("left_in_journal", "unknown"), ("unsaved", "4")])
}

#[test]
fn a_shutdown_can_be_asked_for_by_the_game() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Console")?.start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    server.send(&json!({ "do": "request_shutdown", "reason": "maintenance" }))?;
    server.godot().finish(0)?;
    summary(&server)?.has("reason", "maintenance")?;
    all_saved(&backend, 2, true)
}

#[test]
fn a_server_without_players_closes_itself() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Empty")?.arg("--empty-server-timeout=8").start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    server.godot().finish(0)?;
    summary(&server)?.has("reason", "empty")?;
    all_saved(&backend, 1, true)?;
    backend.api()?.wait_for_no_room("Empty")
}

/// Blocks the main thread until the file exists.
fn hang(server: &mut Fixture, until: &Path) -> Result<()> {
    let before = server.log().len();
    server.ask(&json!({ "do": "hang", "until": until }))?;
    server.log().wait_after(before, "EVENT hanging")?;
    Ok(())
}
