//! `BackendRooms`: finding a room.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use backend_client::error::ClientError;
use backend_client::protocol::rooms::{
    CreateRoom, JoinByCode, MAX_PARTY, QuickPlay, RequestTicket, RoomPassword, RoomQuery,
};
use backend_client::rooms::regions::RegionPings;
use backend_client::rooms::{RoomRequest, Rooms, lan_discovery, ping};
use godot::init::is_main_thread;
use godot::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::nodes::backend_session::BackendSession;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_room_options::BackendRoomOptions;
use crate::resources::backend_room_query::BackendRoomQuery;
use crate::results::backend_error::not_configured;
use crate::results::backend_region_pings::BackendRegionPings;
use crate::results::backend_request::BackendRequest;
use crate::results::backend_room::{BackendJoinTicket, BackendRoomPage, BackendRoomResult, RoomList};
use crate::results::backend_room_follow::BackendRoomFollow;
use crate::results::backend_room_ping::BackendRoomPings;
use crate::runtime::background_tasks;
use crate::runtime::main_thread_queue;
use crate::runtime::network_interfaces;
use crate::runtime::optional_object::OptionalObject;

const NO_SESSION: &str = "assign \"Session\": rooms are listed for a logged-in player";

/// Lists rooms and requests join tickets.
///
/// ```gdscript
/// var page: BackendRoomPage = await $BackendRooms.list_rooms().wait()
/// for index in page.size():
///     list.add_item(page.get_room(index).name)
/// ```
///
/// See "Joining a game server" in the guide: [code]docs/src/joining.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendRooms {
    /// Connection settings. If unset, those of [member session] are used.
    #[export]
    config: Option<Gd<BackendConfig>>,
    /// The logged-in player. Required.
    #[export]
    #[var(set = set_session)]
    session: Option<Gd<BackendSession>>,
    calls: Calls,
    follows: Follows,
    regions: RegionPings,
    base: Base<Node>,
}

/// The lists that a node follows, whether a script keeps them or not.
#[derive(Default)]
struct Follows(RefCell<Vec<(Gd<BackendRoomFollow>, CancellationToken)>>);

impl Follows {
    fn add(&self, follow: &Gd<BackendRoomFollow>) {
        let mut follows = self.0.borrow_mut();
        follows.retain(|(follow, _)| !follow.bind().has_ended());
        follows.push((follow.clone(), follow.bind().cancellation()));
    }

    fn take(&self) -> Vec<(Gd<BackendRoomFollow>, CancellationToken)> {
        self.0.take()
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        // A node that never was in the tree. Handlers that use it do not run while it is being freed.
        for (mut follow, cancellation) in self.take() {
            cancellation.cancel();
            // From another thread nothing is called.
            if is_main_thread() {
                // Holds it until then: whoever awaits one of its signals does not.
                follow.run_deferred_gd(BackendRoomFollow::stop);
            }
        }
    }
}

/// Cancels a request for a room that nobody waits for any more. The process waits for that when it ends.
struct CancelOnDrop(RoomRequest);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.0.is_cancellable() {
            return;
        }
        let request = self.0.clone();
        background_tasks::spawn(async move {
            if let Err(error) = request.cancel().await {
                tracing::debug!(code = error.code(), "a request for a room ends by itself: {error}");
            }
        });
    }
}

#[godot_api]
impl INode for BackendRooms {
    fn exit_tree(&mut self) {
        let (owner, follows) = (self.calls.owner(), self.follows.take());
        // Open to handlers that call back into this node.
        let _reentrant = self.base_mut();
        main_thread_queue::cancel_all_now(owner);
        for (follow, _) in follows {
            BackendRoomFollow::stop(follow);
        }
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let warning = self
            .session
            .is_none()
            .then(|| GString::from("Assign \"Session\": rooms are listed for a logged-in player."));
        warning.into_iter().collect()
    }
}

