//! `BackendSession`: what a player does with an account.

use backend_client::error::ClientError;
use backend_client::protocol::accounts::AccountDetails;
use backend_client::session::Session;
use godot::prelude::*;

use super::{BackendDone, BackendSession, optional};
use crate::results::backend_request::BackendRequest;
use crate::results::result_class::result_class;
use crate::variant_json::gstring;

result_class! {
    /// An account, and the ways to log in to it.
    BackendAccount(AccountDetails) {
        /// Id of the account.
        player_id (get_player_id): GString = |account| gstring(&account.player_id);
        /// Name shown to others.
        display_name (get_display_name): GString = |account| gstring(&account.display_name);
        /// E-mail address, in lower case; empty if there is none.
        email (get_email): GString = |account| account.email.as_ref().map(gstring).unwrap_or_default();
        /// Whether a code that was sent to the address came back.
        email_verified (is_email_verified): bool = |account| account.email_verified;
        /// Whether the account has a password.
        has_password (get_has_password): bool = |account| account.has_password;
        /// Whether a device logs in to it.
        has_device (get_has_device): bool = |account| account.has_device;
        /// Providers of linked identities.
        providers (get_providers): PackedStringArray = |account| account.providers.iter().map(gstring).collect();
        /// Whether this session is the only way in: a guest, who loses everything with this machine.
        is_guest (get_is_guest): bool = |account| account.guest;
    }
}

#[godot_api(secondary)]
impl BackendSession {
    /// Logs in with a token of another platform, such as a Steam ticket, which the backend has verified by
    /// [param provider]. Makes an account on first use. Gives a [BackendLoginResult].
    #[func]
    fn login_with_token(
        &self,
        provider: GString,
        token: GString,
        #[opt(default = "")] display_name: GString,
    ) -> Gd<BackendRequest> {
        let (provider, token) = (provider.to_string(), token.to_string());
        let name = optional(&display_name);
        self.login(async move |session: Session| session.login_custom(provider, token, name).await)
    }

    /// Ends all sessions of the account, on all machines. Fails when the backend does not answer, and then nothing has ended.
    /// Gives a [BackendDone].
    #[func]
    fn logout_everywhere(&self) -> Gd<BackendRequest> {
        self.act(async move |session: Session| session.logout_everywhere().await)
    }

    /// Reads the account and the ways to log in to it. Gives a [BackendAccount].
    #[func]
    fn read_account(&self) -> Gd<BackendRequest> {
        self.account_call(async move |session: Session| session.details().await)
    }

    /// Gives a guest's account an e-mail address and a password. It keeps its id and its progress. Gives a [BackendAccount].
    #[func]
    fn link_password(&self, email: GString, password: GString) -> Gd<BackendRequest> {
        let (email, password) = (email.to_string(), password.to_string());
        self.account_call(async move |session: Session| session.link_password(email, password).await)
    }

    /// Lets this device log in to the account, by [method login_with_device]. Gives a [BackendAccount].
    #[func]
    fn link_device(&self, #[opt(default = "")] device_id: GString) -> Gd<BackendRequest> {
        let device = optional(&device_id);
        self.account_call(async move |session: Session| session.link_device(device).await)
    }

    /// Lets an identity of another platform log in to the account, by [method login_with_token]. Gives a [BackendAccount].
    #[func]
    fn link_token(&self, provider: GString, token: GString) -> Gd<BackendRequest> {
        let (provider, token) = (provider.to_string(), token.to_string());
        self.account_call(async move |session: Session| session.link_custom(provider, token).await)
    }

    /// Changes the password. This session goes on, all others of the account end. Gives a [BackendDone].
    #[func]
    fn change_password(&self, current_password: GString, new_password: GString) -> Gd<BackendRequest> {
        let (current, new) = (current_password.to_string(), new_password.to_string());
        self.act(async move |session: Session| session.change_password(current, new).await)
    }

    /// Has a code for [method reset_password] mailed. The answer is the same if there is no such account. Gives a
    /// [BackendDone].
    #[func]
    fn request_password_reset(&self, email: GString) -> Gd<BackendRequest> {
        let email = email.to_string();
        self.act(async move |session: Session| session.forgotten_password(email).await)
    }

    /// Sets another password with the code from the mail. All sessions of the account end: log in afterwards. Gives a
    /// [BackendDone].
    #[func]
    fn reset_password(&self, email: GString, code: GString, new_password: GString) -> Gd<BackendRequest> {
        let (email, code, new) = (email.to_string(), code.to_string(), new_password.to_string());
        self.act(async move |session: Session| session.reset_password(email, code, new).await)
    }

    /// Has another code for [method verify_email] mailed to the account's address. Gives a [BackendDone].
    #[func]
    fn request_email_code(&self) -> Gd<BackendRequest> {
        self.act(async move |session: Session| session.send_email_code().await)
    }

    /// Proves with the code from the mail that the address is the player's. Gives a [BackendAccount].
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
        self.calls.try_start(self.connected().map(|connected| work(connected.session)), BackendDone::answer)
    }

    fn account_call<W>(&self, work: impl FnOnce(Session) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Result<AccountDetails, ClientError>> + Send + 'static,
    {
        self.calls
            .try_start(self.connected().map(|connected| work(connected.session)), BackendAccount::answer)
    }
}
