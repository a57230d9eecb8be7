//! `BackendServerRegistration`: registration and heartbeats of a dedicated server.

mod admission_check;
mod encryption;
mod failure_log;
mod hosting;
pub mod listing;
mod query;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use backend_client::error::ClientError;
use backend_client::peer_auth::dtls::Identity;
use backend_client::registration::{Event, Registration};
use backend_client::server_query::Participant;
use godot::prelude::*;

use self::failure_log::{log_if_unused, log_registration_failure};
use self::hosting::HostKind;
use crate::class_enum::class_enum;
use crate::config;
use crate::nodes::calls::Calls;
use crate::nodes::configuration_warnings;
use crate::resources::backend_config::BackendConfig;
use crate::resources::backend_room_options::BackendRoomOptions;
use crate::resources::visibility::Visibility;
use crate::results::backend_error::{BackendError, Failure};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::result_class::result_class;
use crate::runtime::background_tasks;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::shutdown::host_notifier;
use crate::shutdown::registry;
use crate::shutdown::requests;
use crate::variant_json::gstring;

/// Group by which [BackendShutdown] finds the registrations.
pub const GROUP: &str = "backend_server_registration";

result_class! {
    /// The result of [method BackendServerRegistration.register].
    BackendRegistrationResult(String) {
        /// Id of the server, which is also the id of its room.
        server_id (get_server_id): GString = |server_id| gstring(server_id);
    }
}

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
    /// Host that runs this process, one of [enum HostKind]. [constant HOST_AUTO] detects it by the environment and logs the result
    /// in one line. [code]BACKEND_HOST[/code] and [code]--backend-host=[/code] override it. It applies to the whole process: set it
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

struct Connected {
    /// Id of the node, stored because it cannot be read while the node is being freed.
    node: InstanceId,
    registration: Registration,
    _each_frame: FrameHook,
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
        let mut warnings = Vec::new();
        if let Err(error) = config::resolve(self.config.as_ref()).and_then(|config| config.check()) {
            warnings.push(error.message.to_string());
        }
        if self.server_name.is_empty() {
            warnings.push("Set \"Server Name\": the room list shows it.".to_owned());
        }
        let sets_port = || configuration_warnings::is_set_by_script(&self.to_gd().upcast(), "port");
        let is_port = (1..=65_535).contains(&self.port);
        if !is_port && (self.port != 0 || !sets_port()) {
            warnings.push("Set \"Port\", here or by script before registering: 1 to 65535.".to_owned());
        }
        if self.lacks_peer_auth() {
            warnings.push(
                "Add a BackendPeerAuth to this scene, with this node as its \"Registration\": without one, peers are not \
                 authenticated."
                    .to_owned(),
            );
        }
        if self.max_players < 1 {
            warnings.push("Set \"Max Players\": at least 1.".to_owned());
        }
        warnings.iter().map(GString::from).collect()
    }
}

impl Drop for BackendServerRegistration {
    fn drop(&mut self) {
        let Some(connected) = self.connected.take() else { return };
        registry::remove(connected.node);
        connected.registration.stop();
        // Players should not be sent to a freed server. The response is not needed.
        if connected.registration.server_id().is_some() {
            background_tasks::spawn_deregistration(async move {
                if let Err(error) = connected.registration.deregister().await {
                    tracing::warn!(
                        code = error.code(),
                        "a freed server stays listed until its lease expires"
                    );
                }
            });
        }
    }
}

class_enum! {
    BackendServerRegistration::VISIBILITY: "Visibility" {
        /// The room is listed, and joined by its id.
        VISIBILITY_PUBLIC = Visibility::Public as i64;
        /// The room is not listed. It is joined by its id or its invite code.
        VISIBILITY_UNLISTED = Visibility::Unlisted as i64;
        /// The room is not listed, and can be joined by its invite code only.
        VISIBILITY_PRIVATE = Visibility::Private as i64;
    }
}

