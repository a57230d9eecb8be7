//! Rooms on demand: a real backend starts real dedicated servers, and none is left behind.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::demo;
use test_harness::fixture::{self, Fixture};
use test_harness::godot::Launch;
use test_harness::room_servers::RoomServers;
use test_harness::until;

fn player(name: &str, backend: &Backend) -> Result<Fixture> {
    let mut client = fixture::client(name, &backend.url())?.start()?;
    client.ask(&json!({"do": "log_in", "name": name}))?;
    Ok(client)
}

fn field(answer: &Value, name: &str) -> Result<String> {
    Ok(answer[name].as_str().with_context(|| answer.to_string())?.to_owned())
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_room_is_created_joined_by_quick_play_and_ends_when_it_is_empty() -> Result<()> {
    let servers = RoomServers::of_the_demo(&json!({"empty_timeout_seconds": 3}))?;
    let backend = servers.backend(&["--ticket-seconds", "5"])?;
    let api = backend.api()?;
    let mut ada = player("Ada", &backend)?;
    let created = ada.ask(&json!({"do": "create_room", "name": "Lily", "mode": "race", "max_players": 4}))?;
    ensure!(
        (field(&created, "name")?, field(&created, "mode")?) == ("Lily".into(), "race".into()),
        "{created}"
    );
    let mut bob = player("Bob", &backend)?;
    let found = bob.ask(&json!({"do": "quick_play", "mode": "race"}))?;
    ensure!(found["room_id"] == created["room_id"], "{created} {found}");
    // The server has taken the room over, and says so itself.
    api.wait_for_room("Lily", "described by its server", |room| {
        room.max_players == 4 && room.mode == "race"
    })?;
    // Two bots race in it.
    let mut bots = [demo::bot("Ada", "Lily", &backend.url()), demo::bot("Bob", "Lily", &backend.url())]
        .map(Launch::start)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    for bot in &mut bots {
        bot.finish(0)?;
    }
    // Nobody has come with the first two tickets; when these have expired, the room is empty.
    servers.wait_until_none_runs()?;
    api.wait_for_no_room("Lily")
}

#[test]
fn a_spare_is_there_at_once_and_followed_by_another() -> Result<()> {
    let servers = RoomServers::of_the_demo(&json!({}))?;
    let mut backend = servers.backend(&["--spare-servers", "1"])?;
    let api = backend.api()?;
    let mut ada = player("Ada", &backend)?;
    let spare = servers.server_pid()?;
    until("the spare to register", || {
        let folder = servers.kept().into_iter().next().context("no spare")?;
        let log = fs::read_to_string(folder.join("output.log")).unwrap_or_default();
        Ok(log.contains("registered").then_some(()))
    })?;
    ensure!(api.rooms()?.is_empty(), "a spare is listed: {:?}", api.rooms()?);
    ada.ask(&json!({"do": "create_room", "name": "Lily", "mode": "race"}))?;
    api.wait_for_room("Lily", "taken over", |room| room.mode == "race")?;
    until("the next spare", || Ok((servers.kept().len() == 2).then_some(())))?;
    ensure!(runs(spare), "the spare has ended");
    // A backend that stops leaves its servers running: the next start finds them.
    backend.stop()?;
    ensure!(servers.kept().len() == 2 && runs(spare));
    Ok(())
}

#[test]
fn a_server_that_cannot_start_is_reported_with_what_it_said() -> Result<()> {
    let servers = RoomServers::of(&["sh", "-c", "echo loading; echo no such map >&2; exit 3"], &json!({}))?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let failed = ada.ask(&json!({"do": "create_room"}))?;
    let message = field(&failed, "message")?;
    ensure!(field(&failed, "failed")? == "room_start_failed", "{failed}");
    ensure!(message.contains("exit code 3") && message.contains("no such map"), "{message}");
    backend.log()?.wait_for("a server did not start: it ended with exit code 3")?;
    servers.wait_until_none_runs()
}

#[test]
fn cancelling_reclaims_the_server() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({}))?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let after = servers.folder().join("cancel");
    // Cancelled when the server runs.
    let cancel = after.clone();
    let pid = std::thread::scope(|scope| -> Result<i32> {
        let started = scope.spawn(|| -> Result<i32> {
            let pid = servers.server_pid()?;
            fs::write(cancel, "")?;
            Ok(pid)
        });
        let outcome = ada.ask(&json!({"do": "cancel_create_room", "after": after}))?;
        ensure!(field(&outcome, "failed")? == "cancelled", "{outcome}");
        started.join().map_err(|_| anyhow::anyhow!("no server was started"))?
    })?;
    servers.wait_until_none_runs()?;
    ensure!(!runs(pid), "the server still runs");
    Ok(())
}

