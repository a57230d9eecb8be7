//! `BackendServerRegistration`: registration and heartbeats of a dedicated server.

mod admission_check;
mod connection;
mod encryption;
mod failure_log;
mod hosting;
mod lifecycle;
pub mod listing;
mod query;
mod setup_warnings;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use backend_client::peer_auth::dtls::Identity;
use backend_client::server_query::Participant;
use godot::prelude::*;

use self::connection::Connected;
use self::hosting::HostKind;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_room_options::BackendRoomOptions;
use crate::resources::visibility::Visibility;
use crate::results::backend_error::BackendError;
use crate::runtime::main_thread_queue;
use crate::variant_json::gstring;

/// Group by which [BackendShutdown] finds the registrations.
pub const GROUP: &str = "backend_server_registration";

/// Registers a dedicated server in the room list and keeps it registered.
///
/// Heartbeats are sent in the background, also during long frames and map loads. If the backend loses the registration, the server
/// registers again under the same id. If the main loop stalls for longer than [member main_loop_stall_seconds], the server is
/// reported as unhealthy and not listed until the main loop continues.
/// ```gdscript
/// @onready var registration: BackendServerRegistration = $BackendServerRegistration
///
/// func _ready() -> void:
///     registration.server_name = "Lily Pad"
///     registration.port = 7777
///     var result: BackendRegistrationResult = await registration.register().wait()
///     if result.failed():
///         push_error(result.error.message)
/// ```
/// The server key is read from [code]BACKEND_SERVER_KEY[/code], [code]BACKEND_SERVER_KEY_FILE[/code] or
/// [code]--backend-server-key-file=[/code].
///
/// See "Configuration" in the guide: [code]docs/src/configuration.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendServerRegistration {
    /// Connection settings. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// If [code]true[/code], [method register] is called when the node is ready.
    #[export]
    auto_register: bool,
    /// Name in the room list, 1 to 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_server_name)]
    #[export_group(name = "Listing")]
    server_name: GString,
    /// Current map, at most 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_map)]
    map: GString,
    /// Current game mode, at most 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_mode)]
    mode: GString,
    /// Region shown in the room list, for example [code]eu-west[/code]. At most 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_region)]
    region: GString,
    /// Version of the game, at most 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_version)]
    version: GString,
    /// Tags that a [BackendRoomQuery] can filter by: at most 16, of at most 64 characters. Can be changed while registered.
    #[export]
    #[var(set = set_tags)]
    tags: PackedStringArray,
    /// Visibility of the room, one of [enum Visibility]. Unlisted and private rooms get an
    /// [member invite_code]. Can be changed while registered.
    #[export]
    #[var(set = set_visibility)]
    visibility: Visibility,
    /// Custom attributes in the room list: at most 32 names of at most 32 letters, digits, [code]_[/code], [code].[/code] and
    /// [code]-[/code], with values of type [String] (at most 256 characters), [int], [float] or [bool], of at most 2 KiB together.
    /// The property is a copy; change single ones with [method set_attribute]. Can be changed while registered.
    #[export]
    #[var(get = get_attributes, set = set_attributes)]
    attributes: VarDictionary,
    /// Maximum number of players, from 1 to 100000. Can be changed while registered.
    #[export(range = (1.0, 64.0, or_greater))]
    #[var(set = set_max_players)]
    #[init(val = 8)]
    max_players: i64,
    /// Host name or IP address that players connect to. If empty, the project setting is used.
    /// [code]BACKEND_PUBLIC_ADDRESS[/code] and [code]--backend-public-address=[/code] override it. If it is [code]auto[/code], as the
    /// project setting is by default, the server is registered at the address and the ports that its [member host] reports, or at
    /// 127.0.0.1 if it reports none. Can be changed while registered.
    #[export]
    #[var(set = set_public_address)]
    #[export_group(name = "Address")]
    public_address: GString,
    /// Port that players connect to, from 1 to 65535. Where the [member host] maps ports and [member public_address] is
    /// [code]auto[/code], this is the port that the server listens on, and players are sent to the mapped one. Can be changed while
    /// registered.
    #[export(range = (0.0, 65535.0))]
    #[var(set = set_port)]
    port: i64,
    /// Host that runs this process, one of [enum HostKind]. [constant HOST_AUTO] detects it without network traffic and logs the
    /// result in one line. [code]BACKEND_HOST[/code] and [code]--backend-host=[/code] override it. It applies to the whole process: set it
    /// before the scene is ready.
    #[export]
    #[var(set = set_host)]
    #[export_group(name = "Host")]
    host: HostKind,
    /// If [code]true[/code], players connect with DTLS over [ENetMultiplayerPeer]. A certificate is generated for each run; players
    /// receive it with their ticket and accept no other. [BackendPeerAuth] configures the peer. Set it before registering.
    #[export]
    #[var(set = set_dtls)]
    #[export_group(name = "Encryption")]
    dtls: bool,
    /// Path of a self-signed certificate in PEM format, outside of the project, to use instead of a generated one. Set it before
    /// registering.
    #[export(global_file = "*.crt,*.pem")]
    #[var(set = set_dtls_certificate_file)]
    dtls_certificate_file: GString,
    /// Path of the certificate's private key in PEM format, outside of the project. Set it before registering.
    #[export(global_file = "*.key,*.pem")]
    #[var(set = set_dtls_key_file)]
    dtls_key_file: GString,
    /// If [code]true[/code], the server responds to queries over UDP from the call of [method register] on, also while the backend
    /// is unreachable: pings of [method BackendRooms.ping_rooms] and the Source query protocol of public server browsers. Set it
    /// before registering.
    #[export]
    #[var(set = set_query_enabled)]
    #[export_group(name = "Query")]
    #[init(val = true)]
    query_enabled: bool,
    /// UDP port for queries. If 0, the system chooses a free one; the room list contains it either way. Set a fixed one, such as
    /// [member port] + 1, if a firewall or a container has to forward it. [code]BACKEND_QUERY_PORT[/code] and
    /// [code]--backend-query-port=[/code] override it. If the port is taken, a warning is logged, and the server runs without
    /// queries. Set it before registering.
    #[export(range = (0.0, 65535.0))]
    #[var(set = set_query_port)]
    query_port: i64,
    /// If [code]true[/code], queries return the names of the players that [BackendPeerAuth] has admitted. Otherwise they return
    /// only how long each player has been connected. Everybody on the internet can read these replies.
    #[export]
    #[var(set = set_query_player_names)]
    query_player_names: bool,
    /// If [code]true[/code], [method BackendRooms.discover_lan] finds the server on the local network. All servers of a machine share
    /// UDP port 51737 for it. Requires [member query_enabled]. Set it before registering.
    #[export]
    #[var(set = set_lan_discovery)]
    #[init(val = true)]
    lan_discovery: bool,
    /// Seconds without a frame after which the server is reported as unhealthy. Set it before registering.
    #[var(set = set_main_loop_stall_seconds)]
    #[export(range = (1.0, 120.0, 0.5, or_greater, suffix = "s"))]
    #[export_group(name = "Health")]
    #[init(val = 10.0)]
    main_loop_stall_seconds: f64,
    /// Password that players need for a ticket, at most 64 characters. If empty, none is needed. The backend stores a hash of it and
    /// checks it; neither the list nor the players on this server see it. It is not stored in scenes. Can be changed while
    /// registered.
    #[var(set = set_password)]
    password: GString,
    /// Code with which players join by [method BackendRooms.join_by_code], such as [code]K7Q-X3M[/code]. The backend creates it for
    /// unlisted and private rooms, and it is valid until the room ends. Empty for public rooms and before the server is registered.
    #[var(get = get_invite_code, no_set)]
    invite_code: PhantomVar<GString>,
    /// Current number of players. [BackendPeerAuth] updates it if this node is its [member BackendPeerAuth.registration]; otherwise set
    /// it by script.
    #[var(set = set_players)]
    players: i64,
    /// Id of the registered server, otherwise empty.
    #[var(get = get_server_id, no_set)]
    server_id: PhantomVar<GString>,
    draining: bool,
    answering: RefCell<Option<query::Answering>>,
    /// By peer.
    participants: BTreeMap<i32, Participant>,
    /// Of verified players, by peer.
    player_ids: BTreeMap<i32, String>,
    identity: RefCell<Option<Rc<Identity>>>,
    connected: RefCell<Option<Connected>>,
    calls: Calls,
    base: Base<Node>,
}

