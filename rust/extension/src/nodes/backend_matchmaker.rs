//! `BackendMatchmaker`: a player's search for a match, and a game server's for more players.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use backend_client::error::{ClientError, Fault};
use backend_client::matchmaking::{Caller, Matchmaking, Progress, ReadyMatch, Request, Search, Stage};
use godot::prelude::*;

use crate::config;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::backend_session::BackendSession;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_match_options::BackendMatchOptions;
use crate::results::backend_error::{BackendError, Failure, not_configured};
use crate::results::backend_match::{BackendMatch, BackendPlacedMatches};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::runtime::calls::Calls;
use crate::runtime::main_thread_queue;
use crate::runtime::optional_object::OptionalObject;
use crate::shutdown::background_tasks;
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
/// The search is kept by the backend. It goes on through lost connections and restarts of the backend, and it is cancelled when the node
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
    /// The registered server that asks for more players with [method find_players]. Required in a game server.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Name of the matchmaker, as the backend's matchmaking file has it.
    #[export]
    matchmaker: GString,
    /// Where the search is, one of the [code]STATUS_*[/code] constants.
    #[var(get = get_status, no_set)]
    status: PhantomVar<i64>,
    /// Id of the search, or empty. The others of a party pass it to [method join_party].
    #[var(get = get_ticket_id, no_set)]
    ticket_id: PhantomVar<GString>,
    /// What searches lasted lately, in seconds; -1 if unknown.
    #[var(get = get_estimated_wait_seconds, no_set)]
    estimated_wait_seconds: PhantomVar<f64>,
    /// How long this search has lasted, in seconds; 0 without a search.
    #[var(get = get_waited_seconds, no_set)]
    waited_seconds: PhantomVar<f64>,
    /// Seconds in which the proposed match has to be accepted; 0 without one.
    #[var(get = get_answer_seconds, no_set)]
    answer_seconds: PhantomVar<f64>,
    /// Number of players of the party who have joined it.
    #[var(get = get_party_members, no_set)]
    party_members: PhantomVar<i64>,
    /// Number of players that the party waits for; 1 for a player alone, 0 before the backend has answered.
    #[var(get = get_party_size, no_set)]
    party_size: PhantomVar<i64>,
    /// The proposed or placed match, or [code]null[/code].
    #[var(get = get_current_match, no_set)]
    current_match: PhantomVar<Option<Gd<BackendMatch>>>,
    /// If [code]false[/code], the backend has not answered the last request of the search, which goes on.
    #[var(get = get_connected, no_set)]
    connected: PhantomVar<bool>,
    running: RefCell<Option<Running>>,
    /// The status after the search, until the next one.
    ended: Cell<i64>,
    next_number: Cell<u64>,
    calls: Calls,
    base: Base<Node>,
}

/// A search under way.
struct Running {
    /// Tells late news of an earlier search apart.
    number: u64,
    search: Search,
    started: Instant,
    progress: Option<Progress>,
}

/// Takes a search back that nobody waits for any more.
struct CancelOnDrop(Search);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if !self.0.is_cancellable() {
            return;
        }
        let search = self.0.clone();
        background_tasks::spawn(async move {
            if let Err(error) = search.cancel().await {
                tracing::debug!(code = error.code(), "a search for a match was not cancelled at the backend");
            }
        });
    }
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

#[godot_api]
impl BackendMatchmaker {
    /// There is no search.
    #[constant]
    pub const STATUS_IDLE: i64 = 0;
    /// Players of the party are still to join.
    #[constant]
    pub const STATUS_PARTY: i64 = 1;
    /// The search waits for a match.
    #[constant]
    pub const STATUS_SEARCHING: i64 = 2;
    /// There is a match, which this player has to accept or to decline.
    #[constant]
    pub const STATUS_PROPOSED: i64 = 3;
    /// This player has accepted the match; others have not yet.
    #[constant]
    pub const STATUS_ACCEPTED: i64 = 4;
    /// All have accepted the match, which waits for a room.
    #[constant]
    pub const STATUS_PLACING: i64 = 5;
    /// The match has a room, and this player a ticket to it.
    #[constant]
    pub const STATUS_READY: i64 = 6;
    /// The search has failed or was cancelled.
    #[constant]
    pub const STATUS_FAILED: i64 = 7;