#[test]
fn a_game_that_quits_cancels_its_request() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({}))?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let after = servers.folder().join("quit");
    std::thread::scope(|scope| -> Result<()> {
        let started = scope.spawn(|| -> Result<()> {
            servers.server_pid()?;
            Ok(fs::write(&after, "")?)
        });
        ada.ask(&json!({"do": "cancel_create_room", "after": after, "quit": true}))?;
        started.join().map_err(|_| anyhow::anyhow!("no server was started"))?
    })?;
    ada.godot().finish(0)?;
    let metrics = backend.api()?.metrics()?;
    let is_cancelled = |line: &str| {
        line.contains("backend_requests_total") && line.contains("/rooms/requests/") && line.contains("204")
    };
    ensure!(metrics.lines().any(is_cancelled), "the process did not wait for it: {metrics}");
    servers.wait_until_none_runs()
}

#[test]
fn a_backend_that_is_killed_finds_its_rooms_again() -> Result<()> {
    let servers = RoomServers::of_the_demo(&json!({"empty_timeout_seconds": 0}))?;
    let mut backend = servers.backend(&["--heartbeat-seconds", "1", "--lease-seconds", "10"])?;
    let api = backend.api()?;
    let mut ada = player("Ada", &backend)?;
    ada.ask(&json!({"do": "create_room", "name": "Lily"}))?;
    let pid = servers.server_pid()?;
    backend.kill()?;
    ensure!(runs(pid), "the server ended with the backend");
    backend.resume()?;
    api.wait_for_room("Lily", "still there", |room| room.players == 0)?;
    ensure!(servers.server_pid()? == pid && servers.kept().len() == 1, "it was started again");
    // It is the same room in every way: its end is seen, and it leaves the list.
    kill_process(Pid::from_raw(pid).context("no process")?, Signal::KILL)?;
    api.wait_for_no_room("Lily")?;
    servers.wait_until_none_runs()?;
    backend.log()?.wait_for("a room has ended: it was ended by signal 9")?;
    Ok(())
}

#[test]
fn a_backend_that_is_killed_while_a_server_starts_goes_on_or_ends_it() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({"start_timeout_seconds": 5}))?;
    let mut backend = servers.backend(&[])?;
    let player = backend.api()?.log_in("Ada")?;
    player.request_room("one")?;
    let pid = servers.server_pid()?;
    backend.kill()?;
    ensure!(runs(pid));
    // It never registers, so that the next run of the backend ends it.
    backend.resume()?;
    servers.wait_until_none_runs()?;
    ensure!(!runs(pid), "what an earlier run has started still runs");
    Ok(())
}

#[test]
fn a_server_of_a_database_that_is_gone_is_reaped() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({}))?;
    let mut backend = servers.backend(&[])?;
    backend.api()?.log_in("Ada")?.request_room("one")?;
    let pid = servers.server_pid()?;
    backend.kill()?;
    backend.erase()?;
    backend.resume()?;
    servers.wait_until_none_runs()?;
    ensure!(!runs(pid), "nobody knows of it, and it still runs");
    Ok(())
}

#[test]
fn a_server_that_prints_without_end_is_kept_within_bounds() -> Result<()> {
    let servers = RoomServers::of(
        &["yes", "a frog that never stops"],
        &json!({"log_kib": 64, "start_timeout_seconds": 3}),
    )?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let failed = ada.ask(&json!({"do": "create_room"}))?;
    ensure!(field(&failed, "message")?.contains("did not register within 3 s"), "{failed}");
    servers.wait_until_none_runs()?;
    for entry in fs::read_dir(servers.logs())? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let mut kept = 0;
        for file in fs::read_dir(entry.path())? {
            kept += file?.metadata()?.len();
        }
        ensure!(kept <= 64 * 1024, "{kept} bytes are kept");
    }
    Ok(())
}

#[test]
fn servers_are_started_in_another_folder_by_a_relative_path() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({"working_directory": "/"}))?;
    let name =
        servers.folder().file_name().context("a folder without a name")?.to_string_lossy().into_owned();
    // The backend runs in a folder beside this one.
    let backend = Backend::start_with(&["--rooms-on-demand", &format!("../{name}/rooms.json")])?;
    backend.api()?.log_in("Ada")?.request_room("one")?;
    let pid = servers.server_pid()?;
    ensure!(fs::read_link(format!("/proc/{pid}/cwd"))? == Path::new("/"));
    Ok(())
}

#[test]
fn two_backends_never_share_a_folder() -> Result<()> {
    let servers = RoomServers::of(&["sleep", "1000"], &json!({}))?;
    let mut first = servers.backend(&[])?;
    first.api()?.log_in("Ada")?.request_room("one")?;
    let pid = servers.server_pid()?;
    // Of another database, it would end what it does not know.
    let refused = format!("{:#}", servers.backend(&[]).err().context("a second backend has started")?);
    ensure!(refused.contains("room-servers cannot be used: another backend uses it"), "{refused}");
    first.stop()?;
    let refused =
        servers.backend(&["--environment", "staging"]).err().context("another environment has started")?;
    ensure!(format!("{refused:#}").contains("it belongs to a backend of"), "{refused:#}");
    ensure!(runs(pid), "another backend has ended the server");
    first.resume()
}
