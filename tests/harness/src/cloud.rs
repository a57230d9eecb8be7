//! Peers for the adapters of clouds: the metadata services of machines on Amazon EC2, Azure and Google Compute Engine, and those
//! of a task of Amazon ECS. Written from the vendors' descriptions, and stricter than the real ones: what those would forgive is
//! noted as a violation, which [`CloudPeer::check`] reports.

pub mod documents;
mod rules;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::WAIT_TIMEOUT;
use crate::backend::free_port;
use crate::http_message::{self, Request};

/// Pause between two looks for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Longer than any caller waits.
const LATE: Duration = Duration::from_millis(1_500);
/// What no metadata service answers. The last one is not even HTTP.
const GARBAGE: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 18\r\n\r\n<html>Hello</html>",
    "HTTP/1.1 200 OK\r\nMetadata-Flavor: Google\r\nContent-Length: 13\r\n\r\n{\"action\": [7",
    "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    "SSH-2.0-Metadata_1.0\r\n",
];

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Values by their path below `/latest/meta-data/`, with tokens.
    Ec2,
    /// `task` for the task's document, and the agent's task protection.
    Ecs,
    /// `instance`, `loadbalancer` and `scheduledevents`.
    Azure,
    /// Values by their path below `/computeMetadata/v1/instance/`.
    Gcp,
}

/// How the service behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    #[default]
    Good,
    /// Answers what no such service answers.
    Garbage,
    /// Answers later than anybody waits.
    Late,
    /// Takes connections and requests, and answers nothing.
    Hangs,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Method and path without its query, such as `PUT /latest/api/token`.
    pub what: String,
    /// The body; `null` if there is none.
    pub body: Value,
}

/// A machine or a task, with its metadata service. Dropping it ends the service.
pub struct CloudPeer {
    port: u16,
    machine: Arc<Machine>,
}

struct Machine {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    cloud: Cloud,
    /// Texts, with the numbers of their versions.
    values: BTreeMap<String, (String, u64)>,
    versions: u64,
    calls: Vec<Call>,
    violations: Vec<String>,
    manner: Manner,
    /// Counts the services: a thread of an earlier one ends.
    service: u64,
    connections: Vec<TcpStream>,
    /// Tokens that are good, and all that were given.
    tokens: Vec<String>,
    given_tokens: Vec<String>,
    is_protected: bool,
    is_protection_refused: bool,
}

impl CloudPeer {
    /// Name of the machine on Azure.
    pub const AZURE_NAME: &str = "pond_7";

    /// A machine with nothing but what `values` say, whose service does not run yet.
    pub fn new(cloud: Cloud, values: &[(&str, &str)]) -> Result<Self> {
        let state = State {
            cloud,
            values: BTreeMap::new(),
            versions: 0,
            calls: Vec::new(),
            violations: Vec::new(),
            manner: Manner::Good,
            service: 0,
            connections: Vec::new(),
            tokens: Vec::new(),
            given_tokens: Vec::new(),
            is_protected: false,
            is_protection_refused: false,
        };
        let machine = Machine { state: Mutex::new(state), changed: Condvar::new() };
        let peer = Self { port: free_port()?, machine: Arc::new(machine) };
        for (name, text) in values {
            peer.set(name, text);
        }
        Ok(peer)
    }

