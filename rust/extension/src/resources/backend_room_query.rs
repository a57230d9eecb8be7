//! `BackendRoomQuery`: filter and sort order of a room list.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{
    AttributeFilter, AttributeValue, Comparison, FilterValue, RoomQuery, RoomSort,
};
use godot::builtin::VariantType;
use godot::prelude::*;

use crate::class_enum::class_enum;
use crate::variant_json::attribute;

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
    /// Matches rooms in exactly this region. [code]nearest[/code] is the region with the lowest latency in
    /// [method BackendRooms.ping_regions], which is called if the last measurement is older than ten minutes. If no region
    /// responds, rooms of all regions match.
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
    /// If [code]true[/code], rooms without a free seat are left out.
    #[export]
    not_full: bool,
    /// If [code]true[/code], rooms without players are left out.
    #[export]
    not_empty: bool,
    /// If [code]true[/code], rooms with a password are left out.
    #[export]
    no_password: bool,
    /// Conditions on [member BackendRoom.attributes], which all have to be met: at most 8, each a list of a name, an operator and a
    /// value, for example [code]["round", ">=", 3][/code]. Operators are [code]=[/code], [code]!=[/code], [code]<[/code],
    /// [code]<=[/code], [code]>[/code], [code]>=[/code] and [code]in[/code], which takes a list of at most 16 values. A room without the
    /// attribute, or with one of another type, does not meet the condition; [int] and [float] are compared as numbers. See
    /// [method where].
    #[export]
    attributes: VarArray,
    /// Fields of the rooms to return, such as [code]name[/code] and [code]players[/code]; the others are empty. If the list is empty,
    /// all fields are returned.
    #[export]
    fields: PackedStringArray,
    /// Sort order, one of [enum SortOrder].
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

/// The values of [`BackendRoomQuery::sort`], for the Inspector.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum SortOrder {
    #[default]
    Name = 0,
    Players = 1,
    Newest = 2,
    MaxPlayers = 3,
    Map = 4,
    Mode = 5,
    Region = 6,
    Version = 7,
}

class_enum! {
    BackendRoomQuery::SORT_ORDER: "SortOrder" {
        /// Sorts by name, A to Z.
        SORT_NAME = SortOrder::Name as i64;
        /// Sorts by number of players, fewest first.
        SORT_PLAYERS = SortOrder::Players as i64;
        /// Sorts by age, newest first.
        SORT_NEWEST = SortOrder::Newest as i64;
        /// Sorts by maximum number of players, smallest first.
        SORT_MAX_PLAYERS = SortOrder::MaxPlayers as i64;
        /// Sorts by map, A to Z, then by name.
        SORT_MAP = SortOrder::Map as i64;
        /// Sorts by game mode, A to Z, then by name.
        SORT_MODE = SortOrder::Mode as i64;
        /// Sorts by region, A to Z, then by name.
        SORT_REGION = SortOrder::Region as i64;
        /// Sorts by version, A to Z, then by name.
        SORT_VERSION = SortOrder::Version as i64;
    }
}

#[godot_api]
impl BackendRoomQuery {
    /// Adds a condition to [member attributes].
    /// ```gdscript
    /// query.where("round", ">=", 3)
    /// query.where("size", "in", ["small", "large"])
    /// ```
    #[func(rename = where)]
    fn add_condition(&mut self, name: GString, operator: GString, value: Variant) {
        let condition: VarArray = varray![&name, &operator, &value];
        self.attributes.push(&condition.to_variant());
    }

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
            SortOrder::MaxPlayers => RoomSort::MaxPlayers,
            SortOrder::Map => RoomSort::Map,
            SortOrder::Mode => RoomSort::Mode,
            SortOrder::Region => RoomSort::Region,
            SortOrder::Version => RoomSort::Version,
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
            no_password: self.no_password,
            attributes: conditions(&self.attributes)?,
            fields: (!self.fields.is_empty()).then(|| joined(&self.fields)),
            include_draining: false,
            sort,
            // On the wire "created" runs from old to new.
            descending: self.descending != (sort == RoomSort::Created),
            limit: Some(limit),
            cursor: text(&self.cursor),
        })
    }
}

fn joined(fields: &PackedStringArray) -> String {
    fields.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The conditions as they are sent; none if there are none.
fn conditions(conditions: &VarArray) -> Result<Option<String>, ClientError> {
    let filters: Vec<AttributeFilter> =
        conditions.iter_shared().map(|one| condition(&one)).collect::<Result<_, _>>()?;
    if filters.is_empty() {
        return Ok(None);
    }
    let json = serde_json::to_string(&filters);
    json.map(Some).map_err(|_| ClientError::field("attributes", "must be conditions"))
}

fn condition(condition: &Variant) -> Result<AttributeFilter, ClientError> {
    let refuse = |rule: &str| ClientError::field("attributes", rule);
    let parts = condition.try_to::<VarArray>().ok().filter(|parts| parts.len() == 3);
    let parts = parts.ok_or_else(|| refuse("each must be a list of a name, an operator and a value"))?;
    let name = parts.at(0).stringify().to_string();
    let op = Comparison::parse(&parts.at(1).stringify().to_string())
        .ok_or_else(|| refuse("the operator must be =, !=, <, <=, >, >= or in"))?;
    let value = parts.at(2);
    let field = format!("attributes.{name}");
    let value = match value.get_type() {
        VariantType::ARRAY => {
            let values = value
                .try_to::<VarArray>()
                .map_err(|_| refuse("a list of values must be an untyped Array"))?;
            let values = values.iter_shared().map(|value| attribute(&field, &value));
            FilterValue::Many(values.collect::<Result<_, _>>()?)
        }
        VariantType::PACKED_STRING_ARRAY => {
            let values = value.to::<PackedStringArray>();
            let values = values.as_slice().iter().map(|text| AttributeValue::String(text.to_string()));
            FilterValue::Many(values.collect())
        }
        _ => FilterValue::One(attribute(&field, &value)?),
    };
    Ok(AttributeFilter { name, op, value })
}
