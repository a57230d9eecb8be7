//! `BackendRoomQuery`: which rooms to list.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{RoomQuery, RoomSort};
use godot::prelude::*;

/// Which rooms [method BackendRooms.list_rooms] lists, and in which order. Empty fields do not filter.
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendRoomQuery {
    /// Filter rooms with exactly this map.
    #[export]
    #[export_group(name = "Filter")]
    map: GString,
    /// Filter rooms with exactly this mode.
    #[export]
    mode: GString,
    /// Filter rooms in exactly this region.
    #[export]
    region: GString,
    /// Filter rooms with exactly this version of the game.
    #[export]
    version: GString,
    /// Filter rooms with this text in their name, in upper or lower case. At most 64 characters.
    #[export]
    search: GString,
    /// Filter rooms that have all of these tags. At most 16.
    #[export]
    tags: PackedStringArray,
    /// Filter rooms with a place left.
    #[export]
    not_full: bool,
    /// Filter rooms with somebody in them.
    #[export]
    not_empty: bool,
    /// What the rooms are ordered by.
    #[export(enum = (Name = 0, Players = 1, Newest = 2))]
    #[export_group(name = "Order")]
    sort: i64,
    /// The other way round.
    #[export]
    descending: bool,
    /// Rooms on a page, 1 to 200.
    #[export(range = (1.0, 200.0))]
    #[export_group(name = "Page")]
    #[init(val = 50)]
    limit: i64,
    /// [member BackendRoomPage.next_cursor] of the page before, with the same filter and order. Empty: the first page.
    #[export]
    cursor: GString,
}

#[godot_api]
impl BackendRoomQuery {
    /// By name, A to Z.
    #[constant]
    pub const SORT_NAME: i64 = 0;
    /// By number of players, fewest first.
    #[constant]
    pub const SORT_PLAYERS: i64 = 1;
    /// By age, newest first.
    #[constant]
    pub const SORT_NEWEST: i64 = 2;

    pub fn to_wire(&self) -> Result<RoomQuery, ClientError> {
        let text = |text: &GString| (!text.is_empty()).then(|| text.to_string());
        let tags: Vec<String> = self.tags.as_slice().iter().map(ToString::to_string).collect();
        if tags.iter().any(|tag| tag.contains(',')) {
            return Err(ClientError::field("tags", "must not contain commas"));
        }
        let sort = match self.sort {
            Self::SORT_NAME => RoomSort::Name,
            Self::SORT_PLAYERS => RoomSort::Players,
            Self::SORT_NEWEST => RoomSort::Created,
            _ => return Err(ClientError::field("sort", "must be SORT_NAME, SORT_PLAYERS or SORT_NEWEST")),
        };
        let limit = u32::try_from(self.limit).map_err(|_| ClientError::field("limit", "must be 1 to 200"))?;
        Ok(RoomQuery {
            map: text(&self.map),
            mode: text(&self.mode),
            region: text(&self.region),
            version: text(&self.version),
            search: text(&self.search),
            tags: (!tags.is_empty()).then(|| tags.join(",")),
            not_full: self.not_full,
            not_empty: self.not_empty,
            include_draining: false,
            sort,
            // On the wire "created" runs from old to new.
            descending: self.descending != (sort == RoomSort::Created),
            limit: Some(limit),
            cursor: text(&self.cursor),
        })
    }
}
