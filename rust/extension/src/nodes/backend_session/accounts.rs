//! `BackendSession`: what a player does with an account.

use backend_client::error::ClientError;
use backend_client::protocol::accounts::AccountDetails;
use backend_client::session::Session;
use godot::prelude::*;

use super::{BackendSession, optional};
use crate::results::backend_request::BackendRequest;
use crate::results::backend_result::BackendResult;
use crate::results::result_class::result_class;
use crate::variant_json::gstring;

result_class! {
    /// An account and its login methods.
    BackendAccount(AccountDetails) {
        /// Id of the account.
        player_id (get_player_id): GString = |account| gstring(&account.player_id);
        /// Name that other players see.
        display_name (get_display_name): GString = |account| gstring(&account.display_name);
        /// E-mail address in lower case, or empty if there is none.
        email (get_email): GString = |account| account.email.as_ref().map(gstring).unwrap_or_default();
        /// If [code]true[/code], the address was verified with a code.
        email_verified (is_email_verified): bool = |account| account.email_verified;
        /// If [code]true[/code], the account has a password.
        has_password (get_has_password): bool = |account| account.has_password;
        /// If [code]true[/code], a device can log in to the account.
        has_device (get_has_device): bool = |account| account.has_device;
        /// Identity providers that are linked to the account.
        providers (get_providers): PackedStringArray = |account| account.providers.iter().map(gstring).collect();
        /// If [code]true[/code], this session is the only way to log in. A guest account is lost with its device.
        is_guest (get_is_guest): bool = |account| account.guest;
    }
}

#[godot_api(secondary)]
impl BackendSession {
    /// Logs in with a token of an external identity provider, for example a Steam ticket. The account is created on first use.
    /// [param provider] is the provider's name in the backend's configuration. Returns a [BackendRequest] that completes with a
    /// [BackendLoginResult].
    #[func]
    fn login_external(
        &self,
        provider: GString,
        token: GString,
        #[opt(default = "")] display_name: GString,
    ) -> Gd<BackendRequest> {
        let (provider, token) = (provider.to_string(), token.to_string());
        let name = optional(&display_name);
        self.login(async move |session: Session| session.login_custom(provider, token, name).await)
    }

    /// Ends all sessions of the account on all devices. Fails if the backend is unreachable; no session has ended then. Returns a
    /// [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn logout_everywhere(&self) -> Gd<BackendRequest> {
        self.act(async move |session: Session| session.logout_everywhere().await)
    }

    /// Reads the account and its login methods. Returns a [BackendRequest] that completes with a [BackendAccount].
    #[func]
    fn read_account(&self) -> Gd<BackendRequest> {
        self.account_call(async move |session: Session| session.details().await)
    }

    /// Adds an e-mail address and a password to a guest account, which keeps its id and its progress. Returns a [BackendRequest] that
    /// completes with a [BackendAccount].
    #[func]
    fn link_password(&self, email: GString, password: GString) -> Gd<BackendRequest> {
        let (email, password) = (email.to_string(), password.to_string());
        self.account_call(async move |session: Session| session.link_password(email, password).await)
    }

    /// Allows this device to log in to the account with [method login_with_device]. Returns a [BackendRequest] that completes with a
    /// [BackendAccount].
    #[func]
    fn link_device(&self, #[opt(default = "")] device_id: GString) -> Gd<BackendRequest> {
        let device = optional(&device_id);
        self.account_call(async move |session: Session| session.link_device(device).await)
    }

    /// Allows an identity of an external provider to log in to the account with [method login_external]. Returns a [BackendRequest]
    /// that completes with a [BackendAccount].
    #[func]
    fn link_external(&self, provider: GString, token: GString) -> Gd<BackendRequest> {
        let (provider, token) = (provider.to_string(), token.to_string());
        self.account_call(async move |session: Session| session.link_custom(provider, token).await)
    }

    /// Changes the password. All other sessions of the account end. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn change_password(&self, current_password: GString, new_password: GString) -> Gd<BackendRequest> {
        let (current, new) = (current_password.to_string(), new_password.to_string());
        self.act(async move |session: Session| session.change_password(current, new).await)
    }

    /// Requests an e-mail with a code for [method reset_password]. The result is the same if there is no such account. Returns a
    /// [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn request_password_reset(&self, email: GString) -> Gd<BackendRequest> {
        let email = email.to_string();
        self.act(async move |session: Session| session.forgotten_password(email).await)
    }

    /// Sets a new password with the code from the e-mail. All sessions of the account end; log in again afterwards. Returns a
    /// [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn reset_password(&self, email: GString, code: GString, new_password: GString) -> Gd<BackendRequest> {
        let (email, code, new) = (email.to_string(), code.to_string(), new_password.to_string());
        self.act(async move |session: Session| session.reset_password(email, code, new).await)
    }

    /// Requests an e-mail with a new code for [method verify_email]. Returns a [BackendRequest] that completes with a [BackendResult].
    #[func]
    fn request_email_code(&self) -> Gd<BackendRequest> {
        self.act(async move |session: Session| session.send_email_code().await)
    }

    /// Verifies the e-mail address with the code from the e-mail. Returns a [BackendRequest] that completes with a [BackendAccount].
    #[func]
    fn verify_email(&self, code: GString) -> Gd<BackendRequest> {
        let code = code.to_string();
        self.account_call(async move |session: Session| session.verify_email(code).await)
    }
}

impl BackendSession {
    fn act<W>(&self, work: impl FnOnce(Session) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Result<(), ClientError>> + Send + 'static,
    {
        self.calls.try_start(self.connected().map(|connected| work(connected.session)), BackendResult::answer)
    }

    fn account_call<W>(&self, work: impl FnOnce(Session) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Result<AccountDetails, ClientError>> + Send + 'static,
    {
        self.calls
            .try_start(self.connected().map(|connected| work(connected.session)), BackendAccount::answer)
    }
}