    /// Emitted when [member status] has changed.
    #[signal]
    pub fn status_changed(status: i64);

    /// Emitted when [member estimated_wait_seconds] has changed.
    #[signal]
    pub fn estimated_wait_changed(seconds: f64);

    /// Emitted when there is a match that [method accept] or [method decline] has to answer within [member answer_seconds]. If another
    /// player declines it, the search goes on: [signal status_changed] is emitted with [constant STATUS_SEARCHING].
    #[signal]
    pub fn match_proposed(proposal: Gd<BackendMatch>);

    /// Emitted when more or fewer players have joined the party, or more have accepted the match.
    #[signal]
    pub fn players_changed();

    /// Emitted when the match has a room and this player a ticket to it.
    #[signal]
    pub fn match_ready(ready: Gd<BackendMatch>);

    /// Emitted when the search has ended without a match, also when it was cancelled.
    #[signal]
    pub fn search_failed(error: Gd<BackendError>);

    /// Emitted when the backend does not answer ([code]false[/code]), and when it answers again. The search goes on.
    #[signal]
    pub fn connection_changed(connected: bool);

    /// Searches a match. Returns a [BackendRequest] that completes with a [BackendMatch], which has the ticket to the room. It fails with
    /// [code]no_match[/code] if none was found in time, [code]match_not_accepted[/code] if this player or one of the party did not accept
    /// it, [code]no_room[/code] if no room was free for it, [code]cancelled[/code], or [code]already_searching[/code] if this node
    /// searches already. Another search of the same player ends this one.
    ///
    /// If the backend does not answer, the search goes on for two minutes, or for 30 seconds if it has not begun yet.
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

    /// Joins the party of another player's search, whose [member ticket_id] is the invitation. [member BackendMatchOptions.party_size] is
    /// ignored. Returns a [BackendRequest] that completes as that of [method find_match].
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

