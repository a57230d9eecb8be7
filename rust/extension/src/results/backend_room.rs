//! `BackendRoom` and the results that hold rooms.

use std::sync::Arc;

use backend_client::error::ClientError;
use backend_client::protocol::registration::ServerStatus;
use backend_client::protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery, RoomSort, RoomVisibility};
use backend_client::rooms::ping::{RoomPing, Target};
use backend_client::rooms::{select, sort_by_ping};
use godot::prelude::*;

use crate::class_enum::class_enum;
use crate::results::backend_error::Failure;
use crate::results::result_class::result_class;
use crate::runtime::worker_threads;
use crate::variant_json::{attributes_dictionary, gstring};

/// Rooms that are freed on the main thread: so few take no noticeable time.
const MAX_INLINE_DROP: usize = 200;

/// A page of rooms, shared by the objects that show it. A long one is freed on a worker.
#[derive(Clone)]
pub struct SharedPage(Option<Arc<Rooms>>);

struct Rooms {
    rooms: Vec<Arc<Room>>,
    next_cursor: Option<String>,
}

impl SharedPage {
    /// Any thread, but a long page on a worker.
    pub fn new(page: RoomPage) -> Self {
        let rooms = page.rooms.into_iter().map(Arc::new).collect();
        Self(Some(Arc::new(Rooms { rooms, next_cursor: page.next_cursor })))
    }

    /// Rooms that others have as well.
    pub fn shared(rooms: Vec<Arc<Room>>) -> Self {
        Self(Some(Arc::new(Rooms { rooms, next_cursor: None })))
    }

    pub fn rooms(&self) -> &[Arc<Room>] {
        self.0.as_ref().map_or(&[], |page| &page.rooms)
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        let Some(page) = self.0.take() else { return };
        if page.rooms.len() > MAX_INLINE_DROP && Arc::strong_count(&page) == 1 {
            worker_threads::spawn(async move { drop(page) });
        }
    }
}

/// Rooms of a page in an order.
#[derive(Clone)]
pub struct RoomList {
    pub page: SharedPage,
    /// Indices of the rooms; `None` for all in the order of the page.
    pub order: Option<Arc<[usize]>>,
    /// Whether they were found on the local network.
    pub is_lan: bool,
}

impl RoomList {
    /// All rooms of a page.
    pub fn all(page: RoomPage) -> Self {
        Self { page: SharedPage::new(page), order: None, is_lan: false }
    }

    /// Rooms of a list that is followed.
    pub fn followed(rooms: Vec<Arc<Room>>) -> Self {
        Self { page: SharedPage::shared(rooms), order: None, is_lan: false }
    }

    /// All rooms that were found on the local network.
    pub fn lan(page: RoomPage) -> Self {
        Self { is_lan: true, ..Self::all(page) }
    }

    /// Any thread. The servers of the rooms, for pings.
    pub fn ping_targets(&self) -> Vec<Target> {
        let rooms = (0..self.len()).filter_map(|position| self.room(position));
        let target = |room: &Room| Target {
            room_id: room.room_id.clone(),
            address: room.address.clone(),
            query_port: room.query_port,
        };
        rooms.map(target).collect()
    }

    /// Any thread. The rooms that match `query`, in its order, or in that of the pings.
    pub fn select(&self, query: &RoomQuery, pings: Option<&[RoomPing]>) -> Result<Self, ClientError> {
        let rooms = self.page.rooms();
        // In the order of pings, the direction is that of the latency; names run from A to Z.
        let by_name = RoomQuery { sort: RoomSort::Name, descending: false, ..query.clone() };
        let listed = if pings.is_some() { &by_name } else { query };
        let mut order = match &self.order {
            Some(order) => select(rooms, order.iter().copied(), listed),
            None => select(rooms, 0..rooms.len(), listed),
        }?;
        if let Some(pings) = pings {
            sort_by_ping(rooms, &mut order, pings, query.descending);
        }
        Ok(Self { order: Some(order.into()), ..self.clone() })
    }

    fn len(&self) -> usize {
        self.order.as_ref().map_or(self.page.rooms().len(), |order| order.len())
    }

    fn index(&self, position: usize) -> Option<usize> {
        let index = match &self.order {
            Some(order) => *order.get(position)?,
            None => position,
        };
        (index < self.page.rooms().len()).then_some(index)
    }

    fn room(&self, position: usize) -> Option<&Room> {
        self.page.rooms().get(self.index(position)?).map(AsRef::as_ref)
    }

