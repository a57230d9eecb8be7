//! One trial: a plan, played with real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use end_to_end::backend::Backend;
use end_to_end::fault_proxy::{Fault, FaultProxy};
use serde_json::{Value, json};

use crate::faults;
use crate::game_server::{GameServer, Launch};
use crate::ground_truth::GroundTruth;
use crate::history::History;
use crate::plan::{Ending, Kind, Plan, ServerPlan};
use crate::players::{LEAVE_MS, Player, SLACK};
use crate::program::Program;
use crate::worlds;

/// How long the servers may take to be registered.
const START: Duration = Duration::from_secs(30);
/// How long everything may take to be delivered once all is healed: far above what backing off costs.
const DELIVERY: Duration = Duration::from_mins(1);
/// How long a player may take to get on a server once all is healed. As with all bounds here, only a failure takes so long.
const VISIT_MS: u64 = 20_000;
/// What one request of a game server may take.
const REQUEST_MS: u64 = 1_000;
/// What a game server has for its shutdown.
const GRACE_MS: u64 = 4_000;

/// What trials of one kind share: a backend that goes on from trial to trial.
pub struct Arena {
    /// The backend.
    pub backend: Mutex<Backend>,
    /// A way into its database.
    pub truth: GroundTruth,
    /// The program of the game servers.
    pub server_program: PathBuf,
}

impl Arena {
    /// Plays `plan` and leaves its history in `folder`. An error is a failure of the harness, not a verdict.
    pub fn play(&self, plan: &Plan, folder: &Path, stop: &AtomicBool) -> Result<()> {
        let history = Arc::new(History::create(folder)?);
        history.note(json!({ "event": "plan", "plan": plan }));
        let players = self.make_players(plan, &history)?;
        let servers = self.make_servers(plan, folder, &history)?;
        for server in &servers {
            server.start()?;
        }
        for (index, server) in servers.iter().enumerate() {
            ensure!(server.wait_for_registration(START), "game server {index} does not register");
        }
        let last = self.act(plan, &players, &servers, &history, stop)?;
        self.end(plan, &players, &last, &servers, &history)?;
        for (index, server) in servers.iter().enumerate() {
            let struck = server.proxy().struck();
            history.note(json!({
                "event": "proxy", "server": index, "requests": server.proxy().requests("/"),
                "struck": {
                    "refused": struck.refused, "swallowed": struck.swallowed, "reset": struck.reset,
                    "delayed": struck.delayed, "lost_reply": struck.dropped, "duplicated": struck.duplicated,
                    "truncated": struck.truncated,
                },
            }));
        }
        drop(servers);
        script_errors(folder, &history)?;
        self.truth.dump(&players, &history)?;
        for path in journals(folder)? {
            history.note(json!({ "event": "journal", "path": path }));
        }
        history.note(json!({ "event": "end", "stopped_early": stop.load(Ordering::Relaxed) }));
        Ok(())
    }

    fn backend(&self) -> std::sync::MutexGuard<'_, Backend> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_players(&self, plan: &Plan, history: &History) -> Result<Vec<String>> {
        let api = self.backend().api()?;
        let names = (0..plan.players.len()).map(|number| format!("Player {number}"));
        let players = names.map(|name| Ok(api.log_in(&name)?.id().to_owned())).collect::<Result<Vec<_>>>()?;
        history.note(json!({ "event": "players", "players": players }));
        Ok(players)
    }

    fn make_servers(&self, plan: &Plan, folder: &Path, history: &Arc<History>) -> Result<Vec<GameServer>> {
        let (address, key_file) = {
            let backend = self.backend();
            (backend.address(), backend.server_key_file())
        };
        let make = |(index, server): (usize, &ServerPlan)| {
            let proxy = FaultProxy::start(address)?;
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
                        format!("--grace-ms={GRACE_MS}"),
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
                        format!("--grace-seconds={}", seconds(GRACE_MS)),
                    ];
                    let arguments = common.into_iter().chain(own).collect();
                    let home = folder.join(format!("home-{index}"));
                    Program::Godot { arguments, key_file: key_file.clone(), home }
                }
            };
            let launch = Launch { index, program, log: folder.join(format!("server-{index}.log")) };
            Ok(GameServer::new(launch, proxy, Arc::clone(history)))
        };
        plan.servers.iter().enumerate().map(make).collect()
    }

    /// Players and faults at the same time. Returns where each player was last.
    fn act(
        &self,
        plan: &Plan,
        players: &[String],
        servers: &[GameServer],
        history: &History,
        stop: &AtomicBool,
    ) -> Result<Vec<Option<usize>>> {
        let stage = faults::Stage { servers, backend: &self.backend, history, begin: Instant::now() };
        let stage = &stage;
        thread::scope(|scope| {
            let struck: Vec<_> =
                plan.faults.iter().map(|fault| scope.spawn(move || stage.strike(fault))).collect();
            let played: Vec<_> = players
                .iter()
                .zip(&plan.players)
                .map(|(id, script)| scope.spawn(move || Player { id, servers, stop }.play(script)))
                .collect();
            for (server, puts) in servers.iter().zip(&plan.worlds) {
                scope.spawn(|| worlds::build(server, puts));
            }
            let last =
                played.into_iter().map(|player| player.join().map_err(|_| anyhow!("a player's thread")));
            let last = last.collect::<Result<Vec<_>>>();
            for fault in struck {
                fault.join().map_err(|_| anyhow!("a fault's thread"))??;
            }
            last
        })
    }

    fn end(
        &self,
        plan: &Plan,
        players: &[String],
        last: &[Option<usize>],
        servers: &[GameServer],
        history: &History,
    ) -> Result<()> {
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
            let mut backend = self.backend();
            history.note(json!({ "event": "fault", "fault": "stop_without_backend" }));
            backend.kill()?;
            let stopped = in_parallel(servers, |server| server.terminate().map(drop));
            backend.resume()?;
            stopped?;
        }
        for server in servers {
            server.proxy().set(Fault::None);
            server.start()?;
        }
        for (index, server) in servers.iter().enumerate() {
            ensure!(server.wait_for_registration(START), "game server {index} does not register again");
        }
        deliver(servers, history)?;
        worlds::visit(plan, servers, history);
        if plan.ending == Ending::Deliver {
            visit(plan, players, last, servers, history)?;
            deliver(servers, history)?;
        }
        in_parallel(servers, |server| server.terminate().map(drop))?;
        history.note(json!({ "event": "stopped" }));
        Ok(())
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
    let end = Instant::now() + DELIVERY;
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
