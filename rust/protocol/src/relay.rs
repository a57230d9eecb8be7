//! What relay and players send each other: frames, their limits, and why a connection ends. `docs/src/relay-protocol.md` is the
//! same for people, and for clients in other languages.

mod close_reason;
mod frame;
mod frame_reader;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};
use crate::rooms::RoomOptions;

pub use close_reason::CloseReason;
pub use frame::{Control, DATA_HEADER, Data, Delivery, Frame, FrameError};
pub use frame_reader::FrameReader;

/// Application protocol of the QUIC connection (RFC 7301).
pub const ALPN: &[u8] = b"backend-relay/1";
/// Version of the frames, in `join` and `welcome`.
pub const VERSION: u8 = 1;
/// The player who hosts the room.
pub const HOST_PEER: u32 = 1;
/// Most bytes of one message of a game.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Most bytes of a frame: a message with its head.
pub const MAX_FRAME: usize = MAX_MESSAGE + 16;
/// Most bytes of the frames that come before a player is admitted.
pub const MAX_JOIN_FRAME: usize = 8 * 1024;
/// Channels are numbered from 0 to this, exclusively.
pub const MAX_CHANNELS: u8 = 32;
/// Most players of one room, the host included.
pub const MAX_ROOM_PLAYERS: u32 = 128;
/// Players of a room whose options name no number.
pub const DEFAULT_ROOM_PLAYERS: u32 = 16;

/// Hosts a room through the backend's relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRoom {
    /// What the room is like. An empty name: "Room". `max_players` includes the host, 1 to 128; absent: 16.
    #[serde(default)]
    pub room: RoomOptions,
    /// Version of the game, at most 64 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
}

impl Check for HostRoom {
    fn check(&self) -> Result<(), FieldError> {
        self.room.check().map_err(|error| error.within("room"))?;
        if self.room.max_players.is_some_and(|players| players > MAX_ROOM_PLAYERS) {
            let rule = format!("must be 1 to {MAX_ROOM_PLAYERS} through the relay");
            return Err(FieldError::new("room.max_players", rule));
        }
        limits::text("version", &self.version, 0, limits::MAX_LABEL)
    }
}
