//! `BackendMatchmaker`: a player's search for a match, and a game server's for more players.

mod search;

use std::cell::{Cell, RefCell};

use backend_client::error::{ClientError, Fault};
use backend_client::matchmaking::{Caller, Matchmaking, Progress, Request, Search};
use godot::prelude::*;

use self::search::{CancelOnDrop, Running, estimated_wait, proposal};
use crate::class_enum::class_enum;
use crate::config;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::backend_session::BackendSession;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_match_options::BackendMatchOptions;
use crate::results::backend_error::{BackendError, not_configured};
use crate::results::backend_match::{BackendMatch, BackendPlacedMatches};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::runtime::main_thread_queue;
use crate::runtime::optional_object::OptionalObject;
use crate::variant_json::gstring;

/// Finds a match for a player, and players for a running match.
///
/// ```gdscript
/// @onready var matchmaker: BackendMatchmaker = $BackendMatchmaker
///
/// func _on_play_pressed() -> void:
///     matchmaker.match_proposed.connect(func(_proposal: BackendMatch) -> void: accept_dialog.show())
///     var found: BackendMatch = await matchmaker.find_match().wait()
///     if found.failed():
///         status.text = found.error.message
///     else:
///         join(found.ticket)
///
/// func _on_accept_pressed() -> void:
///     matchmaker.accept()
/// ```
/// The backend stores the search, so it continues after lost connections and restarts of the backend. It is cancelled when the node
/// leaves the tree. The scene [code]matchmaking_panel.tscn[/code] shows a search to the player.
///
/// See "Matchmaking" in the guide: [code]docs/src/matchmaking.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendMatchmaker {
    /// Connection settings. If unset, those of [member session] or [member registration] are used.
    #[export]
    config: Option<Gd<BackendConfig>>,
    /// The logged-in player who searches. Required in a client.
    #[export]
    #[var(set = set_session)]
    session: Option<Gd<BackendSession>>,
    /// The registered server that searches for more players with [method find_players]. Required in a game server.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Name of the matchmaker in the backend's matchmaking file.
    #[export]
    matchmaker: GString,
    /// Status of the search, one of [enum Status].
    #[var(get = get_status, no_set)]
    status: PhantomVar<i64>,
    /// Id of the search, or empty. The other players of a party pass it to [method join_party].
    #[var(get = get_ticket_id, no_set)]
    ticket_id: PhantomVar<GString>,
    /// Duration of recent searches in seconds, or -1 if unknown.
    #[var(get = get_estimated_wait_seconds, no_set)]
    estimated_wait_seconds: PhantomVar<f64>,
    /// Duration of this search in seconds, or 0 without a search.
    #[var(get = get_waited_seconds, no_set)]
    waited_seconds: PhantomVar<f64>,
    /// Seconds left to accept the proposed match, or 0 without one.
    #[var(get = get_answer_seconds, no_set)]
    answer_seconds: PhantomVar<f64>,
    /// Number of players of the party who have joined it.
    #[var(get = get_party_members, no_set)]
    party_members: PhantomVar<i64>,
    /// Number of players that the party needs. 1 for a player alone, 0 before the first response of the backend.
    #[var(get = get_party_size, no_set)]
    party_size: PhantomVar<i64>,
    /// The proposed or placed match, or [code]null[/code].
    #[var(get = get_current_match, no_set)]
    current_match: PhantomVar<Option<Gd<BackendMatch>>>,
    /// If [code]false[/code], the last request of the search got no response. The search continues.
    #[var(get = get_connected, no_set)]
    connected: PhantomVar<bool>,
    running: RefCell<Option<Running>>,
    /// The status after the search, until the next one.
    ended: Cell<i64>,
    next_number: Cell<u64>,
    calls: Calls,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendMatchmaker {
    fn exit_tree(&mut self) {
        let owner = self.calls.owner();
        if let Some(running) = self.running.replace(None) {
            // At once: the process may end in this frame, and waits for this.
            drop(CancelOnDrop(running.search));
        }
        self.ended.set(Self::STATUS_IDLE);
        // Open to handlers that call back into this node.
        let _reentrant = self.base_mut();
        main_thread_queue::cancel_all_now(owner);
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let warning = (self.session.is_none() && self.registration.is_none())
            .then(|| GString::from("Assign \"Session\" in a client, or \"Registration\" in a game server."));
        warning.into_iter().collect()
    }
}

class_enum! {
    BackendMatchmaker::STATUS: "Status" {
        /// There is no search.
        STATUS_IDLE = 0;
        /// The search waits for players of the party to join.
        STATUS_PARTY = 1;
        /// The search waits for a match.
        STATUS_SEARCHING = 2;
        /// There is a match, which this player has to accept or to decline.
        STATUS_PROPOSED = 3;
        /// This player has accepted the match; others have not yet.
        STATUS_ACCEPTED = 4;
        /// All have accepted the match, which waits for a room.
        STATUS_PLACING = 5;
        /// The match has a room, and this player has a ticket to it.
        STATUS_READY = 6;
        /// The search has failed or was cancelled.
        STATUS_FAILED = 7;
    }
}