    /// Declines the proposed match, which ends the search of this player's party with [code]match_not_accepted[/code]. The others search
    /// on. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn decline(&self) -> Gd<BackendRequest> {
        self.answer(false)
    }

    /// Cancels the search, for the whole party. A match that gets its room already is not stopped: the request fails with
    /// [code]matchmaking_ticket_closed[/code], and the search goes on. Returns a [BackendRequest] that completes with a [BackendResult].
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

    /// In a game server: searches players for the match that is running here, such as a replacement for one who has left.
    /// [param player_ids] are the players who are here; they come from matches that were placed here in the last quarter of an hour,
    /// otherwise the request fails with [code]invalid_field[/code]. A further call replaces the one before. Returns a [BackendRequest]
    /// that completes with a [BackendMatch] of all players when some were found; they come with tickets. It fails as
    /// [method find_match] does.
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

    /// In a game server: reads the matches that were placed here in the last quarter of an hour. Returns a [BackendRequest] that completes
    /// with [BackendPlacedMatches].
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

    fn start(&self, prepared: Result<(Matchmaking, Request), ClientError>) -> Gd<BackendRequest> {
        let busy =
            || ClientError::new(Fault::AlreadySearching, "this node searches already; cancel that first");
        let prepared =
            prepared.and_then(|prepared| if self.is_searching() { Err(busy()) } else { Ok(prepared) });
        let (matchmaking, request) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.calls.start(std::future::ready(Err(error)), BackendMatch::answer),
        };
        let id = self.base().instance_id();
        let number = self.next_number.get() + 1;
        self.next_number.set(number);
        let on_progress = Arc::new(move |progress| {
            main_thread_queue::enqueue(move || Self::note(id, number, progress));
        });
        let search = matchmaking.search(request, on_progress);
        let running = Running { number, search: search.clone(), started: Instant::now(), progress: None };
        self.running.replace(Some(running));
        main_thread_queue::enqueue(move || Self::announce_start(id, number));
        let open = CancelOnDrop(search);
        let work = async move { open.0.run().await };
        self.calls.start(work, move |outcome| {
            Self::finish(id, number, &outcome);
            BackendMatch::answer(outcome)
        })
    }

    fn announce_start(id: InstanceId, number: u64) {
        if let Some((node, ())) = Self::of_search(id, number, |_running| ()) {
            node.signals().status_changed().emit(Self::STATUS_SEARCHING);
        }
    }

    /// The node, and what `read` returns, if the node still has this search.
    fn of_search<T>(
        id: InstanceId,
        number: u64,
        read: impl FnOnce(&mut Running) -> T,
    ) -> Option<(Gd<Self>, T)> {
        // The node may have been freed.
        let node = Gd::<Self>::try_from_instance_id(id).ok()?;
        let value = {
            let this = node.bind();
            let mut running = this.running.borrow_mut();
            read(running.as_mut().filter(|running| running.number == number)?)
        };
        Some((node, value))
    }

    /// Takes over what a search has reached, and tells the script what of it is new.
    fn note(id: InstanceId, number: u64, progress: Progress) {
        let taken_over = Self::of_search(id, number, |running| {
            let status_before = running.status();
            let before = running.progress.replace(progress.clone());
            (status_before, before, running.status())
        });
        let Some((node, (status_before, before, status))) = taken_over else { return };
        let before = before.as_ref();
        // Handlers may end the search, but not take back what was reached.
        if before.is_some_and(|before| before.connected != progress.connected)
            || (before.is_none() && !progress.connected)
        {
            node.signals().connection_changed().emit(progress.connected);
        }
        if status != status_before {
            node.signals().status_changed().emit(status);
        }
        let wait = estimated_wait(&progress);
        if wait != before.and_then(estimated_wait) {
            node.signals().estimated_wait_changed().emit(wait.unwrap_or(-1.0));
        }
        if players(&progress) != before.map_or((0, 0), players) {
            node.signals().players_changed().emit();
        }
        if status == Self::STATUS_PROPOSED
            && match_id(&progress) != before.and_then(match_id)
            && let Some(proposal) = proposal(&progress)
        {
            node.signals().match_proposed().emit(&proposal);
        }
    }

    fn finish(id: InstanceId, number: u64, outcome: &Result<ReadyMatch, Failure>) {
        let Some((node, ())) = Self::of_search(id, number, |_running| ()) else { return };
        let status = if outcome.is_ok() { Self::STATUS_READY } else { Self::STATUS_FAILED };
        {
            let this = node.bind();
            this.running.replace(None);
            this.ended.set(status);
        }
        node.signals().status_changed().emit(status);
        match outcome {
            Ok(ready) => node.signals().match_ready().emit(&BackendMatch::object(Ok(ready.clone()))),
            Err(failure) => node.signals().search_failed().emit(&failure.clone().into_object()),
        }
    }
}

impl Running {
    fn status(&self) -> i64 {
        match self.progress.as_ref().map(|progress| progress.stage) {
            Some(Stage::Party) => BackendMatchmaker::STATUS_PARTY,
            None | Some(Stage::Searching) => BackendMatchmaker::STATUS_SEARCHING,
            Some(Stage::Proposed) => BackendMatchmaker::STATUS_PROPOSED,
            Some(Stage::Accepted) => BackendMatchmaker::STATUS_ACCEPTED,
            Some(Stage::Placing) => BackendMatchmaker::STATUS_PLACING,
        }
    }
}

fn estimated_wait(progress: &Progress) -> Option<f64> {
    progress.ticket.as_ref()?.estimated_wait_seconds.map(f64::from)
}

/// Players of the party, and players who have accepted.
fn players(progress: &Progress) -> (usize, u32) {
    let Some(ticket) = &progress.ticket else { return (0, 0) };
    let accepted = ticket.r#match.as_ref().and_then(|formed| formed.accepted);
    (ticket.player_ids.len(), accepted.unwrap_or_default())
}

fn match_id(progress: &Progress) -> Option<&str> {
    Some(&progress.ticket.as_ref()?.r#match.as_ref()?.match_id)
}

fn proposal(progress: &Progress) -> Option<Gd<BackendMatch>> {
    let formed = progress.ticket.as_ref()?.r#match.clone()?;
    Some(BackendMatch::object(Ok(ReadyMatch { formed, ticket: None })))
}
