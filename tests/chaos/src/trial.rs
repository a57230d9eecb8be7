//! One trial: a plan, played with real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use test_database::TestDatabase;
use test_harness::fault_proxy::{Fault, FaultProxy};

use crate::aftermath::Aftermath;
use crate::faults;
use crate::game_server::{GameServer, Launch, Stop};
use crate::history::History;
use crate::home::Home;
use crate::plan::{Ending, Kind, Plan, ServerPlan, TrialKind};
use crate::players::{LEAVE_MS, Player, SLACK};
use crate::program::Program;
use crate::sizes;
use crate::volume::Volume;
use crate::worlds;

/// How long the servers may take to be registered.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long everything may take to be delivered once all is healed: far above what backing off costs.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a player may take to get on a server once all is healed. As with all bounds here, only a failure takes so long.
const VISIT_MS: u64 = 20_000;
/// What one request of a game server may take.
const REQUEST_MS: u64 = 1_000;
/// What a game server has for its shutdown.
const GRACE_MS: u64 = 4_000;
/// What it has where it has to be able to deliver everything, on a machine that does a lot else.
const LONG_GRACE_MS: u64 = 10_000;

/// What trials of one kind share: backends that go on from trial to trial.
pub struct Arena {
    /// The backend, and the foreign one if there was need of it.
    pub homes: Vec<Home>,
    /// The program of the game servers.
    pub server_program: PathBuf,
    /// The database of the backend, dropped after it.
    _on_server: Option<TestDatabase>,
}

impl Arena {
    /// With one backend, on this database of PostgreSQL's if it is not on SQLite.
    pub fn new(home: Home, server_program: PathBuf, on_server: Option<TestDatabase>) -> Self {
        Self { homes: vec![home], server_program, _on_server: on_server }
    }

    /// Plays `plan` and leaves its history in `folder`. An error is a failure of the harness, not a verdict.
    pub fn play(&self, plan: &Plan, folder: &Path, stop: &AtomicBool) -> Result<()> {
        let history = Arc::new(History::create(folder)?);
        let journal = folder.join("journal-0");
        history.note(json!({ "event": "plan", "plan": plan }));
        let players = self.make_players(plan, &history)?;
        let volume = small_volume(plan, folder, &history)?;
        let servers = self.make_servers(plan, folder, &history)?;
        for server in &servers {
            server.start()?;
        }
        for (index, server) in servers.iter().enumerate() {
            ensure!(server.wait_for_registration(START_TIMEOUT), "game server {index} does not register");
        }
        let aftermath = Aftermath { plan, players: &players, homes: &self.homes, folder, history: &history };
        let last = act(&aftermath, &servers, volume.as_ref().map(|_| journal.as_path()), stop)?;
        self.end(&aftermath, &last, &servers)?;
        for (index, server) in servers.iter().enumerate() {
            let struck = server.proxy().struck();
            history.note(json!({
                "event": "proxy", "server": index, "requests": server.proxy().requests("/"),
                "struck": {
                    "refused": struck.refused, "swallowed": struck.swallowed, "reset": struck.reset,
                    "delayed": struck.delayed, "lost_reply": struck.dropped, "duplicated": struck.duplicated,
                    "truncated": struck.truncated, "hung_up": struck.hung_up,
                },
            }));
        }
        drop(servers);
        if let Some(volume) = volume {
            volume.keep()?;
        }
        script_errors(folder, &history)?;
        for (number, home) in self.homes.iter().enumerate() {
            home.truth.dump(number, &players, &history)?;
        }
        for path in journals(folder)? {
            history.note(json!({ "event": "journal", "path": path }));
        }
        history.note(json!({ "event": "end", "stopped_early": stop.load(Ordering::Relaxed) }));
        Ok(())
    }

    fn make_players(&self, plan: &Plan, history: &History) -> Result<Vec<String>> {
        let mut players = Vec::new();
        for (number, script) in plan.players.iter().enumerate() {
            let home = self.homes.get(script.backend).context("a player without a backend")?;
            let api = home.backend().api()?;
            players.push(api.log_in(&format!("Player {number}"))?.id().to_owned());
        }
        let homes: Vec<usize> = plan.players.iter().map(|script| script.backend).collect();
        history.note(json!({ "event": "players", "players": players, "backends": homes }));
        Ok(players)
    }

