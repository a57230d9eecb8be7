//! `BackendPeerAuth`: both ends of `SceneMultiplayer`'s authentication phase.

mod client;
mod encryption;
mod server;

use std::time::{Duration, Instant};

use backend_client::error::ClientError;
use backend_client::peer_auth::refusal;
use backend_client::registration::Registration;
use backend_client::validation::{Policy, TokenValidator};
use godot::classes::SceneMultiplayer;
use godot::prelude::*;

use crate::config;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::backend_session::BackendSession;
use crate::nodes::backend_token_validator::{self, BackendTokenValidator};
use crate::peer_auth::scene_multiplayer::{Api, MultiplayerLink, PeerEvent};
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::BackendError;
use crate::results::backend_player::BackendPlayer;
use crate::results::backend_room::BackendJoinTicket;
use crate::runtime::frame_hook::{FrameHook, POLL_INTERVAL};
use crate::runtime::main_thread_queue;
use crate::variant_json::gstring;
use backend_client::peer_auth::protocol::Reason;
use backend_client::peer_auth::server::{Limits, PeerAuthenticator, PeerId};

/// Time a refusal has to arrive before the connection is closed.
const REFUSAL_DELAY: Duration = Duration::from_millis(500);
/// Time a client waits longer than the server, so that the server's reason arrives first.
const CLIENT_EXTRA_SECONDS: f64 = 2.0;
/// Shortest time between two warnings of a crowd of silent peers.
const PENDING_WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Group by which [BackendShutdown] finds the peer_auths.
pub const GROUP: &str = "backend_peer_auth";

