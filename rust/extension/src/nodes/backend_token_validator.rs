//! `BackendTokenValidator`: validation of players' tokens.

use std::cell::RefCell;
use std::sync::Arc;

use backend_client::error::ClientError;
use backend_client::registration::Registration;
use backend_client::validation::{Policy, TokenValidator, ValidatorConfig};
use godot::prelude::*;

use crate::class_enum::class_enum;
use crate::config;
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::calls::Calls;
use crate::resources::backend_config::BackendConfig;
use crate::results::backend_player::BackendValidationResult;
use crate::results::backend_request::BackendRequest;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;

/// Validates players' tokens on a server.
///
/// [BackendPeerAuth] uses it for connecting peers. Call [method validate] for tokens that arrive by other means. A join ticket is
/// valid once, and its validation consumes it.
/// ```gdscript
/// var result: BackendValidationResult = await $BackendTokenValidator.validate(token).wait()
/// if result.ok():
///     print(result.player.display_name)
/// ```
///
/// See "Security" in the guide: [code]docs/src/security.md[/code] in the repository.
#[derive(GodotClass)]
#[class(tool, init, base = Node)]
pub struct BackendTokenValidator {
    /// Connection settings. If unset, Project Settings > Backend Client is used.
    #[export]
    #[var(set = set_config)]
    config: Option<Gd<BackendConfig>>,
    /// Place of validation: this server or the backend, one of [enum Policy].
    #[export]
    #[var(set = set_policy)]
    policy: ValidationPolicy,
    /// The server that join tickets must be issued for. If unset, only access tokens can be validated.
    #[export]
    #[var(set = set_registration)]
    registration: Option<Gd<BackendServerRegistration>>,
    connected: RefCell<Option<TokenValidator>>,
    calls: Calls,
    base: Base<Node>,
}

/// The values of [`BackendTokenValidator::policy`], for the Inspector.
#[derive(GodotConvert, Var, Export, Debug, Default, Clone, Copy, PartialEq, Eq)]
#[godot(via = i64)]
pub enum ValidationPolicy {
    #[default]
    LocalFirst = 0,
    LocalOnly = 1,
    RemoteOnly = 2,
}

#[godot_api]
impl INode for BackendTokenValidator {
    fn ready(&mut self) {
        if godot::init::is_editor_hint() || !config::is_dedicated_server() {
            return;
        }
        // The keys are there before the first player is.
        if let Ok(validator) = self.connected() {
            worker_threads::spawn(async move {
                if let Err(error) = validator.prepare().await {
                    tracing::warn!(code = error.code(), "public keys not loaded yet: {error}");
                }
            });
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
        if self.registration.is_none() {
            warnings.push(
                "Assign \"Registration\": join tickets are issued for one registered server.".to_owned(),
            );
        }
        warnings.iter().map(GString::from).collect()
    }
}

class_enum! {
    BackendTokenValidator::POLICY: "Policy" {
        /// Tokens are validated on this server; the backend then marks join tickets as used. While the backend is unreachable, the
        /// local result is used.
        LOCAL_FIRST = ValidationPolicy::LocalFirst as i64;
        /// Tokens are validated on this server only. A join ticket is then single-use on this server only.
        LOCAL_ONLY = ValidationPolicy::LocalOnly as i64;
        /// Tokens are validated by the backend only.
        REMOTE_ONLY = ValidationPolicy::RemoteOnly as i64;
    }
}

#[godot_api]
impl BackendTokenValidator {
    /// Validates an access token or a join ticket. Returns a [BackendRequest] that completes with a [BackendValidationResult].
    #[func]
    fn validate(&self, token: GString) -> Gd<BackendRequest> {
        let token = utf8(&token);
        let listed = self.listed();
        let work = self.connected().map(|validator| async move {
            let server_id = listed.as_ref().and_then(Registration::server_id);
            if let Some(listed) = &listed {
                validator.follow(listed);
            }
            // Boxed here, on the worker: what the main thread makes and hands over stays small.
            Box::pin(validator.validate(&token, server_id.as_deref())).await.map(Arc::new)
        });
        self.calls.try_start(work, BackendValidationResult::answer)
    }

    #[func(rename = _get_configuration_warnings)]
    fn warnings(&self) -> PackedStringArray {
        INode::get_configuration_warnings(self)
    }

    #[func]
    fn set_config(&mut self, config: Option<Gd<BackendConfig>>) {
        self.config = config;
        self.connected.replace(None);
        self.base_mut().update_configuration_warnings();
    }

    #[func]
    fn set_policy(&mut self, policy: ValidationPolicy) {
        self.policy = policy;
        self.connected.replace(None);
    }

    #[func]
    fn set_registration(&mut self, registration: Option<Gd<BackendServerRegistration>>) {
        self.registration = registration;
        self.base_mut().update_configuration_warnings();
    }

    /// The validator, made on first use.
    pub fn connected(&self) -> Result<TokenValidator, ClientError> {
        if let Some(validator) = &*self.connected.borrow() {
            return Ok(validator.clone());
        }
        let policy = match self.policy {
            ValidationPolicy::LocalFirst => Policy::LocalFirst,
            ValidationPolicy::LocalOnly => Policy::LocalOnly,
            ValidationPolicy::RemoteOnly => Policy::RemoteOnly,
        };
        let validator = make(self.config.as_ref(), policy)?;
        self.connected.replace(Some(validator.clone()));
        Ok(validator)
    }

    /// The registration whose heartbeats report valid keys.
    pub fn listed(&self) -> Option<Registration> {
        self.registration.as_ref().filter(|node| node.is_instance_valid())?.bind().handle()
    }
}

/// A validator for the backend of `config`.
pub fn make(config: Option<&Gd<BackendConfig>>, policy: Policy) -> Result<TokenValidator, ClientError> {
    let config = config::resolve(config)?;
    let server_key = match config::server_key() {
        Ok(key) => Some(key),
        // Without asking, no key is needed.
        Err(_) if policy == Policy::LocalOnly => None,
        Err(error) if policy == Policy::RemoteOnly => return Err(error),
        Err(error) => {
            tracing::warn!("tickets are validated on this server only: {error}");
            None
        }
    };
    let details =
        ValidatorConfig { issuer: config.issuer.clone(), game: config.game.clone(), policy, server_key };
    let storage = config::storage(&config);
    let backend = config::connect(config)?;
    Ok(TokenValidator::new(backend, storage, config::clock(), details))
}

/// A token is ASCII, or it is no token: narrowed in one go, where `to_string` would format it character by character.
fn utf8(token: &GString) -> String {
    let characters = token.chars();
    if characters.iter().all(char::is_ascii)
        && let Ok(token) = String::from_utf8(characters.iter().map(|character| *character as u8).collect())
    {
        return token;
    }
    characters.iter().collect()
}