    fn entry(&self, position: usize) -> Option<Entry> {
        Some(Entry { page: self.page.clone(), index: self.index(position)?, is_lan: self.is_lan })
    }

    fn next_cursor(&self) -> Option<&String> {
        self.page.0.as_ref()?.next_cursor.as_ref()
    }
}

/// One room of a page; the page is shared, not copied.
pub struct Entry {
    page: SharedPage,
    index: usize,
    is_lan: bool,
}

impl Entry {
    pub fn single(room: Room) -> Self {
        Self::shared(Arc::new(room))
    }

    pub fn shared(room: Arc<Room>) -> Self {
        Self { page: SharedPage::shared(vec![room]), index: 0, is_lan: false }
    }

    fn room(&self) -> &Room {
        // Made by `entry` and `single` only, both within bounds.
        &self.page.rooms()[self.index]
    }
}

/// A value of `BackendRoom.Visibility`.
pub const fn visibility_number(visibility: RoomVisibility) -> i64 {
    match visibility {
        RoomVisibility::Public => 0,
        RoomVisibility::Unlisted => 1,
        RoomVisibility::Private => 2,
    }
}

result_class! {
    /// A game server in the room list.
    BackendRoom(Entry) {
        /// Id of the room, for [method BackendRooms.request_ticket].
        room_id (get_room_id): GString = |entry| gstring(&entry.room().room_id);
        /// Name of the server.
        name (get_name): GString = |entry| gstring(&entry.room().name);
        /// Host name or IP address of the server.
        address (get_address): GString = |entry| gstring(&entry.room().address);
        /// Port of the server.
        port (get_port): i64 = |entry| entry.room().port.into();
        /// UDP port for queries such as [method BackendRooms.ping_rooms], or 0 if the server has none.
        query_port (get_query_port): i64 = |entry| entry.room().query_port.map_or(0, i64::from);
        /// If [code]true[/code], the room was found on the local network by [method BackendRooms.discover_lan]. Its [member room_id] is
        /// empty if the server is not registered.
        is_lan (get_is_lan): bool = |entry| entry.is_lan;
        /// Current map.
        map (get_map): GString = |entry| gstring(&entry.room().map);
        /// Current game mode.
        mode (get_mode): GString = |entry| gstring(&entry.room().mode);
        /// Region of the server, for example [code]eu-west[/code].
        region (get_region): GString = |entry| gstring(&entry.room().region);
        /// Version of the game.
        version (get_version): GString = |entry| gstring(&entry.room().version);
        /// Current number of players.
        players (get_players): i64 = |entry| entry.room().players.into();
        /// Number of seats that are reserved for players who have a ticket and have not joined yet.
        reserved_seats (get_reserved_seats): i64 = |entry| entry.room().reserved.into();
        /// Number of seats that are neither taken nor reserved.
        free_seats (get_free_seats): i64 = |entry| entry.room().free_seats().into();
        /// Maximum number of players.
        max_players (get_max_players): i64 = |entry| entry.room().max_players.into();
        /// Tags of the server.
        tags (get_tags): PackedStringArray = |entry| entry.room().tags.iter().map(gstring).collect();
        /// Status of the server, one of [enum Status].
        status (get_status): i64 = |entry| match entry.room().status {
            ServerStatus::Ready => Self::STATUS_READY,
            ServerStatus::Draining => Self::STATUS_DRAINING,
            ServerStatus::Unhealthy => Self::STATUS_UNHEALTHY,
        };
        /// Visibility of the room, one of [enum Visibility]. Lists contain public rooms only.
        visibility (get_visibility): i64 = |entry| visibility_number(entry.room().visibility);
        /// If [code]true[/code], [method BackendRooms.request_ticket] needs the room's password.
        has_password (get_has_password): bool = |entry| entry.room().has_password;
        /// Custom attributes that the server has set: names with values of type [String], [int], [float] or [bool].
        attributes (get_attributes): VarDictionary = |entry| attributes_dictionary(&entry.room().attributes);
        /// If [code]true[/code], the room has no free seat.
        is_full (get_is_full): bool = |entry| entry.room().free_seats() == 0;
    }
}

class_enum! {
    BackendRoom::STATUS: "Status" {
        /// The server accepts players.
        STATUS_READY = 0;
        /// The server finishes its match and accepts no new players.
        STATUS_DRAINING = 1;
        /// The main loop of the server has stalled.
        STATUS_UNHEALTHY = 2;
    }
}