#[godot_api]
impl BackendRooms {
    /// Lists one page of rooms. Without [param query], it lists the first 50 by name. Returns a [BackendRequest] that completes
    /// with a [BackendRoomPage].
    #[func]
    fn list_rooms(
        &self,
        #[opt(default = &OptionalObject::NONE)] query: OptionalObject<BackendRoomQuery>,
    ) -> Gd<BackendRequest> {
        let work = to_wire(query.into_inner()).and_then(|query| {
            let rooms = self.rooms()?;
            Ok(async move { rooms.list(&query).await.map(RoomList::all) })
        });
        self.calls.try_start(work, BackendRoomPage::answer)
    }

    /// Lists up to ten thousand rooms, page by page. [member BackendRoomQuery.limit] and [member BackendRoomQuery.cursor] are ignored.
    /// Returns a [BackendRequest] that completes with a [BackendRoomPage], which [method select_rooms] can sort and filter.
    #[func]
    fn list_all_rooms(
        &self,
        #[opt(default = &OptionalObject::NONE)] query: OptionalObject<BackendRoomQuery>,
    ) -> Gd<BackendRequest> {
        let work = to_wire(query.into_inner()).and_then(|query| {
            let rooms = self.rooms()?;
            Ok(async move { rooms.list_all(&query).await.map(RoomList::all) })
        });
        self.calls.try_start(work, BackendRoomPage::answer)
    }

    /// Filters and sorts rooms that are already loaded, on a worker thread and without a request to the backend.
    /// [member BackendRoomQuery.limit] and [member BackendRoomQuery.cursor] are ignored, and [param page] is not changed. With
    /// [param pings], the rooms are sorted by their measured latency instead of [member BackendRoomQuery.sort], the shortest first; rooms
    /// without a measurement come last, also if [member BackendRoomQuery.descending] is [code]true[/code]. Returns a [BackendRequest] that
    /// completes with a [BackendRoomPage].
    /// ```gdscript
    /// var all: BackendRoomPage = await rooms.list_all_rooms().wait()
    /// var query := BackendRoomQuery.new()
    /// query.search = search_field.text
    /// query.sort = BackendRoomQuery.SORT_PLAYERS
    /// var shown: BackendRoomPage = await rooms.select_rooms(all, query).wait()
    /// ```
    #[func]
    fn select_rooms(
        &self,
        page: Option<Gd<BackendRoomPage>>,
        query: Option<Gd<BackendRoomQuery>>,
        #[opt(default = &OptionalObject::NONE)] pings: OptionalObject<BackendRoomPings>,
    ) -> Gd<BackendRequest> {
        let work = to_wire(query).and_then(|query| {
            let room_list = room_list(page)?;
            let query = self.regions.resolved(&query);
            let pings = pings.into_inner().map(|pings| measured(&pings)).transpose()?;
            Ok(async move { room_list.select(&query, pings.as_deref()) })
        });
        self.calls.try_start(work, BackendRoomPage::answer)
    }

    /// Follows the list of [param query], or of all rooms. Returns a [BackendRoomFollow], which contains the list and emits a
    /// signal for each room that is added, changed or removed. [member BackendRoomQuery.limit] and [member BackendRoomQuery.cursor]
    /// are ignored. A list has up to ten thousand rooms.
    /// ```gdscript
    /// var follow := rooms.follow(query)
    /// follow.list_changed.connect(func() -> void: show_rooms(follow.get_rooms()))
    /// ```
    #[func]
    fn follow(
        &self,
        #[opt(default = &OptionalObject::NONE)] query: OptionalObject<BackendRoomQuery>,
    ) -> Gd<BackendRoomFollow> {
        let work = to_wire(query.into_inner()).and_then(|query| Ok((self.rooms()?, query)));
        let follow = BackendRoomFollow::start(work);
        self.follows.add(&follow);
        follow
    }

    /// Reads one room. Returns a [BackendRequest] that completes with a [BackendRoomResult].
    #[func]
    fn get_room(&self, room_id: GString) -> Gd<BackendRequest> {
        let room_id = room_id.to_string();
        let work = self.rooms().map(|rooms| async move { rooms.get(&room_id).await });
        self.calls.try_start(work, BackendRoomResult::answer)
    }