/// Authenticates peers of [SceneMultiplayer] with join tickets or access tokens.
///
/// Add one to the scene of the client and one to that of the server. It works during the authentication phase of
/// [SceneMultiplayer], before a peer can call any RPC: the client sends its [member ticket], and the server validates it and
/// accepts or refuses the peer.
/// ```gdscript
/// # Client
/// $BackendPeerAuth.use_ticket(join_ticket)
/// var peer := ENetMultiplayerPeer.new()
/// peer.create_client(join_ticket.address, join_ticket.port)
/// multiplayer.multiplayer_peer = peer
/// ```
/// The error code of a refusal is [code]auth_timeout[/code], [code]handshake_invalid[/code], [code]room_full[/code],
/// [code]server_draining[/code], [code]replaced[/code] (the same player connected again), [code]kicked[/code], or the code with
/// which the token was refused. A client without a ticket gets [code]ticket_missing[/code]. [code]banned[/code] and
/// [code]session_ended[/code] also disconnect connected players: the reply to each heartbeat contains the players who were banned
/// or whose sessions ended.
///
/// If the node is removed from a running server, no new peers are accepted.
///
/// See "Joining a game server" in the guide: [code]docs/src/joining.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendPeerAuth {
    /// Connection settings, used if [member validator] is unset. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// Seconds within which a peer must be verified.
    #[export(range = (1.0, 60.0, 0.5, suffix = "s"))]
    #[init(val = 5.0)]
    auth_timeout: f64,
    /// Client: the session whose access token is sent if [member send_access_token] is [code]true[/code].
    #[export]
    #[var(set = set_session)]
    #[export_group(name = "Client")]
    session: Option<Gd<BackendSession>>,
    /// Client: if [code]true[/code], the session's access token is sent when there is no [member ticket]. The operator of the game
    /// server can then act at the backend on the player's behalf for some minutes. Enable it only if you operate all servers.
    #[export]
    send_access_token: bool,
    /// Client: the join ticket to send. Set it before connecting, preferably with [method use_ticket]. It is cleared when it is sent,
    /// because it is single-use.
    #[var]
    ticket: GString,
    /// Client: the server's certificate in PEM format. If set, an [ENetMultiplayerPeer] connects with DTLS and only to a server with
    /// this certificate. [method use_ticket] sets it.
    #[var]
    server_certificate: GString,
    /// Server: the node that validates tokens. If unset, tokens are validated locally first.
    #[export]
    #[export_group(name = "Server")]
    validator: Option<Gd<BackendTokenValidator>>,
    /// Server: the registration that tickets must be issued for. Its player count is kept up to date.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    /// Server: maximum number of players. If 0, [member BackendServerRegistration.max_players] of [member registration] applies, or no
    /// limit without one.
    #[export(range = (0.0, 64.0, or_greater))]
    max_players: i64,
    /// Server: if [code]true[/code], new peers are accepted. Otherwise, and while the registration drains, peers are refused with
    /// [code]server_draining[/code].
    #[export]
    #[init(val = true)]
    accepting: bool,
    /// Server: if [code]true[/code], access tokens are accepted in addition to tickets. A ticket, in contrast, is single-use and
    /// valid for this server only.
    #[export]
    accept_access_tokens: bool,
    /// Server: maximum number of unverified connections per IP address (IPv6: per /64 network). The oldest excess connections are closed
    /// after 250 ms, which is longer than a client of this addon needs to send its ticket. 0 = unlimited.
    #[export(range = (0.0, 64.0, or_greater))]
    #[init(val = 4)]
    max_pending_per_address: i64,
    /// Server: maximum number of unverified connections in total. The oldest excess connections are closed after 250 ms. Reserve
    /// connections for them: [code]peer.create_server(port, max_players + max_pending + 32)[/code]. 0 = at most 256.
    #[export(range = (0.0, 256.0))]
    #[init(val = 32)]
    max_pending: i64,
    own_validator: Option<TokenValidator>,
    /// Server: when excess unverified connections were last logged.
    pending_warned_at: Option<Instant>,
    /// Server: version of the revocations that were acted on.
    revocation_version: u64,
    link: Option<MultiplayerLink>,
    authenticator: PeerAuthenticator,
    /// Client: whether a reason was given already for the connection that is ending.
    refusal_emitted: bool,
    /// Client: whether an attempt to get in is under way.
    authenticating: bool,
    /// An API of another class, logged once.
    unsupported_api: Option<InstanceId>,
    frame_hook: Option<FrameHook>,
    revocation_hook: Option<FrameHook>,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendPeerAuth {
    fn enter_tree(&mut self) {
        if godot::init::is_editor_hint() {
            return;
        }
        self.base_mut().add_to_group(GROUP);
        let id = self.base().instance_id();
        self.frame_hook = Some(FrameHook::new(move || watch(id)));
        self.revocation_hook = Some(FrameHook::every(POLL_INTERVAL, move || {
            if let Some(this) = node(id) {
                server::revoke(this);
            }
        }));
        self.install_link();
    }

    fn exit_tree(&mut self) {
        self.frame_hook = None;
        self.revocation_hook = None;
        if let Some(link) = self.link.take() {
            link.release();
        }
        let id = self.base().instance_id();
        main_thread_queue::enqueue(move || reset(id));
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        let mut warnings = Vec::new();
        let resolved = config::resolve(self.config.as_ref()).and_then(|config| config.check());
        if let Err(error) = resolved
            && self.validator.is_none()
        {
            warnings.push(error.message.to_string());
        }
        if self.session.is_none() && self.registration.is_none() {
            warnings.push(
                "Assign \"Registration\" on a server; assign \"Session\" on a client, or set \"ticket\" by script."
                    .to_owned(),
            );
        }
        warnings.iter().map(GString::from).collect()
    }
}

#[godot_api]
impl BackendPeerAuth {
    /// Emitted on the server when a peer was verified. RPCs to [param peer_id] work from now on.
    #[signal]
    pub fn peer_verified(peer_id: i64, player: Gd<BackendPlayer>);

    /// Emitted on the server when it has refused or disconnected a peer.
    #[signal]
    pub fn peer_refused(peer_id: i64, error: Gd<BackendError>);

    /// Emitted on the server when a verified player has disconnected.
    #[signal]
    pub fn peer_left(peer_id: i64, player: Gd<BackendPlayer>);

    /// Emitted on the client when the server has accepted this player. RPCs to the server work from now on.
    #[signal]
    pub fn authenticated();

