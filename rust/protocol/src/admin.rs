//! What the operator's tools may do, under an admin key.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};

/// Bans a player, or changes the ban. The player's sessions end, and game servers disconnect the player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BanPlayer {
    /// For the operator; not sent to the player. At most 256 characters.
    pub reason: String,
    /// Duration, 1 to 315,360,000 s (ten years). Permanent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// A ban that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ban {
    /// Since when, RFC 3339.
    pub since: String,
    /// End of the ban, RFC 3339. Permanent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// See [`BanPlayer::reason`].
    pub reason: String,
}

/// A player as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminPlayer {
    /// The account, as its owner sees it.
    pub account: crate::accounts::AccountDetails,
    /// RFC 3339.
    pub created_at: String,
    /// Sessions that are not over.
    pub sessions: u32,
    /// Absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Ban>,
}

/// A game server as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminServer {
    /// Id of the server and of its room.
    pub server_id: String,
    /// Name in the room list.
    pub name: String,
    /// Host name or IP address, and port.
    pub address: String,
    /// Region.
    pub region: String,
    /// Current map.
    pub map: String,
    /// Current game mode.
    pub mode: String,
    /// Version of the game.
    pub version: String,
    /// `ready`, `draining`, `unhealthy`, or `lost` if its lease has expired.
    pub status: String,
    /// Who finds its room: `public`, `unlisted` or `private`.
    pub visibility: String,
    /// Current number of players.
    pub players: u32,
    /// Seats that are kept for players on their way.
    pub reserved: u32,
    /// Maximum number of players.
    pub max_players: u32,
    /// Seconds since the last heartbeat, or since the registration.
    pub heartbeat_age_seconds: u32,
    /// Whether the operator has asked it to drain and leave.
    pub drain_requested: bool,
}

/// A matchmaker's queue as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminQueue {
    /// Name of the matchmaker.
    pub matchmaker: String,
    /// Tickets whose party is not complete.
    pub queued: u32,
    /// Tickets that wait for a match.
    pub searching: u32,
    /// Tickets whose match has to be accepted.
    pub requires_acceptance: u32,
    /// Tickets whose match waits for a room.
    pub placing: u32,
    /// Age of the oldest of them, in seconds.
    pub oldest_seconds: u32,
}

/// A version of the game that servers run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminVersion {
    /// The version, as servers state it.
    pub version: String,
    /// Live servers.
    pub servers: u32,
    /// Their players.
    pub players: u32,
}

/// What happens on the backend now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminOverview {
    /// Version of the backend.
    pub backend_version: String,
    /// Game and environment that it serves.
    pub scope: String,
    /// RFC 3339, by the database's clock.
    pub now: String,
    /// Accounts of players.
    pub accounts: u32,
    /// Players whom live servers count.
    pub players: u32,
    /// Live servers.
    pub live_servers: u32,
    /// Seconds between two heartbeats of a server without players.
    pub heartbeat_seconds: u32,
    /// Saves that came too late and wait for a merge.
    pub conflicts: u32,
    /// Live servers, and those lost within the last hour; the fullest first, at most 500.
    pub servers: Vec<AdminServer>,
    /// Versions of the game on live servers.
    pub versions: Vec<AdminVersion>,
    /// Queues of the matchmakers.
    pub queues: Vec<AdminQueue>,
}

/// A player who is on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminServerPlayer {
    /// Id of the player.
    pub player_id: String,
    /// Name that other players see.
    pub display_name: String,
}

/// The players whose documents a server holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminServerPlayers {
    /// By name, at most 500.
    pub players: Vec<AdminServerPlayer>,
}

/// A game server that the backend was to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminAllocation {
    /// Its id.
    pub allocation_id: String,
    /// `requested`, `starting`, `ready`, `failed` or `ended`.
    pub status: String,
    /// Why it failed or ended. Empty: it has not.
    pub reason: String,
    /// Started ahead of time, and nobody's yet.
    pub is_spare: bool,
    /// The player who has created the room. Absent: a spare, or a room of a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Name of the room as it was requested. Empty: the server's own.
    pub name: String,
    /// The server that registered for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339. Absent: it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Whether the replica that answers has started it, and with it has its log.
    pub is_here: bool,
}

/// What the backend has started on demand lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminAllocations {
    /// Whether rooms are started on demand here.
    pub is_enabled: bool,
    /// Those that are open and those that ended within an hour; the newest first, at most 200.
    pub allocations: Vec<AdminAllocation>,
}

/// What a server that the backend has started has printed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminAllocationLog {
    /// The last lines, at most 2 KiB. Empty: it has printed nothing, or its log was removed.
    pub lines: String,
}

/// A server key as it may be shown: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecord {
    /// What `rotate` and `revoke` name it by: `key_` + 12 characters.
    pub key_id: String,
    /// The game whose servers may use it; absent before a backend has started on this database.
    pub game: Option<String>,
    /// The environment it is for, such as `live` or `staging`.
    pub environment: Option<String>,
    /// Words of the operator.
    pub label: String,
    /// `active`, `expiring` (rotated, in its grace), `expired` or `revoked`.
    pub state: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339, to the minute.
    pub last_used_at: Option<String>,
    /// RFC 3339; set by a rotation.
    pub expires_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// All server keys, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyRecord>,
}

/// Makes a server key for the game and environment of the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// Words for the list, such as the fleet's name. At most 64 characters.
    #[serde(default)]
    pub label: String,
}

/// Makes a server key in place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// Seconds until the old key expires, at most 7,776,000 (90 days).
    pub grace_seconds: u32,
}

/// A key that was made just now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// Its id.
    pub key_id: String,
    /// The key itself, shown this once.
    pub key: String,
}

const TEN_YEARS: u32 = 315_360_000;
const MAX_GRACE: u32 = 90 * 24 * 3600;

impl Check for BanPlayer {
    fn check(&self) -> Result<(), FieldError> {
        limits::text("reason", &self.reason, 0, 256)?;
        match self.seconds {
            Some(seconds) if seconds == 0 || seconds > TEN_YEARS => {
                Err(FieldError::new("seconds", format!("must be 1 to {TEN_YEARS}")))
            }
            _ => Ok(()),
        }
    }
}

impl Check for CreateKey {
    fn check(&self) -> Result<(), FieldError> {
        limits::text("label", &self.label, 0, limits::MAX_LABEL)
    }
}

impl Check for RotateKey {
    fn check(&self) -> Result<(), FieldError> {
        if self.grace_seconds > MAX_GRACE {
            return Err(FieldError::new("grace_seconds", format!("must be at most {MAX_GRACE}")));
        }
        Ok(())
    }
}
