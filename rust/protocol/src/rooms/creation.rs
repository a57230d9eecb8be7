//! Rooms that are created on demand, and quick play.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Attributes, JoinTicket, RoomPassword, RoomQuery, RoomVisibility, check_attributes, check_seats};
use crate::limits::{self, Check, FieldError};

/// Longest that a request for a room waits, in seconds.
pub const MAX_WAIT_SECONDS: u32 = 20;
/// How long a request for a room waits if it names no time, in seconds.
pub const DEFAULT_WAIT_SECONDS: u32 = 5;
/// Seconds without a repetition after which nobody waits for a room any more.
pub const ABANDONED_AFTER_SECONDS: u32 = 30;

/// What a room that is created should be like. The game server receives it, without the password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoomOptions {
    /// Name players see, at most 64 characters. Empty: the server's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// At most 64 characters. Empty: the server's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub map: String,
    /// At most 64 characters. Empty: the server's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Maximum number of players, up to the backend's limit. Absent: that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_players: Option<u32>,
    /// Who finds the room.
    #[serde(default, skip_serializing_if = "RoomVisibility::is_public")]
    pub visibility: RoomVisibility,
    /// Password that other players need for a ticket, at most 64 characters. Empty: none.
    #[serde(default, skip_serializing_if = "RoomPassword::is_empty")]
    pub password: RoomPassword,
    /// At most 16 tags of at most 64 characters. Empty: the server's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Custom attributes: at most 32, of at most 2 KiB as JSON. Empty: the server's own.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

/// Requests a room of its own. Repeated under the same `request_id` until it is ready; not repeated for 30 s, the room is given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRoom {
    /// Chosen by the client, once for each room. `[A-Za-z0-9_.-]`, 1 to 64.
    pub request_id: String,
    /// What the room should be like.
    #[serde(default)]
    pub room: RoomOptions,
    /// Seats to reserve, 1 to 16, see [`super::RequestTicket::seats`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// Seconds until the reply comes in any case, 0 to 20. Absent: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}

/// Requests a seat in any room that fits, in a new one if there is none. Repeated as [`CreateRoom`] is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuickPlay {
    /// Chosen by the client, once for each call. `[A-Za-z0-9_.-]`, 1 to 64.
    pub request_id: String,
    /// Rooms that fit. Of order, page and fields nothing counts: the fullest one with enough free seats and without a password
    /// is taken.
    #[serde(default)]
    pub query: RoomQuery,
    /// What a new room should be like. Absent: none is created, and the request waits for a seat. Map and mode that it does not
    /// name are those of `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomOptions>,
    /// Seats to reserve, 1 to 16, see [`super::RequestTicket::seats`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// Seconds until the reply comes in any case, 0 to 20. Absent: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}

/// How far a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomCreationStatus {
    /// No room has a free seat, and none is created for the request.
    Waiting,
    /// A host has yet to start the server.
    Requested,
    /// The server starts.
    Starting,
    /// The room is there, and so is the ticket.
    Ready,
    /// A status of a newer backend.
    #[serde(other)]
    Unknown,
}

/// The answer to a request for a room. Without a ticket, the request is to be repeated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomCreation {
    /// How far the room is.
    pub status: RoomCreationStatus,
    /// Permission to join the room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<JoinTicket>,
}

impl Check for RoomOptions {
    fn check(&self) -> Result<(), FieldError> {
        limits::text("name", &self.name, 0, limits::MAX_SERVER_NAME)?;
        limits::text("map", &self.map, 0, limits::MAX_LABEL)?;
        limits::text("mode", &self.mode, 0, limits::MAX_LABEL)?;
        limits::tags("tags", &self.tags)?;
        if self.tags.iter().any(|tag| tag.contains(',')) {
            return Err(FieldError::new("tags", "must not contain commas"));
        }
        if self.max_players.is_some_and(|places| places == 0 || places > limits::MAX_PLAYERS) {
            return Err(FieldError::new("max_players", format!("must be 1 to {}", limits::MAX_PLAYERS)));
        }
        self.password.check("password")?;
        check_attributes("attributes", &self.attributes)
    }
}

fn check_wait(wait_seconds: Option<u32>) -> Result<(), FieldError> {
    if wait_seconds.is_some_and(|seconds| seconds > MAX_WAIT_SECONDS) {
        return Err(FieldError::new("wait_seconds", format!("must be 0 to {MAX_WAIT_SECONDS}")));
    }
    Ok(())
}

impl Check for CreateRoom {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("request_id", &self.request_id, 64)?;
        self.room.check().map_err(|error| error.within("room"))?;
        check_seats(self.seats)?;
        check_wait(self.wait_seconds)
    }
}

impl Check for QuickPlay {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("request_id", &self.request_id, 64)?;
        self.query.check().map_err(|error| error.within("query"))?;
        if let Some(room) = &self.room {
            room.check().map_err(|error| error.within("room"))?;
            if room.visibility != RoomVisibility::Public || !room.password.is_empty() {
                let rule = "must be public and without a password: other players find the room as well";
                return Err(FieldError::new("room", rule));
            }
        }
        check_seats(self.seats)?;
        check_wait(self.wait_seconds)
    }
}