#[godot_api]
impl INode for BackendServerRegistration {
    fn enter_tree(&mut self) {
        if !godot::init::is_editor_hint() {
            self.base_mut().add_to_group(GROUP);
            self.choose_host();
        }
    }

    fn ready(&mut self) {
        if self.auto_register && !godot::init::is_editor_hint() {
            // The signals and the log report the outcome.
            drop(self.register());
        }
    }

    fn exit_tree(&mut self) {
        let owner = self.calls.owner();
        // Open to handlers that call back into this node.
        let _reentrant = self.base_mut();
        main_thread_queue::cancel_all_now(owner);
    }

    fn get_configuration_warnings(&self) -> PackedStringArray {
        self.setup_warnings().iter().map(GString::from).collect()
    }
}

#[godot_api]
impl BackendServerRegistration {
    /// Emitted when the server is registered, also when it is registered again after the backend lost it.
    #[signal]
    pub fn registered(server_id: GString);

    /// Emitted when an attempt to register failed. If [member BackendError.retryable] is [code]true[/code], it is retried in the
    /// background, and this signal is emitted once per kind of failure; otherwise the configuration must be changed first.
    #[signal]
    pub fn registration_failed(error: Gd<BackendError>);

    /// Emitted when the backend has lost the registration. The server registers again automatically.
    #[signal]
    pub fn registration_lost(error: Gd<BackendError>);

