//! Finding a place to play.

mod attributes;
mod creation;
mod events;
mod filter;
mod invite_code;
mod password;
mod regions;
mod room_filter;
mod server_status;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::limits::{self, Check, FieldError};

pub use attributes::{
    AttributeValue, Attributes, MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTE_NAME, MAX_ATTRIBUTE_TEXT, MAX_ATTRIBUTES,
    check_attribute_name, check_attributes,
};
pub use creation::{
    ABANDONED_AFTER_SECONDS, CreateRoom, DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS, QuickPlay, RoomCreation,
    RoomCreationStatus, RoomOptions,
};
pub use events::{
    EVENT_CHANGE, EVENT_HEARTBEAT_SECONDS, EVENT_RESET, MAX_EVENT_BYTES, MAX_FOLLOWED_ROOMS, RoomChanges,
};
pub use filter::{
    AttributeFilter, Comparison, FilterValue, MAX_ATTRIBUTE_FILTERS, MAX_FILTER_BYTES, MAX_FILTER_VALUES,
    parse_attribute_filters,
};
pub use invite_code::{INVITE_ALPHABET, INVITE_LENGTH, normal_invite_code};
pub use password::{MAX_ROOM_PASSWORD, RoomPassword};
pub use regions::{NEAREST_REGION, Region, Regions};
pub use room_filter::RoomFilter;
pub use server_status::ServerStatus;

/// Most seats that one ticket reserves.
pub const MAX_PARTY: u32 = 16;

/// Who finds a room, and how it is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomVisibility {
    /// Listed, and joined by its id.
    #[default]
    Public,
    /// Not listed. Whoever has its id or its invite code joins.
    Unlisted,
    /// Not listed, and to be read by nobody. Only its invite code lets players in.
    Private,
}

impl RoomVisibility {
    /// Whether the room is listed.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }
}

/// Fields of a room that a query can select. `room_id` is always there.
pub const ROOM_FIELDS: [&str; 18] = [
    "room_id",
    "name",
    "address",
    "port",
    "query_port",
    "map",
    "mode",
    "region",
    "version",
    "tags",
    "players",
    "reserved",
    "max_players",
    "status",
    "created_at",
    "visibility",
    "has_password",
    "attributes",
];

/// A live server as players see it. Fields that a query did not select have their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Room {
    /// Id of the room: the server's.
    pub room_id: String,
    /// Name players see.
    #[serde(default)]
    pub name: String,
    /// Where to connect.
    #[serde(default)]
    pub address: String,
    /// Port to connect to.
    #[serde(default)]
    pub port: u16,
    /// UDP port on which the server answers queries without the backend. Absent: it answers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_port: Option<u16>,
    /// Map being played.
    #[serde(default)]
    pub map: String,
    /// Mode being played.
    #[serde(default)]
    pub mode: String,
    /// Where the server stands.
    #[serde(default)]
    pub region: String,
    /// Version of the game.
    #[serde(default)]
    pub version: String,
    /// Free tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Players now, as the server counts them.
    #[serde(default)]
    pub players: u32,
    /// Seats that are kept for players who have a ticket and are not counted yet.
    #[serde(default)]
    pub reserved: u32,
    /// Maximum number of players.
    #[serde(default)]
    pub max_players: u32,
    /// Whether it takes players.
    #[serde(default)]
    pub status: ServerStatus,
    /// RFC 3339 time of registration, UTC.
    #[serde(default)]
    pub created_at: String,
    /// Who finds the room. Lists have public ones only.
    #[serde(default)]
    pub visibility: RoomVisibility,
    /// Whether a ticket needs the room's password.
    #[serde(default)]
    pub has_password: bool,
    /// Custom attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

/// Order of a room list. Ties are broken by id, so that pages never overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoomSort {
    /// By name.
    #[default]
    Name,
    /// By number of players.
    Players,
    /// By time of registration.
    Created,
    /// By number of places.
    MaxPlayers,
    /// By map, then by name.
    Map,
    /// By mode, then by name.
    Mode,
    /// By region, then by name.
    Region,
    /// By version, then by name.
    Version,
}

/// Which rooms to list, as query parameters. Absent filters do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RoomQuery {
    /// Exact map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// Exact mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Exact region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Exact game version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Part of the name, without regard to case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Tags the room must all have, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Only rooms with a place left.
    #[serde(default)]
    pub not_full: bool,
    /// Only rooms with players.
    #[serde(default)]
    pub not_empty: bool,
    /// Only rooms without a password.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_password: bool,
    /// Conditions on attributes that all have to be met, as a JSON list of at most 8 such as
    /// `[{"name":"round","op":">=","value":3},{"name":"map_size","op":"in","value":["s","m"]}]`. `op`: `=`, `!=`, `<`, `<=`, `>`, `>=`,
    /// `in`. A room without the attribute, or with one of another type, does not meet it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<String>,
    /// Fields of the rooms to return, separated by commas; `room_id` is always there. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<String>,
    /// Draining rooms too.
    #[serde(default)]
    pub include_draining: bool,
    /// Order of the list.
    #[serde(default)]
    #[param(inline)]
    pub sort: RoomSort,
    /// Largest first.
    #[serde(default)]
    pub descending: bool,
    /// Rooms on a page, 1 to 200, 50 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters and order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl RoomQuery {
    /// The requested tags, one by one.
    pub fn tag_list(&self) -> impl Iterator<Item = &str> {
        self.tags.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|tag| !tag.is_empty())
    }

    /// The requested fields, one by one.
    pub fn field_list(&self) -> impl Iterator<Item = &str> {
        self.fields.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|field| !field.is_empty())
    }

    /// The conditions on attributes.
    pub fn attribute_filters(&self) -> Result<Vec<AttributeFilter>, FieldError> {
        self.attributes
            .as_deref()
            .map_or_else(|| Ok(Vec::new()), |text| parse_attribute_filters("attributes", text))
    }
}