class_enum! {
    BackendServerRegistration::HOST_KIND: "HostKind" {
        /// The host is detected by the environment: Agones by [code]AGONES_SDK_HTTP_PORT[/code], systemd by [code]NOTIFY_SOCKET[/code], or
        /// both.
        HOST_AUTO = HostKind::Auto as i64;
        /// No host. Nothing is reported to one.
        HOST_NONE = HostKind::None as i64;
        /// A GameServer of Agones.
        HOST_AGONES = HostKind::Agones as i64;
        /// A service of systemd.
        HOST_SYSTEMD = HostKind::Systemd as i64;
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
    /// [code]agones_deleted[/code], [code]agones_unhealthy[/code] or [code]agones_error[/code]. [param deadline_seconds] is the
    /// time that the host leaves, or the grace of [BackendShutdown] if the host reports none. [BackendShutdown] starts the shutdown
    /// with the same reason and deadline.
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

    /// Registers the server and starts the heartbeats. A further call updates the entry, which keeps its id. Returns a [BackendRequest]
    /// that completes with a [BackendRegistrationResult] after the first attempt. While the backend is unreachable, registration is
    /// retried in the background until it succeeds ([signal registered]) or [method deregister] is called. Open the server's port
    /// before registering.
    #[func]
    fn register(&self) -> Gd<BackendRequest> {
        let work = self.registering();
        if let Err(error) = &work {
            log_registration_failure(error);
            let (id, failure) = (self.base().instance_id(), Failure::from(error.clone()));
            main_thread_queue::enqueue(move || {
                if let Ok(node) = Gd::<Self>::try_from_instance_id(id) {
                    node.signals().registration_failed().emit(&failure.into_object());
                }
            });
        } else {
            self.check_admission();
        }
        let (id, asked) = (self.base().instance_id(), Rc::new(Cell::new(None)));
        let answered = Rc::clone(&asked);
        let request = self.calls.try_start(work, move |outcome| {
            if let Err(failure) = &outcome {
                log_if_unused(id, answered.get(), failure);
            }
            BackendRegistrationResult::answer(outcome)
        });
        asked.set(Some(request.instance_id()));
        request
    }

    /// Removes the server from the room list. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn deregister(&self) -> Gd<BackendRequest> {
        self.stop_answering();
        let registration = self.handle();
        let work = async move {
            match registration {
                Some(registration) => registration.deregister().await,
                None => Ok(()),
            }
        };
        self.calls.start(work, BackendResult::answer)
    }

    /// Marks the server as draining. A draining server is not listed, and no tickets are issued for it.
    #[func]
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
        if let Some(registration) = self.handle() {
            registration.set_draining(draining);
        }
        self.publish();
    }

    /// Returns [code]true[/code] if the server is marked as draining.
    #[func]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Returns [code]true[/code] if the server is registered. The registration may have been lost since the last heartbeat.
    #[func]
    pub fn is_registered(&self) -> bool {
        self.listed_as().is_some()
    }

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
            registry::remove(before.node);
            before.registration.stop();
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

    /// The id under which the server is listed.
    pub fn listed_as(&self) -> Option<String> {
        self.handle().and_then(|registration| registration.server_id())
    }

    /// The connection settings, as set on the node.
    pub fn own_config(&self) -> Option<Gd<BackendConfig>> {
        self.config.clone()
    }

    /// The registration, if it was used yet.
    pub fn handle(&self) -> Option<Registration> {
        self.connected.borrow().as_ref().map(|connected| connected.registration.clone())
    }

    /// The registration, created on first use.
    pub fn connected(&self) -> Result<Registration, ClientError> {
        if let Some(registration) = self.handle() {
            return Ok(registration);
        }
        let backend = config::connect(config::resolve(self.config.as_ref())?)?;
        let stall = host_notifier::stall_limit(self.main_loop_stall_seconds)?;
        let id = self.base().instance_id();
        let on_event = Arc::new(move |event| main_thread_queue::enqueue(move || announce(id, event)));
        let registration =
            Registration::new(backend, config::clock(), config::server_key()?, stall, on_event);
        registration.set_draining(self.draining);
        if let Some(allocation_id) = config::allocation_id() {
            registration.set_allocation(allocation_id);
        }
        let turning = registration.clone();
        let each_frame = FrameHook::new(move || turning.main_loop_turned());
        registry::add_registration(id, registration.clone());
        host_notifier::set_stall_limit(stall);
        self.publish_players();
        self.connected.replace(Some(Connected {
            node: id,
            registration: registration.clone(),
            _each_frame: each_frame,
        }));
        Ok(registration)
    }
}

fn announce(id: InstanceId, event: Event) {
    // The node may have been freed.
    let Ok(mut node) = Gd::<BackendServerRegistration>::try_from_instance_id(id) else { return };
    let object = |error: ClientError| Failure::from(error).into_object();
    match event {
        Event::Registered(server_id) => {
            host_notifier::ready(&server_id);
            node.bind().publish();
            node.signals().registered().emit(&server_id);
        }
        Event::RegistrationFailed(error) => {
            log_registration_failure(&error);
            node.signals().registration_failed().emit(&object(error));
        }
        Event::Lost(error) => node.signals().registration_lost().emit(&object(error)),
        Event::HeartbeatFailed(error) => node.signals().heartbeat_failed().emit(&object(error)),
        Event::DrainRequested => {
            node.signals().drain_requested().emit();
            requests::request("drain_requested");
        }
        Event::InviteCodeChanged(code) => {
            let code = code.as_ref().map(gstring).unwrap_or_default();
            node.signals().invite_code_changed().emit(&code);
        }
        Event::RoomAssigned(room) => listing::take_room_over(&mut node, &room),
        Event::Deregistered => node.signals().deregistered().emit(),
    }
}