#[godot_api]
impl BackendMatchmaker {
    /// Emitted when [member status] has changed. [param status] is one of [enum Status].
    #[signal]
    pub fn status_changed(status: i64);

    /// Emitted when [member estimated_wait_seconds] has changed.
    #[signal]
    pub fn estimated_wait_changed(seconds: f64);

    /// Emitted when there is a match that the player has to accept with [method accept], or decline with [method decline], within
    /// [member answer_seconds]. If another player declines it, the search continues, and [signal status_changed] is emitted with
    /// [constant STATUS_SEARCHING].
    #[signal]
    pub fn match_proposed(proposal: Gd<BackendMatch>);

    /// Emitted when more or fewer players have joined the party, or more have accepted the match.
    #[signal]
    pub fn players_changed();

    /// Emitted when the match has a room, and this player has a ticket to it.
    #[signal]
    pub fn match_ready(ready: Gd<BackendMatch>);

    /// Emitted when the search has ended without a match, also when it was cancelled.
    #[signal]
    pub fn search_failed(error: Gd<BackendError>);

    /// Emitted when the backend becomes unreachable ([code]false[/code]), and when it is reachable again. The search continues.
    #[signal]
    pub fn connection_changed(connected: bool);

    /// Searches for a match. Returns a [BackendRequest] that completes with a [BackendMatch], which has the ticket to the room. It
    /// fails with [code]no_match[/code] if none was found in time, [code]match_not_accepted[/code] if this player or one of the
    /// party did not accept it, [code]no_room[/code] if no room was free for it, [code]cancelled[/code], or
    /// [code]already_searching[/code] if this node is already searching. Another search of the same player ends this one.
    ///
    /// If the backend is unreachable, the search continues for two minutes, or for 30 seconds if it has not begun yet.
    #[func]
    fn find_match(
        &self,
        #[opt(default = &OptionalObject::NONE)] options: OptionalObject<BackendMatchOptions>,
    ) -> Gd<BackendRequest> {
        let request =
            BackendMatchOptions::to_ticket(options.into_inner().as_ref(), self.matchmaker.to_string());
        let prepared = request.and_then(|request| Ok((self.for_player()?, Request::Create(request))));
        self.start(prepared)
    }

    /// Joins the party of another player's search, whose [member ticket_id] is the invitation.
    /// [member BackendMatchOptions.party_size] is ignored. Returns a [BackendRequest] that completes with a [BackendMatch], as
    /// [method find_match] does.
    /// ```gdscript
    /// # The leader, who sends ticket_id to the others:
    /// options.party_size = 2
    /// matchmaker.find_match(options)
    /// await matchmaker.players_changed
    /// send_invitation(matchmaker.ticket_id)
    /// ```
    /// ```gdscript
    /// # The others:
    /// var found: BackendMatch = await matchmaker.join_party(ticket_id).wait()
    /// ```
    #[func]
    fn join_party(
        &self,
        ticket_id: GString,
        #[opt(default = &OptionalObject::NONE)] options: OptionalObject<BackendMatchOptions>,
    ) -> Gd<BackendRequest> {
        let request = BackendMatchOptions::to_party_member(options.into_inner().as_ref())
            .map(|player| Request::Join { ticket_id: ticket_id.to_string(), player });
        let prepared = request.and_then(|request| Ok((self.for_player()?, request)));
        self.start(prepared)
    }