    /// Requests a join ticket for a room, valid once and for a minute. A room with [member BackendRoom.has_password] needs
    /// [param password]. A wrong one fails with [code]wrong_room_password[/code], and too many wrong ones with
    /// [code]rate_limited[/code]. Private rooms are joined with [method join_by_code]. The ticket reserves a seat in the room until
    /// it is used or expires. If the room has no free seat, the request fails with [code]room_full[/code]. A further ticket, also
    /// for another room, releases the previous seat. A party requests [param seats] at once, up to 16, and gets all or none. The
    /// others claim theirs with [member BackendJoinTicket.party_code] and [method join_party]. Returns a [BackendRequest] that
    /// completes with a [BackendJoinTicket].
    #[func]
    fn request_ticket(
        &self,
        room_id: GString,
        #[opt(default = "")] password: GString,
        #[opt(default = 1)] seats: i64,
    ) -> Gd<BackendRequest> {
        let room_id = room_id.to_string();
        let request = party_seats(seats).map(|seats| RequestTicket {
            password: room_password(&password),
            seats,
            party_code: None,
        });
        let work = request.and_then(|request| {
            let rooms = self.rooms()?;
            Ok(async move { rooms.ticket(&room_id, &request).await })
        });
        self.calls.try_start(work, BackendJoinTicket::answer)
    }

    /// Claims one of the seats that another player has reserved for a party in a room, and requests a ticket for it. The party's
    /// code replaces the room's password and invite code. If no seat is left, the request fails with
    /// [code]party_code_unknown[/code]. Returns a [BackendRequest] that completes with a [BackendJoinTicket].
    /// ```gdscript
    /// # The leader, who sends room_id and party_code to the others:
    /// var ticket: BackendJoinTicket = await rooms.request_ticket(room.room_id, "", party.size()).wait()
    /// ```
    /// ```gdscript
    /// # The others:
    /// var ticket: BackendJoinTicket = await rooms.join_party(room_id, party_code).wait()
    /// ```
    #[func]
    fn join_party(&self, room_id: GString, party_code: GString) -> Gd<BackendRequest> {
        let room_id = room_id.to_string();
        let request = RequestTicket { party_code: Some(party_code.to_string()), ..RequestTicket::default() };
        let work = self.rooms().map(|rooms| async move { rooms.ticket(&room_id, &request).await });
        self.calls.try_start(work, BackendJoinTicket::answer)
    }

    /// Requests a join ticket for the room with an invite code, such as [code]K7Q-X3M[/code]. Case, hyphens and spaces do not
    /// matter. A code that no room has fails with [code]invite_code_unknown[/code], and too many wrong ones with
    /// [code]rate_limited[/code]. The code does not replace the room's [param password]; [param seats] is that of
    /// [method request_ticket]. Returns a [BackendRequest] that completes with a [BackendJoinTicket], whose
    /// [member BackendJoinTicket.room] is the room.
    /// ```gdscript
    /// var ticket: BackendJoinTicket = await rooms.join_by_code(code_field.text).wait()
    /// if ticket.failed() and ticket.error.code == "wrong_room_password":
    ///     password_field.show()
    /// ```
    #[func]
    fn join_by_code(
        &self,
        invite_code: GString,
        #[opt(default = "")] password: GString,
        #[opt(default = 1)] seats: i64,
    ) -> Gd<BackendRequest> {
        let (invite_code, password) = (invite_code.to_string(), room_password(&password));
        let request = party_seats(seats).map(|seats| JoinByCode { invite_code, password, seats });
        let work = request.and_then(|request| {
            let rooms = self.rooms()?;
            Ok(async move { rooms.ticket_by_code(&request).await })
        });
        self.calls.try_start(work, BackendJoinTicket::answer)
    }

