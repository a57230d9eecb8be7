//! Keeping a dedicated server listed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};
pub use crate::rooms::ServerStatus;
use crate::rooms::{Attributes, RoomOptions, RoomPassword, RoomVisibility, check_attributes};
use crate::world_store;

/// Most worlds that one server has open.
pub const MAX_WORLDS: usize = 1_000;
/// Most used tickets that one heartbeat names.
pub const MAX_USED_TICKETS: usize = 200;

/// Lists a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterServer {
    /// Chosen by the server once per process: registering again under the same instance replaces the old entry
    /// and keeps its `server_id`, so that tickets and leases stay good when the backend forgot us. `[A-Za-z0-9_.-]`, 1 to 64.
    pub instance_id: String,
    /// Name players see. 1 to 64 characters.
    pub name: String,
    /// Where players connect: a host name (RFC 1123), an IPv4 address, or an IPv6 address without brackets; without port and
    /// scheme. Not an unspecified address such as `0.0.0.0`. The backend never connects to it.
    pub address: String,
    /// Port players connect to, 1 to 65535.
    pub port: u16,
    /// UDP port on which the server answers queries, 1 to 65535. Absent: it answers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_port: Option<u16>,
    /// At most 64 characters.
    #[serde(default)]
    pub map: String,
    /// At most 64 characters.
    #[serde(default)]
    pub mode: String,
    /// At most 64 characters.
    #[serde(default)]
    pub region: String,
    /// Version of the game, at most 64 characters.
    #[serde(default)]
    pub version: String,
    /// At most 16 tags of at most 64 characters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Players now.
    #[serde(default)]
    pub players: u32,
    /// Maximum number of players, 1 to 100,000.
    pub max_players: u32,
    /// The certificate that players have to insist on when they connect, PEM, at most 8 KiB. Absent: not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Who finds the room.
    #[serde(default, skip_serializing_if = "RoomVisibility::is_public")]
    pub visibility: RoomVisibility,
    /// Password that players need for a ticket, at most 64 characters. The backend stores a hash of it. Empty: none.
    #[serde(default, skip_serializing_if = "RoomPassword::is_empty")]
    pub password: RoomPassword,
    /// Custom attributes: at most 32, of at most 2 KiB as JSON.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// What the backend started the server for, from `BACKEND_ALLOCATION_ID`. Absent: somebody else started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<String>,
    /// Whether address and port are those of a relay, which speaks its own protocol there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
}

/// The backend's answer to a registration: an id and a lease to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerLease {
    /// Id of the server, and of the room players see.
    pub server_id: String,
    /// Seconds until the entry expires unless a heartbeat arrives.
    pub lease_seconds: u32,
    /// Seconds until the next heartbeat is due.
    pub heartbeat_seconds: u32,
    /// Identity of the backend, made at its first start and kept by its database. Unsent saves are kept together with it, and
    /// sent to no backend with another one. Absent: an earlier backend, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_id: Option<String>,
    /// Code by which players join the room, such as `K7Q-X3M`. Absent: the room is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_code: Option<String>,
    /// What this server was started for, see [`HeartbeatReply::room`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomOptions>,
}

/// Keeps the lease and refreshes the listing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Grows by at least one with each heartbeat; an older one arriving late changes nothing.
    pub sequence: u64,
    /// Sequence of the last heartbeat of this server whose reply arrived. Absent before the first. A backend that has seen
    /// less has lost data since, see [`HeartbeatReply::rolled_back`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_sequence: Option<u64>,
    /// State of the server.
    #[serde(default)]
    pub status: ServerStatus,
    /// Players now.
    pub players: u32,
    /// Changed map, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Changed mode, at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Changed number of places, 1 to 100,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_players: Option<u32>,
    /// Changed tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Changed visibility.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<RoomVisibility>,
    /// Changed password; empty: none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<RoomPassword>,
    /// Changed custom attributes: all of them, those that are missing are removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Attributes>,
    /// The server has taken [`HeartbeatReply::room`] over: this heartbeat and the next ones describe that room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub room_taken_over: bool,
    /// Asks for another invite code; the one before is not good any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_invite_code: bool,
    /// Ids (`jti`) of tickets that were used since the last heartbeat that was answered, at most 200: their players are counted
    /// in `players`, or were turned away. The seats that the tickets kept end with this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used_tickets: Vec<String>,
    /// [`HeartbeatReply::revocations_as_of`] of the last reply that arrived; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocations_after: Option<u64>,
    /// The worlds that this server has open, at most 1,000: their leases are renewed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worlds: Vec<String>,
}

/// Why a player's tokens were revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationReason {
    /// The account may not play.
    Banned,
    /// All sessions of the account were ended: by the player, a new password or the operator.
    SessionsEnded,
    /// A reason of a newer backend.
    #[serde(other)]
    Unknown,
}

/// Tokens that were revoked before they expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// Whose tokens.
    pub player_id: String,
    /// Why.
    pub reason: RevocationReason,
    /// Tokens and tickets issued at or before this time are not good, in seconds since 1970. Whoever was admitted with one
    /// has to go.
    pub before: u64,
}