class_enum! {
    BackendRoom::VISIBILITY: "Visibility" {
        /// The room is listed, and joined by its id.
        VISIBILITY_PUBLIC = 0;
        /// The room is not listed. It is joined by its id or its invite code.
        VISIBILITY_UNLISTED = 1;
        /// The room is not listed, and can be joined by its invite code only.
        VISIBILITY_PRIVATE = 2;
    }
}

result_class! {
    /// A list of rooms: one page, or all pages.
    ///
    /// [codeblock]
    /// for room: BackendRoom in page:
    ///     print(room.name)
    /// [/codeblock]
    ///
    /// A [BackendRoom] is created when it is read, so a list of ten thousand rooms costs nothing until it is shown. Show the rooms that
    /// fit on the screen, and sort and filter with [method BackendRooms.select_rooms].
    BackendRoomPage(RoomList) {
        /// Value for [member BackendRoomQuery.cursor] to request the next page. Empty on the last page.
        next_cursor (get_next_cursor): GString = |page| {
            page.next_cursor().map(gstring).unwrap_or_default()
        };
        /// If [code]true[/code], there is another page.
        has_more (get_has_more): bool = |page| page.next_cursor().is_some();
    }
    methods {
        /// Returns the number of rooms in the list.
        #[func]
        fn size(&self) -> i64 {
            self.outcome.as_ref().map_or(0, |page| page.len() as i64)
        }

        /// Returns the room at [param index], or [code]null[/code] if the index is out of range.
        #[func]
        fn get_room(&self, index: i64) -> Option<Gd<BackendRoom>> {
            let entry = self.outcome.as_ref().ok()?.entry(usize::try_from(index).ok()?)?;
            Some(BackendRoom::object(Ok(entry)))
        }

        pub fn room_list(&self) -> Result<RoomList, Failure> {
            self.outcome.clone()
        }
    }
    elements: get_room;
}

result_class! {
    /// The result of [method BackendRooms.get_room].
    BackendRoomResult(Room) {
        /// The room, or [code]null[/code] if the call failed.
        room (get_room): Option<Gd<BackendRoom>> = |room| Some(BackendRoom::object(Ok(Entry::single(room.clone()))));
    }
}

result_class! {
    /// A single-use permission to join one room, valid for a minute, with a reserved seat.
    ///
    /// Pass it to [method BackendPeerAuth.use_ticket], then connect to [member address] and [member port]. If [member is_relay] is
    /// [code]true[/code], pass it to [method BackendRelay.join] instead.
    BackendJoinTicket(JoinTicket) {
        /// The room, as it was when the ticket was issued, or [code]null[/code] if the call failed.
        room (get_room): Option<Gd<BackendRoom>> =
            |ticket| Some(BackendRoom::object(Ok(Entry::single(ticket.room.clone()))));
        /// The signed ticket. Send it to the game server of this room only.
        ticket (get_ticket): GString = |ticket| gstring(&ticket.ticket);
        /// Code by which the others of a party claim their seats with [method BackendRooms.join_party]. Empty if one seat was requested.
        party_code (get_party_code): GString =
            |ticket| ticket.party_code.as_ref().map(gstring).unwrap_or_default();
        /// Code by which others join with [method BackendRooms.join_by_code]. Empty if the room is public, or if the ticket is not from
        /// [method BackendRooms.create_room], [method BackendRooms.join_by_code] or [method BackendRelay.host_room].
        invite_code (get_invite_code): GString =
            |ticket| ticket.invite_code.as_ref().map(gstring).unwrap_or_default();
        /// Id of the room.
        room_id (get_room_id): GString = |ticket| gstring(&ticket.room.room_id);
        /// Host name or IP address of the server.
        address (get_address): GString = |ticket| gstring(&ticket.room.address);
        /// Port of the server.
        port (get_port): i64 = |ticket| ticket.room.port.into();
        /// Certificate of the server in PEM format, or empty if the room does not use DTLS. [method BackendPeerAuth.use_ticket] applies
        /// it.
        certificate (get_certificate): GString =
            |ticket| ticket.certificate.as_ref().map(gstring).unwrap_or_default();
        /// If [code]true[/code], a player hosts the room through the relay: join it with [method BackendRelay.join].
        is_relay (get_is_relay): bool = |ticket| ticket.relay;
        /// Seconds until the ticket expires, counted from when it was issued.
        expires_in_seconds (get_expires_in_seconds): i64 = |ticket| ticket.expires_in.into();
    }
}

impl BackendJoinTicket {
    /// The ticket as it came.
    pub fn to_wire(&self) -> Result<JoinTicket, Failure> {
        self.outcome.clone()
    }
}
