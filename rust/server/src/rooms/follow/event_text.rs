//! Events as they are sent, and the positions in their ids.

use std::fmt;

use axum::body::Bytes;
use backend_protocol::rooms::{EVENT_CHANGE, EVENT_RESET};

use crate::rooms::changes::RETENTION_MS;

/// Most bytes of rooms in one event; a single room may be larger.
const MAX_PART_BYTES: usize = 256 * 1024;
/// Most ids of removed rooms in one event.
const MAX_PART_REMOVED: usize = 2_000;
/// Characters of the backend's id in the id of an event.
const TAG: usize = 8;
/// A follower that was away longer gets the whole list: rooms that left it are not remembered much longer.
const MAX_AGE_SECONDS: i64 = RETENTION_MS / 1_000 - 10 * 60;
/// The clocks of replicas' connections may differ by this much.
const CLOCK_TOLERANCE_SECONDS: i64 = 60;

/// Up to where a follower knows the changes, in the id of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// All changes below it are known.
    pub number: i64,
    /// The database's time when it was read, in seconds since 1970.
    pub seconds: i64,
}

impl Position {
    /// The position in the id of an event of this backend.
    pub fn parse(id: &str, backend_id: &str) -> Option<Self> {
        let mut parts = id.split('.');
        let (tag, number, seconds) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |text: &str| -> Option<i64> {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        let is_ours = parts.next().is_none() && tag == tag_of(backend_id);
        is_ours.then_some(Self { number: digits(number)?, seconds: digits(seconds)? })
    }

    /// The id of an event after which a follower knows everything up to here.
    pub fn event_id(&self, backend_id: &str) -> String {
        format!("{}.{}.{}", tag_of(backend_id), self.number, self.seconds)
    }

    /// Whether what has changed since is still known at `now`.
    pub fn is_recent(&self, now: &Self) -> bool {
        (-CLOCK_TOLERANCE_SECONDS..MAX_AGE_SECONDS).contains(&(now.seconds - self.seconds))
    }
}

fn tag_of(backend_id: &str) -> &str {
    backend_id.get(..TAG).unwrap_or(backend_id)
}

/// The events for a change of a list, in as many parts as it takes; the last one has the id. Without rooms, a reset is one
/// event, and a change none.
pub fn changes(name: EventName, rooms: &[Bytes], removed: &[&str], id: &str) -> Vec<Bytes> {
    let mut parts: Vec<(&[Bytes], &[&str])> = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (index, room) in rooms.iter().enumerate() {
        if size + room.len() > MAX_PART_BYTES && index > from {
            parts.push((&rooms[from..index], &[]));
            (from, size) = (index, 0);
        }
        size += room.len();
    }
    if from < rooms.len() {
        parts.push((&rooms[from..], &[]));
    }
    let mut removed = removed.chunks(MAX_PART_REMOVED);
    if let Some(last) = parts.last_mut() {
        last.1 = removed.next().unwrap_or_default();
    }
    parts.extend(removed.map(|removed| (&[][..], removed)));
    if parts.is_empty() && name == EventName::Reset {
        parts.push((&[], &[]));
    }
    let last = parts.len().saturating_sub(1);
    let events = parts.iter().enumerate().map(|(index, (rooms, removed))| {
        // A reset begins with its first event.
        let name = if index == 0 { name } else { EventName::Change };
        event(name, rooms, removed, (index == last).then_some(id))
    });
    events.collect()
}

/// What an event does to the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EventName {
    Reset,
    Change,
}

impl fmt::Display for EventName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Reset => EVENT_RESET,
            Self::Change => EVENT_CHANGE,
        })
    }
}

fn event(name: EventName, rooms: &[Bytes], removed: &[&str], id: Option<&str>) -> Bytes {
    let size: usize = rooms.iter().map(|room| room.len() + 1).sum();
    let mut text = Vec::with_capacity(size + removed.len() * 40 + 128);
    text.extend_from_slice(format!("event: {name}\n").as_bytes());
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: {\"rooms\":[");
    text.extend_from_slice(&rooms.join(&b','));
    text.push(b']');
    for (index, room_id) in removed.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b",\"removed\":[\"" } else { b",\"" });
        // Ids are made here, of letters, digits and hyphens.
        text.extend_from_slice(room_id.as_bytes());
        text.push(b'"');
    }
    if !removed.is_empty() {
        text.push(b']');
    }
    text.extend_from_slice(if id.is_some() { b"}\n\n" } else { b",\"more\":true}\n\n" });
    text.into()
}

/// An event without data, which is not one to followers: it shows that the stream is alive, and moves the position on.
pub fn heartbeat(id: &str) -> Bytes {
    format!("id: {id}\n\n").into()
}