/// The backend's answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// Seconds until the entry expires unless a heartbeat arrives.
    pub lease_seconds: u32,
    /// Seconds until the next heartbeat is due.
    pub heartbeat_seconds: u32,
    /// True when the operator wants the server to drain and leave.
    #[serde(default)]
    pub drain: bool,
    /// True when the backend's database is older than [`Heartbeat::confirmed_sequence`]: a backup was restored, or an
    /// asynchronous replica took over. The server sends again what it was told is saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rolled_back: bool,
    /// Players of this server that another one waits for, at most 100. Save and release them.
    #[serde(default)]
    pub wanted: Vec<String>,
    /// Players of this server with conflicts to merge, at most 100.
    #[serde(default)]
    pub conflicts: Vec<String>,
    /// Tokens revoked since [`Heartbeat::revocations_after`], or within the last hour, the longest life of a token; oldest
    /// first, at most 1,000, the next ones with the next reply. The same one may come twice.
    #[serde(default)]
    pub revocations: Vec<Revocation>,
    /// For [`Heartbeat::revocations_after`] of the next heartbeat.
    #[serde(default)]
    pub revocations_as_of: u64,
    /// Names (`kid`) of all public keys that are good now, at most 32. A server drops the others at once, and fetches those
    /// it lacks. Absent: nothing is said about keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ids: Option<Vec<String>>,
    /// Code by which players join the room. Absent: the room is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_code: Option<String>,
    /// The room that this server was started for. Repeated until [`Heartbeat::room_taken_over`]; until then, the room is listed
    /// like this rather than as heartbeats describe it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomOptions>,
}

impl Check for RegisterServer {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("instance_id", &self.instance_id, 64)?;
        limits::text("name", &self.name, 1, limits::MAX_SERVER_NAME)?;
        limits::public_address("address", &self.address)?;
        if self.port == 0 {
            return Err(FieldError::new("port", "must be 1 to 65535"));
        }
        if self.query_port == Some(0) {
            return Err(FieldError::new("query_port", "must be 1 to 65535, or absent"));
        }
        for (field, value) in
            [("map", &self.map), ("mode", &self.mode), ("region", &self.region), ("version", &self.version)]
        {
            limits::text(field, value, 0, limits::MAX_LABEL)?;
        }
        limits::tags("tags", &self.tags)?;
        if let Some(certificate) = &self.certificate {
            check_certificate(certificate)?;
        }
        self.password.check("password")?;
        check_attributes("attributes", &self.attributes)?;
        if let Some(allocation_id) = &self.allocation_id {
            limits::identifier("allocation_id", allocation_id, 64)?;
        }
        player_counts(self.players, Some(self.max_players))
    }
}

impl Check for Heartbeat {
    fn check(&self) -> Result<(), FieldError> {
        for (field, value) in [("map", &self.map), ("mode", &self.mode)] {
            if let Some(value) = value {
                limits::text(field, value, 0, limits::MAX_LABEL)?;
            }
        }
        if let Some(tags) = &self.tags {
            limits::tags("tags", tags)?;
        }
        if let Some(password) = &self.password {
            password.check("password")?;
        }
        if let Some(attributes) = &self.attributes {
            check_attributes("attributes", attributes)?;
        }
        limits::at_most("used_tickets", self.used_tickets.len(), MAX_USED_TICKETS)?;
        for (index, ticket) in self.used_tickets.iter().enumerate() {
            limits::identifier(&format!("used_tickets[{index}]"), ticket, 64)?;
        }
        if self.worlds.len() > MAX_WORLDS {
            return Err(FieldError::new("worlds", format!("must have at most {MAX_WORLDS} entries")));
        }
        for (index, world) in self.worlds.iter().enumerate() {
            world_store::world_id(&format!("worlds[{index}]"), world)?;
        }
        player_counts(self.players, self.max_players)
    }
}

/// Whether `pem` can be a certificate in PEM form (RFC 7468), and is nothing that has to stay secret.
pub fn check_certificate(pem: &str) -> Result<(), FieldError> {
    let refuse = |why: &str| Err(FieldError::new("certificate", why));
    if pem.len() > limits::MAX_CERTIFICATE_BYTES {
        return refuse("must have at most 8 KiB");
    }
    if pem.contains("PRIVATE KEY") {
        return refuse("holds a private key; give the certificate alone");
    }
    if pem.chars().any(|letter| letter.is_control() && !matches!(letter, '\r' | '\n' | '\t')) {
        return refuse("must not contain control characters");
    }
    let is_pem = pem.trim_start().starts_with("-----BEGIN CERTIFICATE-----")
        && pem.trim_end().ends_with("-----END CERTIFICATE-----");
    if is_pem { Ok(()) } else { refuse("must be a certificate in PEM form") }
}

fn player_counts(players: u32, max_players: Option<u32>) -> Result<(), FieldError> {
    let max = limits::MAX_PLAYERS;
    if players > max {
        return Err(FieldError::new("players", format!("must be 0 to {max}")));
    }
    match max_players {
        Some(places) if places == 0 || places > max => {
            Err(FieldError::new("max_players", format!("must be 1 to {max}")))
        }
        _ => Ok(()),
    }
}
