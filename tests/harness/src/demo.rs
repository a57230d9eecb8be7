//! Frog Race as processes: its dedicated server, its bots, and the events that they print.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::backend::free_port;
use crate::godot::{Godot, Launch};
use crate::log::Log;

/// One event: `EVENT <who> <event> key=value …`.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    fields: HashMap<String, String>,
    line: String,
}

impl LoggedEvent {
    /// The value of `key`.
    pub fn text(&self, key: &str) -> Result<&str> {
        self.fields.get(key).map(String::as_str).with_context(|| format!("no {key}= in {:?}", self.line))
    }

    /// The value of `key` as a whole number.
    pub fn number(&self, key: &str) -> Result<i64> {
        let text = self.text(key)?;
        text.parse().with_context(|| format!("{key}={text} is no number in {:?}", self.line))
    }
}

/// Waits until `log` has `event`.
pub fn wait_for_event(log: &Log, event: &str) -> Result<LoggedEvent> {
    wait_for_event_after(log, 0, event)
}

/// Waits until `log` has `event` in a line from position `start` on.
pub fn wait_for_event_after(log: &Log, start: usize, event: &str) -> Result<LoggedEvent> {
    let line = log.wait_until(start, &format!("EVENT … {event}"), |line| told(line) == Some(event))?;
    let fields = line.split_whitespace().filter_map(|word| word.split_once('='));
    let fields = fields.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect();
    Ok(LoggedEvent { fields, line })
}

/// Fails unless `log` has `events` in this order; other events may come between.
pub fn check_order(log: &Log, events: &[&str]) -> Result<()> {
    let lines = log.lines();
    let mut told_events = lines.iter().filter_map(|line| told(line));
    for event in events {
        if !told_events.any(|told| told == *event) {
            bail!("the events are not in the order {events:?}: {event} is missing or early\n{}", log.tail());
        }
    }
    Ok(())
}

fn told(line: &str) -> Option<&str> {
    line.strip_prefix("EVENT ")?.split_whitespace().nth(1)
}

/// A dedicated server of the demo, about to be started.
pub fn server(name: &str, backend_url: &str, key_file: &Path) -> Result<Launch> {
    Ok(Launch::headless(name, "demo")
        .env("BACKEND_SERVER_KEY_FILE", key_file)
        .arg("--server")
        .arg(format!("--port={}", free_port()?))
        .arg(format!("--name={name}"))
        .arg(format!("--backend-url={backend_url}"))
        .arg("--race-length=5"))
}

/// Starts a dedicated server and waits until it is registered.
pub fn start_server(name: &str, backend_url: &str, key_file: &Path) -> Result<Godot> {
    let server = server(name, backend_url, key_file)?.start()?;
    wait_for_event(server.log(), "registered")?;
    Ok(server)
}

/// A bot called `name` that plays one race in the room `room`, about to be started.
pub fn bot(name: &str, room: &str, backend_url: &str) -> Launch {
    Launch::headless(name, "demo")
        .arg("--bot")
        .arg(format!("--name={name}"))
        .arg(format!("--room={room}"))
        .arg(format!("--backend-url={backend_url}"))
}
