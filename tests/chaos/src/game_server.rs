//! One game server of a trial: a process that is told what to do and says what happened, one JSON object per line, behind
//! a proxy of its own, with a journal folder that outlives it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use test_harness::fault_proxy::FaultProxy;
use test_harness::process::send;

use crate::history::History;
use crate::program::{Commands, Program, Started};

/// How long a server may take to obey SIGTERM: its grace, and time for a loaded machine.
const STOP: Duration = Duration::from_secs(30);

/// How to start one.
pub struct Launch {
    /// Its number in the trial.
    pub index: usize,
    /// Its program.
    pub program: Program,
    /// Gets what it prints on standard error.
    pub log: PathBuf,
}

/// One game server.
pub struct GameServer {
    launch: Launch,
    proxy: FaultProxy,
    shared: Arc<Shared>,
}

struct Shared {
    index: usize,
    history: Arc<History>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    incarnation: u32,
    running: Option<Running>,
    paused: bool,
    /// The network to the backend is gone for long.
    cut_off: bool,
    registered: bool,
    answers: HashMap<u64, Map<String, Value>>,
    /// Saves still to be acknowledged until the process is killed.
    kill_after_acks: Option<u32>,
    shot: bool,
}

struct Running {
    child: Child,
    printer: Option<Child>,
    commands: Option<Commands>,
    reader: Option<JoinHandle<()>>,
}

/// How a server ended that was told to.
#[derive(Debug, Clone, Copy)]
pub struct Exit {
    /// Which of its processes.
    pub incarnation: u32,
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
}

/// How a server is told to stop.
pub struct Stop<'a> {
    /// Signals, one after the other.
    pub signals: &'a [Signal],
    /// Time between them.
    pub gap: Duration,
    /// Nothing stands in its way: it has to end with 0.
    pub healthy: bool,
}

impl Stop<'_> {
    /// SIGTERM, whatever else happens.
    pub const TERM: Self = Self { signals: &[Signal::TERM], gap: Duration::ZERO, healthy: false };
}

/// Whether a server can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It runs, as this incarnation.
    Up(u32),
    /// It is stopped.
    Paused,
    /// There is no process.
    Down,
}

