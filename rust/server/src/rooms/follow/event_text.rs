//! Events as they are sent, and the positions in their ids.

use std::fmt;
use std::iter::Peekable;
use std::vec::IntoIter;

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
/// event, and a change none. A part is written when it is taken: a long list is never there twice.
pub struct Events {
    name: EventName,
    rooms: Peekable<Box<dyn Iterator<Item = Bytes> + Send>>,
    removed: IntoIter<String>,
    id: String,
    is_begun: bool,
    has_ended: bool,
}

impl Events {
    pub fn new(
        name: EventName,
        rooms: impl Iterator<Item = Bytes> + Send + 'static,
        removed: Vec<String>,
        id: String,
    ) -> Self {
        let rooms: Box<dyn Iterator<Item = Bytes> + Send> = Box::new(rooms);
        let (rooms, removed) = (rooms.peekable(), removed.into_iter());
        Self { name, rooms, removed, id, is_begun: false, has_ended: false }
    }
}

impl Iterator for Events {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let (mut rooms, mut size) = (Vec::new(), 0);
        let fits =
            |room: &Bytes, size: usize, is_first: bool| is_first || size + room.len() <= MAX_PART_BYTES;
        while let Some(room) = self.rooms.next_if(|room| fits(room, size, rooms.is_empty())) {
            size += room.len();
            rooms.push(room);
        }
        let has_rooms_left = self.rooms.peek().is_some();
        let most = if has_rooms_left { 0 } else { MAX_PART_REMOVED };
        let removed: Vec<String> = self.removed.by_ref().take(most).collect();
        self.has_ended = !has_rooms_left && self.removed.as_slice().is_empty();
        if rooms.is_empty() && removed.is_empty() && self.name == EventName::Change {
            return None;
        }
        // A reset begins with its first event.
        let name = if self.is_begun { EventName::Change } else { self.name };
        self.is_begun = true;
        Some(event(name, &rooms, &removed, self.has_ended.then_some(&*self.id)))
    }
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

fn event(name: EventName, rooms: &[Bytes], removed: &[String], id: Option<&str>) -> Bytes {
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
