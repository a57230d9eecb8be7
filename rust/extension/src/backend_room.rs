//! `BackendRoom` and the results that hold rooms.

use std::sync::Arc;

use backend_client::protocol::registration::ServerStatus;
use backend_client::protocol::rooms::{JoinTicket, Room, RoomPage};
use godot::prelude::*;

use crate::result_class::result_class;

/// One room of a page; the page is shared, not copied.
pub struct Entry {
    page: Arc<RoomPage>,
    index: usize,
}

impl Entry {
    pub fn single(room: Room) -> Self {
        Self { page: Arc::new(RoomPage { rooms: vec![room], next_cursor: None }), index: 0 }
    }

    fn room(&self) -> &Room {
        // Made by `get_room` and `single` only, both within bounds.
        &self.page.rooms[self.index]
    }
}

result_class! {
    /// A live server as players see it.
    BackendRoom(Entry) {
        /// Id of the room, for [method BackendRooms.request_ticket].
        room_id (get_room_id): GString = |entry| GString::from(&entry.room().room_id);
        /// Name of the server.
        name (get_name): GString = |entry| GString::from(&entry.room().name);
        /// Host name or address to connect to.
        address (get_address): GString = |entry| GString::from(&entry.room().address);
        /// Port to connect to.
        port (get_port): i64 = |entry| entry.room().port.into();
        /// Map being played.
        map (get_map): GString = |entry| GString::from(&entry.room().map);
        /// Mode being played.
        mode (get_mode): GString = |entry| GString::from(&entry.room().mode);
        /// Where the server stands.
        region (get_region): GString = |entry| GString::from(&entry.room().region);
        /// Version of the game.
        version (get_version): GString = |entry| GString::from(&entry.room().version);
        /// Players now.
        players (get_players): i64 = |entry| entry.room().players.into();
        /// Places in all.
        max_players (get_max_players): i64 = |entry| entry.room().max_players.into();
        /// The server's tags.
        tags (get_tags): PackedStringArray = |entry| entry.room().tags.iter().map(GString::from).collect();
        /// [code]ready[/code], [code]draining[/code] or [code]unhealthy[/code].
        status (get_status): GString = |entry| GString::from(match entry.room().status {
            ServerStatus::Ready => "ready",
            ServerStatus::Draining => "draining",
            ServerStatus::Unhealthy => "unhealthy",
        });
        /// Whether there is no place left.
        is_full (get_is_full): bool = |entry| entry.room().players >= entry.room().max_players;
    }
}

result_class! {
    /// One page of rooms.
    ///
    /// Rooms are made when they are asked for: a page of two hundred costs nothing until it is shown.
    BackendRoomPage(Arc<RoomPage>) {
        /// For [member BackendRoomQuery.cursor], to get the next page; empty on the last one.
        next_cursor (get_next_cursor): GString = |page| {
            page.next_cursor.as_ref().map(GString::from).unwrap_or_default()
        };
        /// Whether there is a page after this one.
        has_more (get_has_more): bool = |page| page.next_cursor.is_some();
    }
    methods {
        /// Returns the number of rooms on this page.
        #[func]
        fn size(&self) -> i64 {
            self.outcome.as_ref().map_or(0, |page| page.rooms.len() as i64)
        }

        /// Returns the room at [param index], or [code]null[/code] if there is none.
        #[func]
        fn get_room(&self, index: i64) -> Option<Gd<BackendRoom>> {
            let page = self.outcome.as_ref().ok()?;
            let index = usize::try_from(index).ok().filter(|index| *index < page.rooms.len())?;
            Some(BackendRoom::object(Ok(Entry { page: Arc::clone(page), index })))
        }
    }
}

result_class! {
    /// Outcome of [method BackendRooms.get_room].
    BackendRoomResult(Room) {
        /// The room, or [code]null[/code] if the call failed.
        room (get_room): Option<Gd<BackendRoom>> = |room| Some(BackendRoom::object(Ok(Entry::single(room.clone()))));
    }
}

result_class! {
    /// Permission to join one room, once, within a minute.
    ///
    /// Assign [member ticket] to [member BackendPeerAuth.ticket], then connect to [member address] and
    /// [member port].
    BackendJoinTicket(JoinTicket) {
        /// What to show to the game server, and to nobody else.
        ticket (get_ticket): GString = |ticket| GString::from(&ticket.ticket);
        /// The room it is for.
        room_id (get_room_id): GString = |ticket| GString::from(&ticket.room.room_id);
        /// Host name or address to connect to.
        address (get_address): GString = |ticket| GString::from(&ticket.room.address);
        /// Port to connect to.
        port (get_port): i64 = |ticket| ticket.room.port.into();
        /// The server's certificate, PEM; empty when the room is not encrypted. [method BackendPeerAuth.use_ticket] takes it.
        certificate (get_certificate): GString =
            |ticket| ticket.certificate.as_ref().map(GString::from).unwrap_or_default();
        /// Seconds the ticket lives.
        expires_in_seconds (get_expires_in_seconds): i64 = |ticket| ticket.expires_in.into();
    }
}