    /// Creates a room on a dedicated server that the backend starts, and requests a ticket for it. [param options] may be
    /// [code]null[/code]. A party requests [param seats] at once, see [method request_ticket]. Returns a [BackendRequest] that
    /// completes with a [BackendJoinTicket] when the server is ready: at once if the backend has a spare server, otherwise after
    /// its start. It fails with [code]room_start_failed[/code] if the server does not start, [code]room_limit_reached[/code] if the
    /// player has too many rooms, [code]room_creation_refused[/code] if the backend creates no rooms, and [code]timeout[/code]
    /// after [param timeout] seconds. If it fails or is cancelled, the server is stopped.
    /// ```gdscript
    /// var options := BackendRoomOptions.new()
    /// options.room_name = "Frog pond"
    /// options.map = "swamp"
    /// var ticket: BackendJoinTicket = await rooms.create_room(options).wait()
    /// if ticket.ok():
    ///     peer_auth.use_ticket(ticket)
    /// ```
    #[func]
    fn create_room(
        &self,
        options: Option<Gd<BackendRoomOptions>>,
        #[opt(default = 1)] seats: i64,
        #[opt(default = 60.0)] timeout: f64,
    ) -> Gd<BackendRequest> {
        let request = BackendRoomOptions::to_wire(options.as_ref()).and_then(|room| {
            let (seats, timeout) = (party_seats(seats)?, room_timeout(timeout)?);
            Ok((CreateRoom { room, seats, ..CreateRoom::default() }, timeout))
        });
        let work = request.and_then(|(request, timeout)| Ok((self.rooms()?.create(request)?, timeout)));
        self.start_room_request(work)
    }

    /// Finds the fullest room without a password that matches [param query] and has a free seat (for [param seats] above 1, the
    /// emptiest one with enough seats), and requests a ticket for it. If there is none, a room is created from [param options] as
    /// by [method create_room], together with other players who search the same. If [param options] is [code]null[/code] or the
    /// backend creates no rooms, the request waits for a seat. If [param options] does not set map or mode, those of [param query]
    /// are used; its order, page and fields are ignored. Returns a [BackendRequest] that completes with a [BackendJoinTicket], or
    /// fails with [code]timeout[/code] after [param timeout] seconds.
    /// ```gdscript
    /// var query := BackendRoomQuery.new()
    /// query.mode = "race"
    /// var ticket: BackendJoinTicket = await rooms.quick_play(query, BackendRoomOptions.new()).wait()
    /// ```
    #[func]
    fn quick_play(
        &self,
        query: Option<Gd<BackendRoomQuery>>,
        options: Option<Gd<BackendRoomOptions>>,
        #[opt(default = 1)] seats: i64,
        #[opt(default = 60.0)] timeout: f64,
    ) -> Gd<BackendRequest> {
        let request = to_wire(query).and_then(|query| {
            let room =
                options.as_ref().map(|options| BackendRoomOptions::to_wire(Some(options))).transpose()?;
            let (seats, timeout) = (party_seats(seats)?, room_timeout(timeout)?);
            Ok((QuickPlay { query, room, seats, ..QuickPlay::default() }, timeout))
        });
        let work = request.and_then(|(request, timeout)| Ok((self.rooms()?.quick_play(request)?, timeout)));
        self.start_room_request(work)
    }

    /// Measures the latency of the servers of a page, such as the rows on the screen. Each server receives a few UDP datagrams;
    /// neither the backend nor a session is needed. Hundreds of servers take less than two seconds. Returns a [BackendRequest] that
    /// completes with [BackendRoomPings], one for each room; a server that does not respond has an error of its own.
    /// ```gdscript
    /// var pings: BackendRoomPings = await rooms.ping_rooms(page).wait()
    /// for index in pings.size():
    ///     var ping := pings.get_ping(index)
    ///     list.set_item_text(index, "%d ms" % ping.latency_ms if ping.ok() else "?")
    /// ```
    #[func]
    fn ping_rooms(&self, page: Option<Gd<BackendRoomPage>>) -> Gd<BackendRequest> {
        let work = room_list(page)
            .map(|room_list| async move { ping::ping_all(room_list.ping_targets()).await.map(Arc::from) });
        self.calls.try_start(work, BackendRoomPings::answer)
    }

