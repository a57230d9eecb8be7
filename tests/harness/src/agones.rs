//! A peer for the Agones adapter: the sidecar's HTTP gateway, and the few things that a controller and an allocator do with
//! a GameServer. Written from Agones' own descriptions (`sdk.proto`, `beta.proto` and the behaviour of its SDK server), and
//! stricter than the real one: what that would forgive is noted as a violation, which [`AgonesPeer::check`] reports.
//!
//! The GameServer lives in the cluster and not in the sidecar: it stays as it is while no sidecar runs.

mod game_server;
mod gateway;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::WAIT_TIMEOUT;
use crate::backend::free_port;

pub use game_server::GameServer;

/// Pause between two looks for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// How the sidecar behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// As the present version does.
    #[default]
    Good,
    /// As a version without counters and lists does.
    Older,
    /// Answers what no sidecar answers.
    Garbage,
    /// Takes connections and requests, and answers nothing.
    Hangs,
}

/// A call of the game server.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Method and path, such as `POST /ready`.
    pub what: String,
    /// The body; `null` if there is none.
    pub body: Value,
}

/// A cluster with one GameServer, and its sidecar. Dropping it ends the sidecar.
pub struct AgonesPeer {
    port: u16,
    cluster: Arc<Cluster>,
}

struct Cluster {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    game_server: GameServer,
    /// What a watch shows, from the beginning.
    shown: Vec<String>,
    calls: Vec<Call>,
    violations: Vec<String>,
    manner: Manner,
    /// Counts the sidecars: a thread of an earlier one ends.
    sidecar: u64,
    connections: Vec<TcpStream>,
    /// How many watches are open.
    watches: usize,
    allocations: u64,
}

impl AgonesPeer {
    /// A GameServer that is scheduled, and whose sidecar does not run yet.
    pub fn new(game_server: GameServer) -> Result<Self> {
        let mut state = State { game_server, ..State::default() };
        state.show();
        let cluster = Arc::new(Cluster { state: Mutex::new(state), changed: Condvar::new() });
        Ok(Self { port: free_port()?, cluster })
    }

    /// The port of the sidecar.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the sidecar.
    pub fn start(&self, manner: Manner) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).context("the sidecar's port")?;
        listener.set_nonblocking(true)?;
        let number = {
            let mut state = self.cluster.state();
            state.manner = manner;
            state.sidecar += 1;
            state.sidecar
        };
        let (cluster, port) = (Arc::clone(&self.cluster), self.port);
        thread::spawn(move || accept(&listener, &cluster, number, port));
        Ok(())
    }

    /// Ends the sidecar without warning, with its connections.
    pub fn kill_sidecar(&self) {
        let mut state = self.cluster.state();
        state.sidecar += 1;
        for connection in state.connections.drain(..) {
            // Closed already, perhaps.
            let _gone = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.cluster.changed.notify_all();
        // Its listener is closed with the next look.
        thread::sleep(ACCEPT_PAUSE * 4);
    }

    /// Changes how the sidecar behaves from the next request on.
    pub fn behave(&self, manner: Manner) {
        self.cluster.state().manner = manner;
        self.cluster.changed.notify_all();
    }

    /// The GameServer as it is now.
    pub fn game_server(&self) -> GameServer {
        self.cluster.state().game_server.clone()
    }

    /// What was called so far, without health calls.
    pub fn calls(&self) -> Vec<Call> {
        let state = self.cluster.state();
        state.calls.iter().filter(|call| call.what != "POST /health").cloned().collect()
    }

    /// How often `what`, such as `POST /health`, was called.
    pub fn count(&self, what: &str) -> usize {
        self.cluster.state().calls.iter().filter(|call| call.what == what).count()
    }

    /// Waits until the GameServer satisfies `condition`.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&GameServer) -> bool) -> Result<GameServer> {
        self.wait(what, |state| condition(&state.game_server).then(|| state.game_server.clone()))
    }

    /// Waits until the GameServer is in `state`.
    pub fn wait_for_state(&self, state: &str) -> Result<GameServer> {
        self.wait_until(&format!("state {state}"), |game_server| game_server.state == state)
    }

    /// Waits until `what`, such as `POST /ready`, was called at least `count` times.
    pub fn wait_for_calls(&self, what: &str, count: usize) -> Result<()> {
        self.wait(&format!("{count} times {what}"), |state| {
            (state.calls.iter().filter(|call| call.what == what).count() >= count).then_some(())
        })
    }

    /// Waits until a watch is open.
    pub fn wait_for_watch(&self) -> Result<()> {
        self.wait("a watch", |state| (state.watches > 0).then_some(()))
    }

    fn wait<T>(&self, what: &str, mut condition: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let end = Instant::now() + WAIT_TIMEOUT;
        let mut state = self.cluster.state();
        loop {
            if let Some(value) = condition(&state) {
                return Ok(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what} did not come\n{:?}\n{:?}", state.game_server, state.calls);
            }
            state = self.cluster.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What an allocator outside does with a GameServer that is ready.
    pub fn allocate(&self, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Result<()> {
        self.cluster.change(|state| {
            ensure!(state.game_server.state == "Ready", "allocated while {}", state.game_server.state);
            state.allocate(true);
            let game_server = &mut state.game_server;
            let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
            };
            game_server.labels.extend(owned(labels));
            game_server.annotations.extend(owned(annotations));
            Ok(())
        })
    }

    /// Sets the state, as a controller or an operator does.
    pub fn set_state(&self, state: &str) -> Result<()> {
        self.cluster.change(|cluster| {
            state.clone_into(&mut cluster.game_server.state);
            Ok(())
        })
    }

    /// Deletes the GameServer, as scaling down or `kubectl delete` does: it is there until its pod has ended.
    pub fn delete(&self) -> Result<()> {
        self.cluster.change(|state| {
            state.game_server.deletion_timestamp = game_server::now();
            Ok(())
        })
    }

    /// Fails if the game server did what the protocol does not allow.
    pub fn check(&self) -> Result<()> {
        let violations = self.cluster.state().violations.clone();
        ensure!(violations.is_empty(), "against Agones' protocol:\n  {}", violations.join("\n  "));
        Ok(())
    }
}

impl Drop for AgonesPeer {
    fn drop(&mut self) {
        self.kill_sidecar();
    }
}

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let mut state = self.state();
        change(&mut state)?;
        state.show();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }
}

impl State {
    /// The GameServer has changed.
    fn show(&mut self) {
        let version = self.shown.len() + 1;
        self.shown.push(self.game_server.json(version).to_string());
    }

    fn allocate(&mut self, outside: bool) {
        self.allocations += 1;
        self.game_server.allocate(outside, self.allocations);
    }
}

fn accept(listener: &TcpListener, cluster: &Arc<Cluster>, number: u64, port: u16) {
    loop {
        if cluster.state().sidecar != number {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let cluster = Arc::clone(cluster);
                if let Ok(copy) = stream.try_clone() {
                    cluster.state().connections.push(copy);
                }
                thread::spawn(move || gateway::serve(stream, &cluster, number, port));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ACCEPT_PAUSE),
            Err(_) => return,
        }
    }
}