    /// Accepts the proposed match. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn accept(&self) -> Gd<BackendRequest> {
        self.answer(true)
    }

    /// Declines the proposed match, which ends the search of this player's party with [code]match_not_accepted[/code]. The others
    /// continue to search. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn decline(&self) -> Gd<BackendRequest> {
        self.answer(false)
    }

    /// Cancels the search, for the whole party. A match that already gets its room is not stopped: the request fails with
    /// [code]matchmaking_ticket_closed[/code], and the search continues. Returns a [BackendRequest] that completes with a
    /// [BackendResult].
    #[func]
    fn cancel(&self) -> Gd<BackendRequest> {
        let search = self.search();
        let work = async move {
            match search {
                Some(search) => search.cancel().await,
                None => Ok(()),
            }
        };
        self.calls.start(work, BackendResult::answer)
    }

    /// Searches for more players for the match that runs on this game server, such as a replacement for one who has left.
    /// [param player_ids] are the players who are present. They have to come from matches that were placed on this server in the
    /// last quarter of an hour, otherwise the request fails with [code]invalid_field[/code]. A further call replaces the previous
    /// one. Returns a [BackendRequest] that completes with a [BackendMatch] of all players when some were found; the new players
    /// connect with tickets. It fails as [method find_match] does.
    /// ```gdscript
    /// func _on_player_left() -> void:
    ///     var found: BackendMatch = await matchmaker.find_players(ids_of_players()).wait()
    ///     if found.ok():
    ///         expect_players(found.player_ids)
    /// ```
    #[func]
    fn find_players(&self, player_ids: PackedStringArray) -> Gd<BackendRequest> {
        let prepared = self.for_server().map(|(matchmaking, server_id)| {
            let present = player_ids.as_slice().iter().map(ToString::to_string).collect();
            let matchmaker = self.matchmaker.to_string();
            (matchmaking, Request::Backfill { matchmaker, server_id, present })
        });
        if prepared.is_ok() {
            // The backend keeps one such search per server, which the new one replaces.
            self.running.replace(None);
        }
        self.start(prepared)
    }

    /// Reads the matches that were placed on this game server in the last quarter of an hour. Returns a [BackendRequest] that
    /// completes with [BackendPlacedMatches].
    /// ```gdscript
    /// var matches: BackendPlacedMatches = await matchmaker.list_matches().wait()
    /// team = matches.get_team(player_id)
    /// ```
    #[func]
    fn list_matches(&self) -> Gd<BackendRequest> {
        let work = self
            .for_server()
            .map(|(matchmaking, server_id)| async move { matchmaking.placed_matches(&server_id).await });
        self.calls.try_start(work, BackendPlacedMatches::answer)
    }

    /// Returns [code]true[/code] while there is a search.
    #[func]
    fn is_searching(&self) -> bool {
        self.running.borrow().is_some()
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

    #[func]
    fn set_registration(&mut self, registration: Option<Gd<BackendServerRegistration>>) {
        self.registration = registration;
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn get_status(&self) -> i64 {
        self.running.borrow().as_ref().map_or_else(|| self.ended.get(), Running::status)
    }

    #[func]
    fn get_ticket_id(&self) -> GString {
        self.known(|progress| Some(gstring(&progress.ticket.as_ref()?.ticket_id))).unwrap_or_default()
    }

    #[func]
    fn get_estimated_wait_seconds(&self) -> f64 {
        self.known(estimated_wait).unwrap_or(-1.0)
    }

    #[func]
    fn get_waited_seconds(&self) -> f64 {
        self.running.borrow().as_ref().map_or(0.0, |running| running.started.elapsed().as_secs_f64())
    }

    #[func]
    fn get_answer_seconds(&self) -> f64 {
        let left = |progress: &Progress| {
            let until = progress.answer_until?;
            Some(until.saturating_duration_since(config::clock().now()).as_secs_f64())
        };
        self.known(left).unwrap_or_default()
    }

    #[func]
    fn get_party_members(&self) -> i64 {
        self.known(|progress| Some(progress.ticket.as_ref()?.player_ids.len() as i64)).unwrap_or_default()
    }

    #[func]
    fn get_party_size(&self) -> i64 {
        self.known(|progress| Some(i64::from(progress.ticket.as_ref()?.party_size))).unwrap_or_default()
    }

    #[func]
    fn get_current_match(&self) -> Option<Gd<BackendMatch>> {
        self.known(proposal)
    }

    #[func]
    fn get_connected(&self) -> bool {
        self.known(|progress| Some(progress.connected)).unwrap_or(true)
    }

    fn known<T>(&self, read: impl FnOnce(&Progress) -> Option<T>) -> Option<T> {
        self.running.borrow().as_ref().and_then(|running| running.progress.as_ref()).and_then(read)
    }

    fn search(&self) -> Option<Search> {
        self.running.borrow().as_ref().map(|running| running.search.clone())
    }

    fn answer(&self, accept: bool) -> Gd<BackendRequest> {
        let search = self.search();
        let work = async move {
            let none = || ClientError::new(Fault::NoMatch, "there is no search");
            search.ok_or_else(none)?.answer(accept).await
        };
        self.calls.start(work, BackendResult::answer)
    }

    fn for_player(&self) -> Result<Matchmaking, ClientError> {
        let session = self.session.as_ref().filter(|session| session.is_instance_valid());
        let missing = || not_configured("assign \"Session\": a logged-in player searches a match");
        let connected = session.ok_or_else(missing)?.bind().connected()?;
        let backend = match &self.config {
            Some(config) => config::connect(config::resolve(Some(config))?)?,
            None => connected.backend,
        };
        Matchmaking::new(backend, Caller::Player(connected.session), config::clock())
    }

    fn for_server(&self) -> Result<(Matchmaking, String), ClientError> {
        let registration = self.registration.as_ref().filter(|registration| registration.is_instance_valid());
        let missing = || not_configured("assign \"Registration\": a registered server searches players");
        let registration = registration.ok_or_else(missing)?.bind();
        let server_id = registration.listed_as().ok_or_else(|| {
            ClientError::new(Fault::NotRegistered, "the server is not registered; call register() first")
        })?;
        let config = match &self.config {
            Some(config) => config::resolve(Some(config))?,
            None => config::resolve(registration.own_config().as_ref())?,
        };
        let caller = Caller::Server(config::server_key()?);
        Ok((Matchmaking::new(config::connect(config)?, caller, config::clock())?, server_id))
    }
}