    /// Emitted on the client when the server has refused or disconnected this player. The connection is closed.
    #[signal]
    pub fn refused(error: Gd<BackendError>);

    /// Sets [member ticket] and [member server_certificate] on the client. Call it before connecting.
    #[func]
    fn use_ticket(&mut self, ticket: Gd<BackendJoinTicket>) {
        let ticket = ticket.bind();
        self.ticket = ticket.get_ticket();
        self.server_certificate = ticket.get_certificate();
    }

    /// Returns the player of a verified peer, or [code]null[/code]. Server only.
    #[func]
    fn get_player(&self, peer_id: i64) -> Option<Gd<BackendPlayer>> {
        let peer = PeerId::try_from(peer_id).ok()?;
        self.authenticator.player(peer).map(|player| BackendPlayer::object(Ok(player.clone().into())))
    }

    /// Returns the peer id of a connected player, or 0. Server only.
    #[func]
    fn get_peer_id(&self, player_id: GString) -> i64 {
        self.authenticator.peer_of(&player_id.to_string()).unwrap_or_default().into()
    }

    /// Returns the ids of the connected players. Server only.
    #[func]
    pub fn get_player_ids(&self) -> PackedStringArray {
        self.authenticator.players().map(|player| gstring(&player.player_id)).collect()
    }