    fn make_servers(&self, plan: &Plan, folder: &Path, history: &Arc<History>) -> Result<Vec<GameServer>> {
        let make = |(index, server): (usize, &ServerPlan)| {
            let home = self.homes.get(server.backend).context("a server without a backend")?;
            let (address, key_file) = {
                let backend = home.backend();
                (backend.address(), backend.server_key_file())
            };
            let proxy = FaultProxy::start(address)?;
            if plan.late_loads {
                proxy.remember("/v1/players/load");
            }
            let grace_ms = if plan.kind == TrialKind::LeavingUnderLoad { LONG_GRACE_MS } else { GRACE_MS };
            let journal = folder.join(format!("journal-{}", server.journal));
            let common = [
                format!("--index={index}"),
                format!("--on-conflict={}", server.on_conflict.name()),
                format!("--backend-url={}", proxy.url()),
            ];
            let program = match server.kind {
                Kind::Client => {
                    let own = [
                        format!("--key-file={}", key_file.display()),
                        format!("--journal={}", journal.display()),
                        format!("--debounce-ms={}", plan.debounce_ms),
                        format!("--request-ms={REQUEST_MS}"),
                        format!("--grace-ms={grace_ms}"),
                    ];
                    let world = worlds::id_of(plan, history, index).map(|id| format!("--world={id}"));
                    let last = "--incarnation".to_owned();
                    let arguments = common.into_iter().chain(own).chain(world).chain([last]).collect();
                    Program::Client { path: self.server_program.clone(), arguments }
                }
                Kind::Godot => {
                    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
                    let own = [
                        "--role=chaos".to_owned(),
                        "--server".to_owned(),
                        format!("--backend-journal-folder={}", journal.display()),
                        format!("--debounce-seconds={}", seconds(plan.debounce_ms)),
                        format!("--request-seconds={}", seconds(REQUEST_MS)),
                        format!("--grace-seconds={}", seconds(grace_ms)),
                    ];
                    let arguments = common.into_iter().chain(own).collect();
                    let home = folder.join(format!("home-{index}"));
                    let piped = plan.kind == TrialKind::ClosedPipes;
                    Program::Godot { arguments, key_file, home, piped }
                }
            };
            let launch = Launch { index, program, log: folder.join(format!("server-{index}.log")) };
            Ok(GameServer::new(launch, proxy, Arc::clone(history)))
        };
        plan.servers.iter().enumerate().map(make).collect()
    }

    fn end(&self, aftermath: &Aftermath<'_>, last: &[Option<usize>], servers: &[GameServer]) -> Result<()> {
        let Aftermath { plan, players, history, .. } = *aftermath;
        for server in servers {
            server.look_for_crash()?;
        }
        if plan.ending == Ending::Crash {
            for server in servers {
                server.kill()?;
            }
            return Ok(());
        }
        if plan.ending == Ending::StopWithoutBackend {
            history.note(json!({ "event": "fault", "fault": "stop_without_backend" }));
            for home in &self.homes {
                home.backend().kill()?;
            }
            let stopped = in_parallel(servers, |server| aftermath.stop(server, &Stop::TERM).map(drop));
            for home in &self.homes {
                home.backend().resume()?;
            }
            stopped?;
        }
        for server in servers {
            server.proxy().set(Fault::None);
            server.start()?;
        }
        for (index, server) in servers.iter().enumerate() {
            ensure!(
                server.wait_for_registration(START_TIMEOUT),
                "game server {index} does not register again"
            );
        }
        deliver(servers, history)?;
        worlds::visit(plan, servers, history);
        if plan.ending == Ending::Deliver {
            visit(plan, players, last, servers, history)?;
            deliver(servers, history)?;
        }
        in_parallel(servers, |server| aftermath.stop(server, &Stop::TERM).map(drop))?;
        history.note(json!({ "event": "stopped" }));
        Ok(())
    }
}

/// Players and faults at the same time. Returns where each player was last.
fn act(
    aftermath: &Aftermath<'_>,
    servers: &[GameServer],
    volume: Option<&Path>,
    stop: &AtomicBool,
) -> Result<Vec<Option<usize>>> {
    let Aftermath { plan, players, .. } = *aftermath;
    let stage = &faults::Stage { servers, aftermath, volume, begin: Instant::now() };
    let own = [0, 1].map(|backend| {
        let of_it = plan.servers.iter().enumerate().filter(|(_, server)| server.backend == backend);
        of_it.map(|(index, _)| index).collect::<Vec<_>>()
    });
    let own = &own;
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(move || sizes::watch(aftermath, over));
        let struck: Vec<_> =
            plan.faults.iter().map(|fault| scope.spawn(move || stage.strike(fault))).collect();
        let played: Vec<_> = players
            .iter()
            .zip(&plan.players)
            .map(|(id, script)| {
                let own = own.get(script.backend).map_or(&[][..], Vec::as_slice);
                let late_loads = plan.late_loads;
                scope.spawn(move || Player { id, servers, own, late_loads, stop }.play(script))
            })
            .collect();
        for (server, puts) in servers.iter().zip(&plan.worlds) {
            scope.spawn(|| worlds::build(server, puts));
        }
        let last = played.into_iter().map(|player| player.join().map_err(|_| anyhow!("a player's thread")));
        let last = last.collect::<Result<Vec<_>>>();
        let faults: Vec<_> = struck.into_iter().map(thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        for fault in faults {
            fault.map_err(|_| anyhow!("a fault's thread"))??;
        }
        watcher.join().map_err(|_| anyhow!("the thread that looks at sizes"))?;
        last
    })
}

