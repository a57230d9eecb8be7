//! `BackendRoomOptions`: what a room on demand is like.

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{RoomOptions, RoomPassword};
use godot::prelude::*;

use super::visibility::Visibility;
use crate::variant_json::{self, gstring};

/// Options of a room that the backend creates with [method BackendRooms.create_room] or [method BackendRooms.quick_play].
///
/// The dedicated server receives them with [signal BackendServerRegistration.room_assigned]. Empty properties are left to the server.
/// ```gdscript
/// var options := BackendRoomOptions.new()
/// options.room_name = "Frog pond"
/// options.map = "swamp"
/// options.max_players = 4
/// options.attributes = {"difficulty": 0.5}
/// var ticket: BackendJoinTicket = await $BackendRooms.create_room(options).wait()
/// ```
#[derive(GodotClass)]
#[class(tool, init, base = Resource)]
pub struct BackendRoomOptions {
    /// Name in the room list, at most 64 characters.
    #[export]
    room_name: GString,
    /// Map, at most 64 characters.
    #[export]
    map: GString,
    /// Game mode, at most 64 characters.
    #[export]
    mode: GString,
    /// Maximum number of players. If 0, the backend's limit is used.
    #[export(range = (0.0, 64.0, or_greater))]
    max_players: i64,
    /// Visibility of the room, one of [enum BackendServerRegistration.Visibility].
    #[export]
    visibility: Visibility,
    /// Password that other players need for a ticket, at most 64 characters. If empty, none is needed. The backend stores a hash of it;
    /// the server does not receive it. It is not stored in scenes.
    #[var]
    password: GString,
    /// Tags that a [BackendRoomQuery] can filter by: at most 16, of at most 64 characters.
    #[export]
    tags: PackedStringArray,
    /// Custom attributes, see [member BackendServerRegistration.attributes].
    #[export]
    attributes: VarDictionary,
    base: Base<Resource>,
}

impl BackendRoomOptions {
    /// The options as a script sees them; the server does not know the password.
    pub fn of(room: &RoomOptions) -> Gd<Self> {
        Gd::from_init_fn(|base| Self {
            room_name: gstring(&room.name),
            map: gstring(&room.map),
            mode: gstring(&room.mode),
            max_players: room.max_players.unwrap_or(0).into(),
            visibility: room.visibility.into(),
            password: GString::new(),
            tags: room.tags.iter().map(gstring).collect(),
            attributes: variant_json::attributes_dictionary(&room.attributes),
            base,
        })
    }

    /// The options as they are sent; those of `null` are empty.
    pub fn to_wire(options: Option<&Gd<Self>>) -> Result<RoomOptions, ClientError> {
        let Some(options) = options else { return Ok(RoomOptions::default()) };
        let options = options.bind();
        let max_players = u32::try_from(options.max_players)
            .map_err(|_| ClientError::field("max_players", "must be 0 to 100000"))?;
        Ok(RoomOptions {
            name: options.room_name.to_string(),
            map: options.map.to_string(),
            mode: options.mode.to_string(),
            max_players: (max_players > 0).then_some(max_players),
            visibility: options.visibility.into(),
            password: RoomPassword(options.password.to_string()),
            tags: options.tags.as_slice().iter().map(ToString::to_string).collect(),
            attributes: variant_json::attributes("attributes", &options.attributes)?,
        })
    }
}