    /// The URL of the service.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of a process on this machine.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self.machine.state().cloud {
            Cloud::Ec2 => vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.url())],
            Cloud::Azure => vec![("BACKEND_AZURE_METADATA_ENDPOINT", self.url())],
            Cloud::Gcp => vec![("GCE_METADATA_HOST", format!("127.0.0.1:{}", self.port))],
            Cloud::Ecs => vec![
                ("ECS_CONTAINER_METADATA_URI_V4", format!("{}{}", self.url(), rules::ECS_METADATA)),
                ("ECS_AGENT_URI", format!("{}{}", self.url(), rules::ECS_AGENT)),
            ],
        }
    }

    /// Starts the service.
    pub fn start(&self, manner: Manner) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).context("the service's port")?;
        listener.set_nonblocking(true)?;
        let number = {
            let mut state = self.machine.state();
            state.manner = manner;
            state.service += 1;
            state.service
        };
        let machine = Arc::clone(&self.machine);
        thread::spawn(move || accept(&listener, &machine, number));
        Ok(())
    }

    /// Ends the service without warning, with its connections.
    pub fn kill(&self) {
        let mut state = self.machine.state();
        state.service += 1;
        for connection in state.connections.drain(..) {
            // Closed already, perhaps.
            let _gone = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.machine.changed.notify_all();
        // Its listener is closed with the next look.
        thread::sleep(ACCEPT_PAUSE * 4);
    }

    /// Changes how the service behaves from the next request on.
    pub fn behave(&self, manner: Manner) {
        self.machine.state().manner = manner;
        self.machine.changed.notify_all();
    }

    /// Sets a value.
    pub fn set(&self, name: &str, text: &str) {
        let mut state = self.machine.state();
        state.versions += 1;
        let version = state.versions;
        state.values.insert(name.to_owned(), (text.to_owned(), version));
        drop(state);
        self.machine.changed.notify_all();
    }

    /// Removes a value.
    pub fn remove(&self, name: &str) {
        self.machine.state().values.remove(name);
        self.machine.changed.notify_all();
    }

    /// A value.
    pub fn value(&self, name: &str) -> Option<String> {
        self.machine.state().values.get(name).map(|(text, _)| text.clone())
    }

    /// No token is good any longer.
    pub fn expire_tokens(&self) {
        self.machine.state().tokens.clear();
    }

    /// Whether the agent of ECS refuses to protect the task.
    pub fn refuse_protection(&self, refuses: bool) {
        self.machine.state().is_protection_refused = refuses;
    }

    /// Whether the task of ECS is protected.
    pub fn is_protected(&self) -> bool {
        self.machine.state().is_protected
    }

    /// Waits until the task of ECS is protected, or is not.
    pub fn wait_for_protection(&self, is_protected: bool) -> Result<()> {
        self.wait("the protection", |state| (state.is_protected == is_protected).then_some(()))
    }

    /// What was called so far.
    pub fn calls(&self) -> Vec<Call> {
        self.machine.state().calls.clone()
    }

    /// How often `what`, such as `PUT /latest/api/token`, was called.
    pub fn count(&self, what: &str) -> usize {
        self.machine.state().count(what)
    }

    /// Waits until `what` was called at least `count` times.
    pub fn wait_for_calls(&self, what: &str, count: usize) -> Result<()> {
        self.wait(&format!("{count} times {what}"), |state| (state.count(what) >= count).then_some(()))
    }

    /// Waits for one more of `what`, so that whatever was set before was seen.
    pub fn wait_for_another(&self, what: &str) -> Result<()> {
        // The one under way may have looked before.
        let count = self.count(what) + 2;
        self.wait_for_calls(what, count)
    }

    fn wait<T>(&self, what: &str, mut condition: impl FnMut(&State) -> Option<T>) -> Result<T> {
        let end = Instant::now() + WAIT_TIMEOUT;
        let mut state = self.machine.state();
        loop {
            if let Some(value) = condition(&state) {
                return Ok(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what} did not come\n{:?}\n{:?}", state.values, state.calls);
            }
            state = self.machine.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Fails if the game server did what the service does not allow.
    pub fn check(&self) -> Result<()> {
        let violations = self.machine.state().violations.clone();
        ensure!(violations.is_empty(), "against the metadata service:\n  {}", violations.join("\n  "));
        Ok(())
    }
}

impl Drop for CloudPeer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&self, what: &str) -> usize {
        self.calls.iter().filter(|call| call.what == what).count()
    }
}

fn accept(listener: &TcpListener, machine: &Arc<Machine>, number: u64) {
    loop {
        if machine.state().service != number {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let machine = Arc::clone(machine);
                if let Ok(copy) = stream.try_clone() {
                    machine.state().connections.push(copy);
                }
                thread::spawn(move || serve(stream, &machine, number));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ACCEPT_PAUSE),
            Err(_) => return,
        }
    }
}

fn serve(mut stream: TcpStream, machine: &Machine, number: u64) {
    let is_current = || machine.state().service == number;
    // Without its time-out, the thread would stay until the other side closes.
    if stream.set_read_timeout(Some(READ_TIMEOUT)).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut received = Vec::new();
    while let Ok(request) = http_message::read_request(&mut stream, &mut received, is_current) {
        let manner = machine.state().manner;
        match manner {
            Manner::Good => {}
            Manner::Late => thread::sleep(LATE),
            Manner::Hangs => return hang(&stream, machine, number),
            Manner::Garbage => {
                let call = machine.note(&request);
                let text = GARBAGE[call % GARBAGE.len()];
                // Each connection has one answer: what follows would be read as a part of it.
                let _gone = stream.write_all(text.as_bytes());
                return;
            }
        }
        let answer = rules::answer(machine, &request, number);
        machine.note(&request);
        if stream.write_all(answer.text().as_bytes()).is_err() {
            return;
        }
    }
}

impl Machine {
    /// Returns how many calls there were before.
    fn note(&self, request: &Request) -> usize {
        let path = request.path.split('?').next().unwrap_or_default();
        let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let mut state = self.state();
        state.calls.push(Call { what: format!("{} {path}", request.method), body });
        let before = state.calls.len() - 1;
        drop(state);
        self.changed.notify_all();
        before
    }
}

/// Keeps the connection and says nothing, until the service ends or behaves.
fn hang(stream: &TcpStream, machine: &Machine, number: u64) {
    let mut state = machine.state();
    while state.service == number && state.manner == Manner::Hangs {
        state = machine.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    drop(state);
    // Closed already, perhaps.
    let _gone = stream.shutdown(Shutdown::Both);
}
