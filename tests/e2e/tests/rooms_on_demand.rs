//! Rooms on demand: a real backend starts real dedicated servers, and none is left behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_harness::backend::{Backend, free_port};
use test_harness::demo;
use test_harness::fixture::{self, Fixture};
use test_harness::godot::Launch;
use test_harness::until;

/// The settings of a backend that starts servers, and their homes.
struct Servers {
    folder: TempDir,
}

impl Servers {
    /// Servers of the demo, started with the real engine.
    fn of_the_demo(change: &Value) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("rooms-").tempdir()?;
        let launch = Launch::headless("room", "demo").arg("--port={port}").arg("--race-length=5");
        let command = launch.command(folder.path())?;
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let words: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
        let environment: serde_json::Map<String, Value> = command
            .get_envs()
            .filter_map(|(name, value)| Some((text(name), Value::String(text(value?)))))
            .collect();
        let servers = Self { folder };
        servers.write(json!({"command": words, "environment": environment}), change)?;
        Ok(servers)
    }

    /// Servers that are something else.
    fn of(command: &[&str], change: &Value) -> Result<Self> {
        let servers = Self { folder: tempfile::Builder::new().prefix("rooms-").tempdir()? };
        servers.write(json!({ "command": command }), change)?;
        Ok(servers)
    }

    fn write(&self, mut file: Value, change: &Value) -> Result<()> {
        let first = free_port()?.min(65_000);
        file["ports"] = format!("{first}-{}", first + 100).into();
        file["log_in_errors"] = true.into();
        file["stop_grace_seconds"] = 20.into();
        file["start_timeout_seconds"] = 120.into();
        for (member, value) in change.as_object().into_iter().flatten() {
            file[member] = value.clone();
        }
        Ok(fs::write(self.file(), file.to_string())?)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("rooms.json")
    }

    fn backend(&self, extra: &[&str]) -> Result<Backend> {
        let file = self.file().display().to_string();
        let arguments: Vec<&str> =
            ["--rooms-on-demand", &file].iter().copied().chain(extra.iter().copied()).collect();
        Backend::start_with(&arguments)
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("room-servers")
    }

    /// The folders of servers that have not been released.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.logs()).into_iter().flatten();
        let folders = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        folders.filter(|folder| folder.join("port").exists()).collect()
    }

    fn wait_until_none_runs(&self) -> Result<()> {
        until("all servers to have ended", || Ok(self.kept().is_empty().then_some(())))
    }

    /// The process id of the only server.
    fn server_pid(&self) -> Result<i32> {
        until("a server to run", || {
            let kept = self.kept();
            let Some(folder) = kept.first() else { return Ok(None) };
            let Ok(text) = fs::read(folder.join("process.json")) else { return Ok(None) };
            let file: Value = serde_json::from_slice(&text)?;
            Ok(file["server"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()))
        })
    }
}

impl Drop for Servers {
    /// A test that fails leaves no servers either.
    fn drop(&mut self) {
        for folder in self.kept() {
            let text = fs::read(folder.join("process.json")).unwrap_or_default();
            let file: Value = serde_json::from_slice(&text).unwrap_or_default();
            let pid = file["server"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            if let Some(group) = pid.filter(|pid| *pid > 1).and_then(Pid::from_raw) {
                let _gone = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

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
    let servers = Servers::of_the_demo(&json!({"empty_timeout_seconds": 3}))?;
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
    let servers = Servers::of_the_demo(&json!({}))?;
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
    let servers = Servers::of(&["sh", "-c", "echo loading; echo no such map >&2; exit 3"], &json!({}))?;
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
    let servers = Servers::of(&["sleep", "1000"], &json!({}))?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let after = servers.folder.path().join("cancel");
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
    let servers = Servers::of(&["sleep", "1000"], &json!({}))?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let after = servers.folder.path().join("quit");
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
    let servers = Servers::of_the_demo(&json!({"empty_timeout_seconds": 0}))?;
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
    let servers = Servers::of(&["sleep", "1000"], &json!({"start_timeout_seconds": 5}))?;
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
    let servers = Servers::of(&["sleep", "1000"], &json!({}))?;
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
    let servers = Servers::of(
        &["yes", "a frog that never stops"],
        &json!({"log_kib": 64, "start_timeout_seconds": 3}),
    )?;
    let backend = servers.backend(&[])?;
    let mut ada = player("Ada", &backend)?;
    let failed = ada.ask(&json!({"do": "create_room"}))?;
    ensure!(field(&failed, "message")?.contains("did not register within 3 s"), "{failed}");
    servers.wait_until_none_runs()?;
    for entry in fs::read_dir(servers.logs())? {
        let mut kept = 0;
        for file in fs::read_dir(entry?.path())? {
            kept += file?.metadata()?.len();
        }
        ensure!(kept <= 64 * 1024, "{kept} bytes are kept");
    }
    Ok(())
}
