//! `BackendSession`: a player's login.

mod accounts;
mod profile;

use std::cell::RefCell;
use std::sync::Arc;

use backend_client::api::backend::Backend;
use backend_client::error::ClientError;
use backend_client::platform::encrypted_storage::SealedStorage;
use backend_client::platform::storage::Storage;
use backend_client::protocol::limits;
use backend_client::session::{Account, Event, Session};
use godot::prelude::*;

use crate::config;
use crate::config::ProfileChoice;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_error::Failure;
use crate::results::backend_player::{BackendPlayerDocuments, Documents};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::result_class::result_class;
use crate::runtime::main_thread_queue;
use crate::variant_json::gstring;

result_class! {
    /// The result of a login.
    BackendLoginResult(Account) {
        /// Id of the account.
        player_id (get_player_id): GString = |account| gstring(&account.player_id);
        /// Name that other players see.
        display_name (get_display_name): GString = |account| gstring(&account.display_name);
        /// If [code]true[/code], this login created the account.
        created (get_created): bool = |account| account.created;
        /// If [code]true[/code], the session of an earlier run was restored while the backend is unreachable. It is refreshed as soon as
        /// the backend is reachable.
        offline (is_offline): bool = |account| account.offline;
    }
}

/// Logs a player in and keeps the session alive.
///
/// The session is refreshed in the background and survives outages. It ends only when the backend ends it ([signal expired],
/// [signal revoked], [signal banned]) or the player logs out. It is stored in [code]user://[/code], encrypted for this machine, so
/// that [method restore] can resume it.
/// ```gdscript
/// var login: BackendLoginResult = await $BackendSession.login_anonymous("Ada").wait()
/// if login.failed():
///     status.text = login.error.message
/// ```
/// A dedicated server needs no session.
///
/// See "Accounts" in the guide: [code]docs/src/accounts.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendSession {
    /// Connection settings. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// Name under which the session is stored on this machine: letters, digits, [code]_[/code], [code].[/code] and [code]-[/code]. Use
    /// one node with its own profile per player for several players on one machine. [code]--backend-profile=[/code] and
    /// [code]BACKEND_PROFILE[/code] override it. Processes with the same profile share one account safely. A second instance that is
    /// started from the editor gets its own profile, for example [code]default-2[/code], and logs its name.
    #[export]
    #[var(set = set_profile)]
    #[init(val = GString::from("default"))]
    profile: GString,
    /// If [code]true[/code], [method restore] is called when the node is ready. [signal logged_in] is emitted on success.
    #[export]
    auto_restore: bool,
    /// Id of the logged-in account, otherwise empty.
    #[var(get = get_player_id, no_set)]
    player_id: PhantomVar<GString>,
    /// Name of the logged-in player, otherwise empty.
    #[var(get = get_display_name, no_set)]
    display_name: PhantomVar<GString>,
    /// Name under which the session of this process is stored: [member profile], its override, or the profile that a second
    /// instance from the editor was given. Empty if the settings are invalid.
    #[var(get = get_active_profile, no_set)]
    active_profile: PhantomVar<GString>,
    connected: RefCell<Option<Connected>>,
    calls: Calls,
    base: Base<Node>,
}

/// A session and the backend it is with.
#[derive(Clone)]
pub struct Connected {
    pub backend: Arc<dyn Backend>,
    pub session: Session,
}

#[godot_api]
impl INode for BackendSession {
    fn ready(&mut self) {
        if self.auto_restore && !godot::init::is_editor_hint() {
            // Whoever cares listens to `logged_in`.
            drop(self.restore());
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
        if let Err(error) = self.check_profile() {
            warnings.push(error.message.to_string());
        }
        warnings.iter().map(GString::from).collect()
    }
}

#[godot_api]
impl BackendSession {
    /// Emitted after a successful login or restore.
    #[signal]
    pub fn logged_in(player_id: GString);

    /// Emitted after the session was refreshed.
    #[signal]
    pub fn refreshed();

    /// Emitted when the backend ended the session, because it was not refreshed for too long or was ended elsewhere. The player must
    /// log in again.
    #[signal]
    pub fn expired(error: Gd<crate::results::backend_error::BackendError>);

    /// Emitted when the backend ended the session because a copy of it was used. The player must log in again and should change the
    /// password.
    #[signal]
    pub fn revoked(error: Gd<crate::results::backend_error::BackendError>);

    /// Emitted when the session ended because the account is banned.
    #[signal]
    pub fn banned(error: Gd<crate::results::backend_error::BackendError>);

    /// Emitted after the player has logged out.
    #[signal]
    pub fn logged_out();

    /// Creates a guest account and logs in. Without [param display_name], the backend generates a name. Returns a [BackendRequest] that
    /// completes with a [BackendLoginResult].
    #[func]
    fn login_anonymous(&self, #[opt(default = "")] display_name: GString) -> Gd<BackendRequest> {
        let name = optional(&display_name);
        self.login(async move |session: Session| session.login_anonymous(name).await)
    }

    /// Logs in the account of this device, which is created on first use. [param device_id] is a secret of 16 to 128 characters;
    /// without it, a random one is generated and stored. Returns a [BackendRequest] that completes with a [BackendLoginResult].
    #[func]
    fn login_with_device(
        &self,
        #[opt(default = "")] device_id: GString,
        #[opt(default = "")] display_name: GString,
    ) -> Gd<BackendRequest> {
        let (device, name) = (optional(&device_id), optional(&display_name));
        self.login(async move |session: Session| session.login_device(device, name).await)
    }