impl GameServer {
    /// A server that is not started yet.
    pub fn new(launch: Launch, proxy: FaultProxy, history: Arc<History>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { index: launch.index, history, state, changed });
        Self { launch, proxy, shared }
    }

    /// Its number in the trial.
    pub fn index(&self) -> usize {
        self.launch.index
    }

    /// The network between it and the backend.
    pub fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    /// Starts its next incarnation, unless it runs.
    pub fn start(&self) -> Result<()> {
        let mut state = self.shared.state();
        if state.running.is_some() {
            return Ok(());
        }
        let incarnation = state.incarnation + 1;
        let log = OpenOptions::new().create(true).append(true).open(&self.launch.log)?;
        let Started { child, commands, told, printer } = self.launch.program.start(incarnation, log)?;
        let shared = Arc::clone(&self.shared);
        let reader = thread::spawn(move || told.read(|told| shared.listen(incarnation, told)));
        let pid = child.id();
        *state = State {
            incarnation,
            running: Some(Running { child, printer, commands: Some(commands), reader: Some(reader) }),
            cut_off: state.cut_off,
            ..State::default()
        };
        drop(state);
        self.note("started", incarnation, json!({ "pid": pid, "kind": self.launch.program.kind() }));
        Ok(())
    }

    /// Whether it can be talked to.
    pub fn reach(&self) -> Reach {
        let state = self.shared.state();
        match &state.running {
            None => Reach::Down,
            Some(_) if state.paused => Reach::Paused,
            Some(_) => Reach::Up(state.incarnation),
        }
    }

    /// Waits until `condition` holds for how it can be reached, at most `timeout`.
    pub fn wait_until(&self, timeout: Duration, condition: impl Fn(Reach) -> bool) -> bool {
        let end = Instant::now() + timeout;
        while !condition(self.reach()) {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Waits until the current incarnation is registered at the backend, at most `timeout`.
    pub fn wait_for_registration(&self, timeout: Duration) -> bool {
        self.shared.wait(timeout, |state| state.registered.then_some(())).is_some()
    }

    /// Tells it to do something, without waiting. False when there is no process.
    pub fn send(&self, command: &Value) -> bool {
        let mut line = command.to_string();
        line.push('\n');
        let mut state = self.shared.state();
        let commands = state.running.as_mut().and_then(|running| running.commands.as_mut());
        commands.is_some_and(|commands| commands.send(line))
    }

    /// Tells it to do something and waits for its answer, as long as the process runs: a player does not wait in front
    /// of a frozen server either.
    pub fn ask(&self, mut command: Value, timeout: Duration) -> Option<Map<String, Value>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        command["id"] = json!(id);
        let Reach::Up(incarnation) = self.reach() else { return None };
        if !self.send(&command) {
            return None;
        }
        self.shared.wait(timeout, |state| match state.answers.remove(&id) {
            Some(answer) => Some(Some(answer)),
            None => {
                let gone = state.running.is_none() || state.paused || state.incarnation != incarnation;
                gone.then_some(None)
            }
        })?
    }

    /// SIGKILL. False when there is no process.
    pub fn kill(&self) -> Result<bool> {
        let mut state = self.shared.state();
        let Some(mut running) = state.running.take() else { return Ok(false) };
        let incarnation = state.incarnation;
        state.paused = false;
        drop(state);
        // It may have ended by itself before, which is a defect, and must not pass for this kill.
        let ended = running.child.try_wait()?;
        running.child.kill()?;
        let status = running.finish()?;
        self.shared.changed.notify_all();
        let shot = self.shared.state().shot;
        match ended {
            Some(status) if !shot => self.ended_by_itself(incarnation, status),
            _ => self.note("killed", incarnation, json!({ "status": status.to_string() })),
        }
        Ok(true)
    }

    /// Kills it in the moment in which it acknowledges the n-th save from now on. Waits for that, at most `timeout`.
    pub fn kill_after_acks(&self, acks: u32, timeout: Duration) -> Result<bool> {
        self.shared.state().kill_after_acks = Some(acks);
        let shot = self.shared.wait(timeout, |state| {
            (state.shot || state.running.is_none()).then_some(state.shot && state.running.is_some())
        });
        if shot == Some(true) {
            return self.kill();
        }
        self.shared.state().kill_after_acks = None;
        Ok(false)
    }

    /// Tells it to stop, and waits for its end. `None` when there is no process that could obey.
    pub fn stop(&self, stop: &Stop<'_>) -> Result<Option<Exit>> {
        let mut state = self.shared.state();
        if state.paused {
            return Ok(None);
        }
        let Some(mut running) = state.running.take() else { return Ok(None) };
        let incarnation = state.incarnation;
        drop(state);
        self.shared.changed.notify_all();
        self.note(
            "terminating",
            incarnation,
            json!({ "healthy": stop.healthy, "signals": stop.signals.len() }),
        );
        if let Some(status) = running.child.try_wait()? {
            running.finish()?;
            self.ended_by_itself(incarnation, status);
            return Ok(None);
        }
        for (number, signal) in stop.signals.iter().enumerate() {
            if number > 0 {
                thread::sleep(stop.gap);
            }
            if running.child.try_wait()?.is_none() {
                send(running.child.id(), *signal)?;
            }
        }
        let end = Instant::now() + STOP;
        while running.child.try_wait()?.is_none() {
            if Instant::now() >= end {
                self.note("hang", incarnation, json!({}));
                running.child.kill()?;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = running.finish()?;
        self.note("terminated", incarnation, json!({ "code": status.code(), "status": status.to_string() }));
        Ok(Some(Exit { incarnation, code: status.code() }))
    }

    /// Ends who reads what it prints. False when nobody does.
    pub fn close_pipe(&self) -> Result<bool> {
        let mut state = self.shared.state();
        let Some(mut printer) = state.running.as_mut().and_then(|running| running.printer.take()) else {
            return Ok(false);
        };
        printer.kill()?;
        printer.wait()?;
        Ok(true)
    }

    /// SIGSTOP. False when there is no process.
    pub fn pause(&self) -> Result<bool> {
        let mut state = self.shared.state();
        let Some(running) = &state.running else { return Ok(false) };
        if state.paused {
            return Ok(false);
        }
        send(running.child.id(), Signal::STOP)?;
        state.paused = true;
        drop(state);
        self.shared.changed.notify_all();
        Ok(true)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        let mut state = self.shared.state();
        if let Some(running) = state.running.as_ref().filter(|_| state.paused) {
            send(running.child.id(), Signal::CONT)?;
            state.paused = false;
        }
        Ok(())
    }

    /// Notes for the players whether its network to the backend is gone for long.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.shared.state().cut_off = cut_off;
    }

    /// Whether its network to the backend is gone for long.
    pub fn is_cut_off(&self) -> bool {
        self.shared.state().cut_off
    }

    /// Notes it in the history if the process has ended without being told to.
    pub fn look_for_crash(&self) -> Result<()> {
        let mut state = self.shared.state();
        let Some(running) = state.running.as_mut() else { return Ok(()) };
        let Some(status) = running.child.try_wait()? else { return Ok(()) };
        if state.shot {
            return Ok(());
        }
        let incarnation = state.incarnation;
        let running = state.running.take();
        drop(state);
        if let Some(running) = running {
            running.finish()?;
        }
        self.shared.changed.notify_all();
        self.ended_by_itself(incarnation, status);
        Ok(())
    }

    fn ended_by_itself(&self, incarnation: u32, status: ExitStatus) {
        self.note("crashed", incarnation, json!({ "status": status.to_string() }));
    }

    fn note(&self, event: &str, incarnation: u32, more: Value) {
        let mut line = json!({ "event": event });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        if let Value::Object(line) = line {
            self.shared.history.told(self.launch.index, incarnation, line);
        }
    }
}

impl Drop for GameServer {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            test_harness::print_error_line!("game server {}: {error:#}", self.launch.index);
        }
    }
}