/// One page of rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomPage {
    /// The rooms, in the requested order.
    pub rooms: Vec<Room>,
    /// Present while there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What the caller shows to be let into a room. A request without a body shows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestTicket {
    /// The room's password, if it has one.
    #[serde(default, skip_serializing_if = "RoomPassword::is_empty")]
    pub password: RoomPassword,
    /// Seats to reserve, 1 to 16, all or none: the caller's, and those that the others of the party claim with the ticket's
    /// `party_code`. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
    /// Claims one of the seats that a party has reserved, in place of `password` and `seats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party_code: Option<String>,
}

/// Names a room by its invite code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinByCode {
    /// Six letters and digits, such as `K7Q-X3M`. Case, hyphens and white space do not matter.
    pub invite_code: String,
    /// The room's password, if it has one: the code does not stand in for it.
    #[serde(default, skip_serializing_if = "RoomPassword::is_empty")]
    pub password: RoomPassword,
    /// Seats to reserve, 1 to 16, see [`RequestTicket::seats`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u32>,
}

/// Permission for one player to join one server, once, within a minute.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinTicket {
    /// JWT of type `join+jwt`, to be shown to the game server only.
    pub ticket: String,
    /// Seconds it lives, at most 60.
    pub expires_in: u32,
    /// The room it is for.
    pub room: Room,
    /// The server's certificate, PEM: connect with DTLS and accept no other. Absent: the room is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// By which the others of the party claim their seats, while these last. Absent: one seat was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party_code: Option<String>,
    /// By which others join a room that is not public. Only for the player who created the room, or who came by this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_code: Option<String>,
    /// Whether a player hosts the room through a relay: the ticket is for the relay at the room's address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relay: bool,
}

impl Room {
    /// Places that nobody has and nobody is on the way to.
    pub const fn free_seats(&self) -> u32 {
        self.max_players.saturating_sub(self.players.saturating_add(self.reserved))
    }
}

fn check_seats(seats: Option<u32>) -> Result<(), FieldError> {
    match seats {
        Some(seats) if seats == 0 || seats > MAX_PARTY => {
            Err(FieldError::new("seats", format!("must be 1 to {MAX_PARTY}")))
        }
        _ => Ok(()),
    }
}

impl Check for RequestTicket {
    fn check(&self) -> Result<(), FieldError> {
        check_seats(self.seats)?;
        if let Some(code) = &self.party_code {
            limits::identifier("party_code", code, 64)?;
            if self.seats.is_some() {
                return Err(FieldError::new(
                    "seats",
                    "must be absent with party_code, which claims one seat",
                ));
            }
        }
        self.password.check("password")
    }
}

impl Check for JoinByCode {
    fn check(&self) -> Result<(), FieldError> {
        normal_invite_code("invite_code", &self.invite_code)?;
        check_seats(self.seats)?;
        self.password.check("password")
    }
}

impl Check for RoomQuery {
    fn check(&self) -> Result<(), FieldError> {
        let labels = [
            ("map", &self.map),
            ("mode", &self.mode),
            ("region", &self.region),
            ("version", &self.version),
            ("search", &self.search),
        ];
        for (field, value) in labels {
            if let Some(value) = value {
                limits::text(field, value, 1, limits::MAX_LABEL)?;
            }
        }
        limits::at_most("tags", self.tag_list().count(), limits::MAX_TAGS)?;
        for tag in self.tag_list() {
            limits::text("tags", tag, 1, limits::MAX_LABEL)?;
        }
        self.attribute_filters()?;
        limits::at_most("fields", self.field_list().count(), ROOM_FIELDS.len())?;
        if let Some(unknown) = self.field_list().find(|field| !ROOM_FIELDS.contains(field)) {
            let shown: String = unknown.chars().take(limits::MAX_LABEL).collect();
            let rule = format!("{shown:?} is no field of a room; there are {}", ROOM_FIELDS.join(", "));
            return Err(FieldError::new("fields", rule));
        }
        match self.limit {
            Some(limit) if limit == 0 || limit > limits::MAX_PAGE => {
                return Err(FieldError::new("limit", format!("must be 1 to {}", limits::MAX_PAGE)));
            }
            _ => {}
        }
        match &self.cursor {
            Some(cursor) => limits::opaque("cursor", cursor, 1, limits::MAX_CURSOR),
            None => Ok(()),
        }
    }
}
