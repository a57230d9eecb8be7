//! `BackendRoomQuery`: filter and sort order of a room list.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{RoomQuery, RoomSort};
use godot::prelude::*;

/// Filter and sort order for [method BackendRooms.list_rooms].
///
/// Empty properties do not filter.
/// ```gdscript
/// var query := BackendRoomQuery.new()
/// query.map = "swamp"
/// query.not_full = true
/// query.sort = BackendRoomQuery.SORT_PLAYERS
/// query.descending = true
/// var page: BackendRoomPage = await $BackendRooms.list_rooms(query).wait()
/// ```
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendRoomQuery {
    /// Matches rooms with exactly this map.
    #[export]
    #[export_group(name = "Filter")]
    map: GString,
    /// Matches rooms with exactly this game mode.
    #[export]
    mode: GString,
    /// Matches rooms in exactly this region.
    #[export]
    region: GString,
    /// Matches rooms with exactly this version of the game.
    #[export]
    version: GString,
    /// Matches rooms whose name contains this text, ignoring case. At most 64 characters.
    #[export]
    search: GString,
    /// Matches rooms that have all of these tags. At most 16.
    #[export]
    tags: PackedStringArray,
    /// If [code]true[/code], rooms without a free place are left out.
    #[export]
    not_full: bool,
    /// If [code]true[/code], rooms without players are left out.
    #[export]
    not_empty: bool,
    /// Sort order, one of the [code]SORT_*[/code] constants.
    #[export]
    #[export_group(name = "Order")]
    sort: SortOrder,
    /// If [code]true[/code], the sort order is reversed.
    #[export]
    descending: bool,
    /// Rooms per page, from 1 to 200.
    #[export(range = (1.0, 200.0))]
    #[export_group(name = "Page")]
    #[init(val = 50)]
    limit: i64,
    /// [member BackendRoomPage.next_cursor] of the previous page, with the same filter and sort order. If empty, the first page is
    /// returned.
    #[export]
    cursor: GString,
}

/// The values of [`BackendRoomQuery::sort`]. gdext registers no enums yet, so scripts use the class's constants.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum SortOrder {
    #[default]
    Name = 0,
    Players = 1,
    Newest = 2,
}

#[godot_api]
impl BackendRoomQuery {
    /// Sorts by name, A to Z.
    #[constant]
    pub const SORT_NAME: i64 = SortOrder::Name as i64;
    /// Sorts by number of players, fewest first.
    #[constant]
    pub const SORT_PLAYERS: i64 = SortOrder::Players as i64;
    /// Sorts by age, newest first.
    #[constant]
    pub const SORT_NEWEST: i64 = SortOrder::Newest as i64;

    pub fn to_wire(&self) -> Result<RoomQuery, ClientError> {
        let text = |text: &GString| (!text.is_empty()).then(|| text.to_string());
        let tags: Vec<String> = self.tags.as_slice().iter().map(ToString::to_string).collect();
        if tags.iter().any(|tag| tag.contains(',')) {
            return Err(ClientError::field("tags", "must not contain commas"));
        }
        let sort = match self.sort {
            SortOrder::Name => RoomSort::Name,
            SortOrder::Players => RoomSort::Players,
            SortOrder::Newest => RoomSort::Created,
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