impl Running {
    /// Reaps it; all it said has been read when this returns.
    fn finish(mut self) -> Result<ExitStatus> {
        let status = self.child.wait()?;
        self.commands = None;
        if let Some(mut printer) = self.printer.take() {
            // It has read everything when the pipe ends, which it does with the process.
            printer.wait()?;
        }
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            bail!("reading what a game server says failed");
        }
        Ok(status)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` yields something, at most `timeout`.
    fn wait<T>(&self, timeout: Duration, condition: impl Fn(&mut State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            if let Some(value) = condition(&mut state) {
                return Some(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn listen(&self, incarnation: u32, told: &mut dyn BufRead) {
        let mut line = String::new();
        while told.read_line(&mut line).is_ok_and(|count| count > 0) {
            let event = serde_json::from_str::<Map<String, Value>>(&line);
            let whole = line.ends_with('\n');
            line.clear();
            match event {
                Ok(event) => self.hear(incarnation, event),
                // The last words of a killed process may be cut.
                Err(_) if !whole => {}
                Err(error) => self.hear(incarnation, garbled(&error)),
            }
        }
    }

    fn hear(&self, incarnation: u32, event: Map<String, Value>) {
        let name = event.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut state = self.state();
        if state.incarnation == incarnation {
            if name == "journalled" {
                shoot(&mut state);
            }
            state.registered |= name == "registered";
            if let Some(id) = event.get("id").and_then(Value::as_u64) {
                state.answers.insert(id, event.clone());
            }
        }
        // Under the lock: nobody acts on an event that the history does not hold yet.
        self.history.told(self.index, incarnation, event);
        drop(state);
        self.changed.notify_all();
    }
}

fn garbled(error: &serde_json::Error) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("event".to_owned(), json!("garbled"));
    event.insert("error".to_owned(), json!(error.to_string()));
    event
}

/// Kills the process at once if this acknowledgement is the one that was waited for.
fn shoot(state: &mut State) {
    let Some(left) = state.kill_after_acks.as_mut() else { return };
    *left = left.saturating_sub(1);
    if *left > 0 {
        return;
    }
    state.kill_after_acks = None;
    if let Some(running) = &mut state.running {
        // Already dead is as good.
        let _already_dead = running.child.kill();
        state.shot = true;
    }
}