    /// Disconnects a player. [param reason] is the message that the player receives. Server only.
    #[func(gd_self)]
    fn kick(this: Gd<Self>, peer_id: i64, #[opt(default = "")] reason: GString) {
        let Ok(peer) = PeerId::try_from(peer_id) else { return };
        let reason = if reason.is_empty() {
            "The server ended the connection.".to_owned()
        } else {
            reason.to_string()
        };
        server::with_authenticator(this, |authenticator, _| {
            authenticator.kick(peer, Reason::new(refusal::KICKED, reason))
        });
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        self.own_validator = None;
        self.base_mut().update_configuration_warnings();
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

    /// Stops accepting peers.
    pub fn stop_accepting(&mut self) {
        self.accepting = false;
    }

    /// Players that are connected or accepted.
    pub fn count(&self) -> usize {
        self.authenticator.count()
    }

    /// Installs the callback on the tree's multiplayer API.
    fn install_link(&mut self) {
        let Some(api) = self.base().get_multiplayer() else { return };
        let api_id = api.instance_id();
        let Ok(api) = api.try_cast::<SceneMultiplayer>() else {
            if self.unsupported_api != Some(api_id) {
                tracing::error!(
                    "BackendPeerAuth requires a SceneMultiplayer; this tree has another MultiplayerAPI"
                );
                self.unsupported_api = Some(api_id);
            }
            return;
        };
        let id = self.base().instance_id();
        let timeout = self.auth_timeout.clamp(1.0, 600.0) + CLIENT_EXTRA_SECONDS;
        let on_event = move |event| match event {
            // At once: the peer's first RPC may be in the same poll, and the game must know the player by then.
            PeerEvent::Connected(_) => handle(id, event),
            event => main_thread_queue::enqueue(move || handle(id, event)),
        };
        let mut link = MultiplayerLink::install(api, timeout, on_event);
        if link.api.is_serving() {
            // Whoever came before the peer_auth was never verified.
            for peer in link.api.0.get_peers().to_vec() {
                tracing::warn!(
                    peer,
                    "a peer had connected before BackendPeerAuth was added; it is disconnected"
                );
                link.api.disconnect_now(peer);
            }
        }
        self.link = Some(link);
    }

    /// The reason why no peer is accepted at the moment.
    fn closed(&self) -> Option<Reason> {
        let draining = self.registration().is_some_and(|registration| registration.bind().is_draining());
        (draining || !self.accepting).then(|| {
            Reason::new(refusal::SERVER_DRAINING, "The server is shutting down and accepts no players.")
        })
    }

    fn player_limit(&self) -> Option<usize> {
        let own = (self.max_players > 0).then_some(self.max_players);
        let player_limit =
            own.or_else(|| self.registration().map(|registration| registration.bind().player_limit()))?;
        usize::try_from(player_limit).ok()
    }

    fn limits(&self) -> Limits {
        let limit = |most: i64| usize::try_from(most).ok().filter(|most| *most > 0);
        Limits { total: limit(self.max_pending), per_address: limit(self.max_pending_per_address) }
    }

    /// Whether a crowd of silent peers may be logged now.
    fn may_warn_of_pending(&mut self) -> bool {
        let may = self.pending_warned_at.is_none_or(|warned| warned.elapsed() >= PENDING_WARNING_INTERVAL);
        if may {
            self.pending_warned_at = Some(Instant::now());
        }
        may
    }

    fn registration(&self) -> Option<&Gd<BackendServerRegistration>> {
        self.registration.as_ref().filter(|node| node.is_instance_valid())
    }

    /// Who validates, and for which server.
    fn validation_setup(&mut self) -> Result<(TokenValidator, Option<Registration>), ClientError> {
        let listed = self.listed();
        if let Some(validator) = self.validator() {
            return Ok((validator.bind().connected()?, listed));
        }
        let validator = match &self.own_validator {
            Some(validator) => validator.clone(),
            None => backend_token_validator::make(self.config.as_ref(), Policy::LocalFirst)?,
        };
        self.own_validator = Some(validator.clone());
        Ok((validator, listed))
    }

    fn validator(&self) -> Option<&Gd<BackendTokenValidator>> {
        self.validator.as_ref().filter(|node| node.is_instance_valid())
    }

    /// The registration that tickets must be issued for, which also reports revocations.
    fn listed(&self) -> Option<Registration> {
        let own = self.validator().and_then(|validator| validator.bind().listed());
        own.filter(|registration| registration.server_id().is_some())
            .or_else(|| self.registration().and_then(|registration| registration.bind().handle()))
    }

    /// The time after which the server gives up on a peer: early enough for its reason to arrive in time.
    fn peer_timeout(&self) -> Duration {
        let seconds = (self.auth_timeout - REFUSAL_DELAY.as_secs_f64()).clamp(0.5, 600.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(5))
    }
}

// Everything below runs without a bind held while scripts run, and, but for `PeerEvent::Connected`, in messages, outside
// of the engine's polling.

fn node(id: InstanceId) -> Option<Gd<BackendPeerAuth>> {
    Gd::try_from_instance_id(id).ok()
}

/// Each frame: notices a swapped API or peer.
fn watch(id: InstanceId) {
    let Some(mut this) = node(id) else { return };
    let Some(api) = this.get_multiplayer() else { return };
    let mut auth = this.bind_mut();
    match &mut auth.link {
        Some(link) if link.is_for(&api) => {
            if !link.peer_changed() {
                return;
            }
        }
        before => {
            if let Some(link) = before.take() {
                link.release();
            }
            auth.install_link();
        }
    }
    drop(auth);
    encryption::secure(this);
    reset(id);
}

/// All connections are closed.
fn reset(id: InstanceId) {
    let Some(mut this) = node(id) else { return };
    {
        let mut auth = this.bind_mut();
        auth.refusal_emitted = false;
        auth.authenticating = false;
    }
    server::with_authenticator(this, |authenticator, _| authenticator.clear());
}

fn handle(id: InstanceId, event: PeerEvent) {
    // A peer put in earlier in this frame must not be taken for the old one.
    watch(id);
    let Some(this) = node(id) else { return };
    let Some(mut api) = api_of(&this) else { return };
    let (serving, connected) = (api.is_serving(), api.is_connected());
    if let PeerEvent::ConnectionClosed = event {
        client::connection_closed(this.clone());
        return reset(id);
    }
    if serving {
        server::handle_event(this, event);
    } else if connected || matches!(event, PeerEvent::PeerDisconnected(_)) {
        client::handle_event(this, event);
    }
}

fn api_of(this: &Gd<BackendPeerAuth>) -> Option<Api> {
    this.bind().link.as_ref().map(|link| link.api.clone())
}