    /// Emitted when a heartbeat failed. Further heartbeats follow.
    #[signal]
    pub fn heartbeat_failed(error: Gd<BackendError>);

    /// Emitted after the registration if the backend has started this server for a room on demand. For a spare server, it is
    /// emitted when a player requests a room, at most a second later. [param options] were copied to the properties of this node
    /// before, except for the password, which is not sent to the server. Load the map in the handler. The first player may join at
    /// the same time.
    /// ```gdscript
    /// func _on_room_assigned(options: BackendRoomOptions) -> void:
    ///     load_map(options.map)
    /// ```
    #[signal]
    pub fn room_assigned(options: Gd<BackendRoomOptions>);

    /// Emitted when somebody has allocated this server through its host, for example by a GameServerAllocation of Agones.
    /// [param session] has the keys [code]host[/code] ([code]agones[/code]), [code]name[/code] (of the GameServer),
    /// [code]labels[/code] and [code]annotations[/code], both with those that the allocation added. It is also emitted if the server
    /// was already allocated when it started. It is not emitted if the server was only reserved because players joined it by the
    /// room list.
    /// ```gdscript
    /// func _on_allocated(session: Dictionary) -> void:
    ///     load_map(session.annotations.get("map", "pond"))
    /// ```
    #[signal]
    pub fn allocated(session: VarDictionary);

    /// Emitted when the host is about to end this process. [param reason] is [code]agones_shutdown[/code],
    /// [code]agones_deleted[/code], [code]agones_unhealthy[/code], [code]agones_error[/code], [code]ecs_stopped[/code],
    /// [code]ec2_spot[/code], [code]ec2_autoscaling[/code], [code]azure_reboot[/code], [code]azure_redeploy[/code],
    /// [code]azure_preempt[/code], [code]azure_terminate[/code], [code]gcp_preempted[/code] or [code]gcp_maintenance[/code].
    /// [param deadline_seconds] is the time that the host leaves, or the grace of [BackendShutdown] if the host reports none.
    /// [BackendShutdown] starts the shutdown with the same reason and deadline. If the deadline becomes earlier, the signal is
    /// emitted again.
    /// [br][br]With [code]ec2_rebalance[/code], [code]azure_freeze[/code] and [code]gcp_migration[/code], the process does not end by
    /// itself: [param deadline_seconds] is [constant @GDScript.INF], and no shutdown starts. A game may call
    /// [method BackendShutdown.request_shutdown] when its round is over.
    #[signal]
    pub fn host_notice(reason: GString, deadline_seconds: f64);

    /// Emitted when the server is no longer registered.
    #[signal]
    pub fn deregistered();

    /// Emitted when [member invite_code] has changed. The code is empty when the room became public or was deregistered.
    #[signal]
    pub fn invite_code_changed(invite_code: GString);

    /// Emitted when the operator requests that this server drains and exits. [BackendShutdown] starts the shutdown.
    #[signal]
    pub fn drain_requested();

    #[func]
    fn get_server_id(&self) -> GString {
        self.listed_as().as_ref().map(gstring).unwrap_or_default()
    }

    #[func]
    fn get_invite_code(&self) -> GString {
        self.handle()
            .and_then(|registration| registration.invite_code())
            .as_ref()
            .map(gstring)
            .unwrap_or_default()
    }

    #[func]
    fn get_attributes(&self) -> VarDictionary {
        self.attributes.duplicate_shallow()
    }