/// Mounts the volume of server 0's journal, if it is to have one and this machine can.
fn small_volume(plan: &Plan, folder: &Path, history: &History) -> Result<Option<Volume>> {
    let Some(mib) = plan.volume_mib else { return Ok(None) };
    // A folder of the temporary files' file system would do as well, but only root mounts.
    match Volume::mount(&folder.join("journal-0"), mib) {
        Ok(volume) => {
            history.note(json!({ "event": "volume", "server": 0, "mib": mib }));
            Ok(Some(volume))
        }
        Err(error) if !rustix::process::geteuid().is_root() => {
            history.note(json!({ "event": "not_run", "what": "small_volume", "why": format!("{error:#}") }));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn in_parallel(servers: &[GameServer], work: impl Fn(&GameServer) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = servers.iter().map(|server| scope.spawn(|| work(server))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a server's thread"))?)
    })
}

/// Waits until no server has anything left to send.
fn deliver(servers: &[GameServer], history: &History) -> Result<()> {
    let end = Instant::now() + DELIVERY_TIMEOUT;
    for (index, server) in servers.iter().enumerate() {
        loop {
            let answer = server.ask(json!({ "do": "flush", "within_ms": 2_000 }), Duration::from_secs(6));
            if answer.as_ref().is_some_and(|answer| answer.get("unsaved") == Some(&json!(0))) {
                break;
            }
            server.look_for_crash()?;
            if answer.is_none() {
                // Once more, so that a crash does not hide what else there is to see.
                server.start()?;
            }
            if Instant::now() >= end {
                history.note(json!({ "event": "undelivered", "server": index, "answer": answer }));
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Every player leaves in good order and is looked at on another server.
fn visit(
    plan: &Plan,
    players: &[String],
    last: &[Option<usize>],
    servers: &[GameServer],
    history: &History,
) -> Result<()> {
    let look = |number: usize| -> Option<()> {
        let player = &players[number];
        if let Some(server) = last[number] {
            let leave = json!({ "do": "leave", "player": player, "within_ms": LEAVE_MS });
            servers[server].ask(leave, Duration::from_millis(LEAVE_MS) + SLACK)?;
        }
        let server = &servers[plan.players[number].last_server];
        let end = Instant::now() + Duration::from_millis(VISIT_MS);
        loop {
            let join = json!({ "do": "join", "player": player, "within_ms": VISIT_MS });
            let answer = server.ask(join, Duration::from_millis(VISIT_MS) + SLACK)?;
            if answer.get("event") == Some(&Value::from("loaded")) {
                return Some(());
            }
            // On a loaded machine a request may run into its timeout: whoever wants to play tries again.
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(50));
        }
    };
    let look = &look;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..players.len()).map(|number| scope.spawn(move || look(number))).collect();
        for (number, thread) in threads.into_iter().enumerate() {
            let seen = thread.join().map_err(|_| anyhow!("a visitor's thread"))?;
            if seen.is_none() {
                history.note(json!({ "event": "unreachable", "player": players[number] }));
            }
        }
        Ok(())
    })
}

/// Notes what scripts in Godot complained of.
fn script_errors(folder: &Path, history: &History) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = fs::read(&path).with_context(|| path.display().to_string())?;
            let log = String::from_utf8_lossy(&log);
            for line in log.lines().filter(|line| line.contains("SCRIPT ERROR")) {
                history.note(json!({ "event": "script_error", "line": line }));
            }
        }
    }
    Ok(())
}

/// Every journal file below `folder`.
fn journals(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            for file in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                let file = file?.path();
                if file.extension().is_some_and(|extension| extension == "db") {
                    found.push(file);
                }
            }
        }
    }
    found.sort();
    Ok(found)
}