    /// Logs in with e-mail address and password. Returns a [BackendRequest] that completes with a [BackendLoginResult].
    #[func]
    fn login_with_password(&self, email: GString, password: GString) -> Gd<BackendRequest> {
        let (email, password) = (email.to_string(), password.to_string());
        self.login(async move |session: Session| session.login_password(email, password).await)
    }

    /// Creates an account with e-mail address and password (8 to 128 characters) and logs in. Returns a [BackendRequest] that completes
    /// with a [BackendLoginResult].
    #[func]
    fn register(&self, email: GString, password: GString, display_name: GString) -> Gd<BackendRequest> {
        let (email, password) = (email.to_string(), password.to_string());
        let name = display_name.to_string();
        self.login(async move |session: Session| session.register(email, password, name).await)
    }

    /// Refreshes the session now. It is refreshed automatically before it expires. Returns a [BackendRequest] that completes with a
    /// [BackendLoginResult].
    #[func]
    fn refresh(&self) -> Gd<BackendRequest> {
        self.login(async move |session: Session| session.refresh().await)
    }

    /// Resumes the stored session of this profile. Returns a [BackendRequest] that completes with a [BackendLoginResult], which
    /// fails with [code]not_logged_in[/code] if there is none. While the backend is unreachable, the stored session is used and
    /// [member BackendLoginResult.offline] is [code]true[/code].
    #[func]
    fn restore(&self) -> Gd<BackendRequest> {
        self.login(async move |session: Session| session.restore().await)
    }

    /// Ends the session on this machine, and at the backend if it is reachable. Returns a [BackendRequest] that completes with a
    /// [BackendResult].
    #[func]
    fn logout(&self) -> Gd<BackendRequest> {
        let work = self.connected().map(|connected| async move { connected.session.logout().await });
        self.calls.try_start(work, BackendResult::answer)
    }

    /// Reads the player's own documents. Only servers can write them. Returns a [BackendRequest] that completes with a
    /// [BackendPlayerDocuments].
    #[func]
    fn read_documents(&self) -> Gd<BackendRequest> {
        let work = self
            .connected()
            .map(|connected| async move { connected.session.own_documents().await.map(Documents::from) });
        self.calls.try_start(work, BackendPlayerDocuments::answer)
    }

    /// Returns [code]true[/code] if a player is logged in, also while the backend is unreachable.
    #[func]
    fn is_logged_in(&self) -> bool {
        self.account().is_some()
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn get_player_id(&self) -> GString {
        self.account().map(|account| gstring(&account.player_id)).unwrap_or_default()
    }

    #[func]
    fn get_display_name(&self) -> GString {
        self.account().map(|account| gstring(&account.display_name)).unwrap_or_default()
    }

    #[func]
    fn get_active_profile(&self) -> GString {
        self.connected().map(|connected| gstring(connected.session.profile())).unwrap_or_default()
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        self.connected.replace(None);
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_profile(&mut self, profile: GString) {
        self.profile = profile;
        self.connected.replace(None);
        self.base_mut().update_configuration_warnings();
    }

    /// The session, created on first use: a node that is only configured opens no connection.
    pub fn connected(&self) -> Result<Connected, ClientError> {
        if let Some(connected) = &*self.connected.borrow() {
            return Ok(connected.clone());
        }
        let (profile, choice) = self.check_profile()?;
        let config = config::resolve(self.config.as_ref())?;
        let storage: Arc<dyn Storage> = Arc::new(SealedStorage::new(config::storage(&config)));
        let backend = config::connect(config)?;
        let id = self.base().instance_id();
        let on_event = Arc::new(move |event| main_thread_queue::enqueue(move || announce(id, event)));
        let profile = profile::for_this_process(storage.as_ref(), &backend.name(), profile, choice);
        let session = Session::new(Arc::clone(&backend), storage, config::clock(), profile, on_event);
        let connected = Connected { backend, session };
        self.connected.replace(Some(connected.clone()));
        Ok(connected)
    }

    fn login<W>(&self, work: impl FnOnce(Session) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Result<Account, ClientError>> + Send + 'static,
    {
        let work = self.connected().map(|connected| work(connected.session));
        self.calls.try_start(work, BackendLoginResult::answer)
    }

    /// The account that is logged in.
    pub fn account(&self) -> Option<Account> {
        self.connected.borrow().as_ref().and_then(|connected| connected.session.account())
    }

    /// The profile of the session, if it was used yet.
    pub fn used_profile(&self) -> Option<String> {
        self.connected.borrow().as_ref().map(|connected| connected.session.profile().to_owned())
    }

    fn check_profile(&self) -> Result<(String, ProfileChoice), ClientError> {
        let (profile, choice) = config::profile(self.config.as_ref(), &self.profile.to_string());
        limits::identifier("profile", &profile, 64)?;
        Ok((profile, choice))
    }
}

fn announce(id: InstanceId, event: Event) {
    // The node may have been freed.
    let Ok(node) = Gd::<BackendSession>::try_from_instance_id(id) else { return };
    match event {
        Event::LoggedIn(account) => node.signals().logged_in().emit(&account.player_id),
        Event::Refreshed => node.signals().refreshed().emit(),
        Event::Expired(error) => node.signals().expired().emit(&Failure::from(error).into_object()),
        Event::Revoked(error) => node.signals().revoked().emit(&Failure::from(error).into_object()),
        Event::Banned(error) => node.signals().banned().emit(&Failure::from(error).into_object()),
        Event::LoggedOut => node.signals().logged_out().emit(),
    }
}

fn optional(text: &GString) -> Option<String> {
    (!text.is_empty()).then(|| text.to_string())
}