    #[func]
    fn set_attributes(&mut self, attributes: VarDictionary) {
        self.apply_attributes(attributes.duplicate_shallow());
    }

    #[func]
    fn set_visibility(&mut self, visibility: Visibility) {
        self.visibility = visibility;
        self.update_description();
    }

    #[func]
    fn set_password(&mut self, password: GString) {
        self.password = password;
        self.update_description();
    }

    #[func]
    pub fn set_players(&mut self, players: i64) {
        self.players = players;
        self.publish();
        self.publish_players();
        let Some(registration) = self.handle() else { return };
        // Refused by the limit, as any other number out of range.
        let count = u32::try_from(players).unwrap_or(u32::MAX);
        if let Err(error) = registration.set_players(count) {
            tracing::warn!(
                code = error.code(),
                players,
                "the listed number of players is not changed: {error}"
            );
        }
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        if let Some(before) = self.connected.take() {
            before.stop();
        }
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_server_name(&mut self, server_name: GString) {
        self.server_name = server_name;
        self.update_description();
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_port(&mut self, port: i64) {
        self.port = port;
        self.update_description();
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_region(&mut self, region: GString) {
        self.region = region;
        self.update_description();
    }

    #[func]
    fn set_version(&mut self, version: GString) {
        self.version = version;
        self.update_description();
    }

    #[func]
    fn set_public_address(&mut self, public_address: GString) {
        self.public_address = public_address;
        self.update_description();
    }

    #[func]
    fn set_host(&mut self, host: HostKind) {
        let changes = self.host != host;
        self.host = host;
        if changes && self.base().is_inside_tree() && !godot::init::is_editor_hint() {
            self.choose_host_anew();
        }
    }

    #[func]
    fn set_dtls(&mut self, dtls: bool) {
        self.warn_if_registered("dtls", self.dtls != dtls);
        self.dtls = dtls;
    }

    #[func]
    fn set_dtls_certificate_file(&mut self, path: GString) {
        self.warn_if_registered("dtls_certificate_file", self.dtls_certificate_file != path);
        self.dtls_certificate_file = path;
    }

    #[func]
    fn set_dtls_key_file(&mut self, path: GString) {
        self.warn_if_registered("dtls_key_file", self.dtls_key_file != path);
        self.dtls_key_file = path;
    }

    #[func]
    fn set_main_loop_stall_seconds(&mut self, seconds: f64) {
        self.warn_if_registered(
            "main_loop_stall_seconds",
            self.main_loop_stall_seconds.to_bits() != seconds.to_bits(),
        );
        self.main_loop_stall_seconds = seconds;
    }

    #[func]
    fn set_query_enabled(&mut self, enabled: bool) {
        self.warn_if_registered("query_enabled", self.query_enabled != enabled);
        self.query_enabled = enabled;
    }

    #[func]
    fn set_query_port(&mut self, port: i64) {
        self.warn_if_registered("query_port", self.query_port != port);
        self.query_port = port;
    }

    #[func]
    fn set_query_player_names(&mut self, shown: bool) {
        self.query_player_names = shown;
        self.publish();
    }

    #[func]
    fn set_lan_discovery(&mut self, enabled: bool) {
        self.warn_if_registered("lan_discovery", self.lan_discovery != enabled);
        self.lan_discovery = enabled;
    }

    #[func]
    fn set_map(&mut self, map: GString) {
        self.map = map;
        self.update_description();
    }

    #[func]
    fn set_mode(&mut self, mode: GString) {
        self.mode = mode;
        self.update_description();
    }

    #[func]
    fn set_tags(&mut self, tags: PackedStringArray) {
        self.tags = tags;
        self.update_description();
    }

    #[func]
    fn set_max_players(&mut self, max_players: i64) {
        self.max_players = max_players;
        self.update_description();
        self.publish_players();
        self.base_mut().update_configuration_warnings();
    }

    /// Current number of players, as set on the node.
    pub fn count(&self) -> i64 {
        self.players
    }

    /// Maximum number of players, as set on the node.
    pub fn player_limit(&self) -> i64 {
        self.max_players
    }

    /// Name in the room list, as set on the node.
    pub fn name_in_list(&self) -> &GString {
        &self.server_name
    }

    /// The connection settings, as set on the node.
    pub fn own_config(&self) -> Option<Gd<BackendConfig>> {
        self.config.clone()
    }
}
