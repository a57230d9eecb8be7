//! Our own two questions: a ping, and the one by which servers on a local network are found.
//!
//! ```text
//! ff ff ff ff  kind  "bcq1"  nonce (8)  then
//! ping question 'p'   zeros up to 32 bytes          answer 'P'   status (1), players (4), max players (4)
//! room question 'r'   zeros up to 1,200 bytes       answer 'R'   the room as JSON, with the `instance` of the server
//! ```
//! An answer is never larger than its question and repeats its nonce. Numbers are little-endian.

use backend_protocol::limits::{self, FieldError};
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{Room, check_attributes};
use serde::{Deserialize, Serialize};

use super::facts::ServedFacts;
use super::source::HEADER;

/// Bytes of a ping question.
pub const PING_QUESTION: usize = 32;
/// Bytes of a room question.
pub const ROOM_QUESTION: usize = 1_200;
const MAGIC: [u8; 4] = *b"bcq1";
const BODY: usize = 17;

/// What joins an answer to its question.
pub type Nonce = [u8; 8];

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How far and how well.
    Ping(Nonce),
    /// Which room.
    Room(Nonce),
}

/// What a ping returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// Of the question.
    pub nonce: Nonce,
    /// Status of the server.
    pub status: ServerStatus,
    /// Players now.
    pub players: u32,
    /// Maximum number of players.
    pub max_players: u32,
}

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRoom {
    /// Of the question.
    pub nonce: Nonce,
    /// Number of the server, the same in all its answers. 0: it has told none.
    pub instance: u64,
    /// The room.
    pub room: Room,
}

/// What an answer has beside the room.
#[derive(Default, Serialize, Deserialize)]
struct Instance {
    #[serde(default)]
    instance: u64,
}

#[derive(Serialize)]
struct RoomAnswer<'a> {
    #[serde(flatten)]
    room: &'a Room,
    #[serde(flatten)]
    instance: Instance,
}

impl Question {
    /// The question, if it is one of ours and padded as it has to be.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (kind, nonce, _) = parts(datagram)?;
        match kind {
            b'p' if datagram.len() >= PING_QUESTION => Some(Self::Ping(nonce)),
            b'r' if datagram.len() >= ROOM_QUESTION => Some(Self::Room(nonce)),
            _ => None,
        }
    }

    /// The question as it is sent.
    pub fn encode(self) -> Vec<u8> {
        let (mut datagram, length) = match self {
            Self::Ping(nonce) => (begin(b'p', nonce), PING_QUESTION),
            Self::Room(nonce) => (begin(b'r', nonce), ROOM_QUESTION),
        };
        datagram.resize(length, 0);
        datagram
    }

    /// The answer.
    pub(super) fn answer(self, served: &ServedFacts<'_>) -> Vec<u8> {
        match self {
            Self::Ping(nonce) => {
                let mut datagram = begin(b'P', nonce);
                datagram.push(match served.status {
                    ServerStatus::Ready => 0,
                    ServerStatus::Draining => 1,
                    ServerStatus::Unhealthy => 2,
                });
                datagram.extend(served.facts.players.to_le_bytes());
                datagram.extend(served.facts.description.max_players.to_le_bytes());
                datagram
            }
            Self::Room(nonce) => {
                let mut room = served.room();
                loop {
                    let mut datagram = begin(b'R', nonce);
                    // Plain data: it always has a text.
                    let instance = Instance { instance: served.facts.instance };
                    let answer = RoomAnswer { room: &room, instance };
                    datagram.extend(serde_json::to_vec(&answer).unwrap_or_default());
                    if datagram.len() <= ROOM_QUESTION || !shorten(&mut room) {
                        return datagram;
                    }
                }
            }
        }
    }
}

/// Leaves out what is missed least; false if there is nothing left to leave out.
fn shorten(room: &mut Room) -> bool {
    if room.attributes.pop_last().is_some() || room.tags.pop().is_some() {
        return true;
    }
    let labels = [&mut room.region, &mut room.mode, &mut room.map, &mut room.version];
    labels.into_iter().find(|label| !label.is_empty()).is_some_and(|label| {
        label.clear();
        true
    })
}

impl Pong {
    /// The answer to a ping, if it is one.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (kind, nonce, body) = parts(datagram)?;
        let (status, numbers) = body.split_first()?;
        let (players, max_players) = numbers.split_first_chunk::<4>()?;
        let max_players: [u8; 4] = max_players.try_into().ok()?;
        let status = match (kind, status) {
            (b'P', 0) => ServerStatus::Ready,
            (b'P', 1) => ServerStatus::Draining,
            (b'P', 2) => ServerStatus::Unhealthy,
            _ => return None,
        };
        let (players, max_players) = (u32::from_le_bytes(*players), u32::from_le_bytes(max_players));
        Some(Self { nonce, status, players, max_players })
    }
}

/// The answer to a room question, if it is one and keeps the limits that the backend enforces. `address` is where it came from.
pub fn decode_room(datagram: &[u8], address: &str) -> Option<FoundRoom> {
    let (kind, nonce, body) = parts(datagram)?;
    if kind != b'R' || datagram.len() > ROOM_QUESTION {
        return None;
    }
    let mut room: Room = serde_json::from_slice(body).ok()?;
    address.clone_into(&mut room.address);
    room.created_at.clear();
    check_room(&room).ok()?;
    let Instance { instance } = serde_json::from_slice(body).unwrap_or_default();
    Some(FoundRoom { nonce, instance, room })
}

fn check_room(room: &Room) -> Result<(), FieldError> {
    if !room.room_id.is_empty() {
        limits::identifier("room_id", &room.room_id, 64)?;
    }
    limits::text("name", &room.name, 1, limits::MAX_SERVER_NAME)?;
    for label in [&room.map, &room.mode, &room.region, &room.version] {
        limits::text("label", label, 0, limits::MAX_LABEL)?;
    }
    limits::tags("tags", &room.tags)?;
    check_attributes("attributes", &room.attributes)?;
    let counts = [room.players, room.max_players];
    if room.port == 0 || counts.iter().any(|count| *count > limits::MAX_PLAYERS) {
        return Err(FieldError::new("port", "out of range"));
    }
    Ok(())
}

fn begin(kind: u8, nonce: Nonce) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(PING_QUESTION);
    datagram.extend(HEADER);
    datagram.push(kind);
    datagram.extend(MAGIC);
    datagram.extend(nonce);
    datagram
}

fn parts(datagram: &[u8]) -> Option<(u8, Nonce, &[u8])> {
    let (head, body) = datagram.split_at_checked(BODY)?;
    let (kind, rest) = head.strip_prefix(&HEADER)?.split_first()?;
    let nonce = rest.strip_prefix(&MAGIC)?;
    Some((*kind, nonce.try_into().ok()?, body))
}