    /// Measures the latency of the backend's regions. The operator of the backend configures an address for each region that
    /// responds to pings. The measurement takes about half a second. Queries whose [member BackendRoomQuery.region] is
    /// [code]nearest[/code] use the last measurement. Returns a [BackendRequest] that completes with [BackendRegionPings].
    /// ```gdscript
    /// var regions: BackendRegionPings = await rooms.ping_regions().wait()
    /// var options := BackendMatchOptions.new()
    /// options.latencies = regions.get_latencies()
    /// ```
    #[func]
    fn ping_regions(&self) -> Gd<BackendRequest> {
        let work = self.rooms().map(|rooms| async move { rooms.ping_regions().await });
        self.calls.try_start(work, BackendRegionPings::answer)
    }

    /// Finds servers with [member BackendServerRegistration.lan_discovery] on the local network, by broadcast over IPv4 and by
    /// multicast over IPv6. Neither the backend nor a session is needed. The search takes about a second. Returns a
    /// [BackendRequest] that completes with a [BackendRoomPage] whose rooms have [member BackendRoom.is_lan]. A server with
    /// [BackendPeerAuth] requires a ticket here as well: request one with the room's id.
    #[func]
    fn discover_lan(&self) -> Gd<BackendRequest> {
        let interfaces = network_interfaces::list();
        let work = async move { lan_discovery::discover_lan(&interfaces).await.map(RoomList::lan) };
        self.calls.start(work, BackendRoomPage::answer)
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_session(&mut self, session: Option<Gd<BackendSession>>) {
        self.session = session;
        self.base_mut().update_configuration_warnings();
    }

    fn start_room_request(
        &self,
        prepared: Result<(RoomRequest, Duration), ClientError>,
    ) -> Gd<BackendRequest> {
        let (request, timeout) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                return self.calls.start(std::future::ready(Err(error)), BackendJoinTicket::answer);
            }
        };
        // Dropped on the main thread, also when this node leaves the tree.
        let guard = CancelOnDrop(request.clone());
        self.calls.start(async move { request.run(timeout).await }, move |outcome| {
            drop(guard);
            BackendJoinTicket::answer(outcome)
        })
    }

    fn rooms(&self) -> Result<Rooms, ClientError> {
        let session = self.session.as_ref().filter(|session| session.is_instance_valid());
        let connected = session.ok_or_else(|| not_configured(NO_SESSION))?.bind().connected()?;
        let backend = match &self.config {
            Some(config) => config::connect(config::resolve(Some(config))?)?,
            None => connected.backend,
        };
        Ok(Rooms::new(backend, connected.session).with_regions(self.regions.clone()))
    }
}

fn room_list(page: Option<Gd<BackendRoomPage>>) -> Result<RoomList, ClientError> {
    let page = page.ok_or_else(|| ClientError::field("page", "must not be null"))?;
    page.bind().room_list().map_err(|_| ClientError::field("page", "its call failed"))
}

fn measured(pings: &Gd<BackendRoomPings>) -> Result<Arc<[ping::RoomPing]>, ClientError> {
    pings.bind().measured().map_err(|_| ClientError::field("pings", "its call failed"))
}

/// One seat is what a ticket has anyway.
fn party_seats(seats: i64) -> Result<Option<u32>, ClientError> {
    let rule = || ClientError::field("seats", format!("must be 1 to {MAX_PARTY}"));
    let seats = u32::try_from(seats).map_err(|_| rule())?;
    Ok((seats != 1).then_some(seats))
}

fn room_timeout(seconds: f64) -> Result<Duration, ClientError> {
    let valid = Some(seconds).filter(|seconds| (1.0..=3_600.0).contains(seconds));
    valid
        .map(Duration::from_secs_f64)
        .ok_or_else(|| ClientError::field("timeout", "must be 1 to 3600 seconds"))
}

fn room_password(password: &GString) -> RoomPassword {
    RoomPassword(password.to_string())
}

/// The query, or one for all rooms.
fn to_wire(query: Option<Gd<BackendRoomQuery>>) -> Result<RoomQuery, ClientError> {
    query.map_or_else(|| Ok(RoomQuery::default()), |query| query.bind().to_wire())
}
