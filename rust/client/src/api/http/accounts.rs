//! The calls that make, join and change accounts, over our own protocol.

use async_trait::async_trait;
use backend_protocol::accounts::{
    AccountDetails, ChangePassword, CustomLogin, ForgottenPassword, LinkCustom, LinkDevice, LinkPassword,
    ResetPassword, VerifyEmail,
};

use backend_protocol::routes;
use backend_protocol::session::{Logout, Session};
use reqwest::Method;

use super::{Call, HttpBackend, Reply};
use crate::api::backend::accounts::AccountBackend;

#[async_trait]
impl AccountBackend for HttpBackend {
    async fn login_custom(&self, body: &CustomLogin) -> Reply<Session> {
        self.call(Call::post(routes::AUTH_CUSTOM, body)?.once()).await
    }

    // Repeatable: what has ended stays ended.
    async fn logout_everywhere(&self, body: &Logout) -> Reply<()> {
        self.call_without_reply(Call::post(routes::AUTH_LOGOUT_EVERYWHERE, body)?.repeated()).await
    }

    // Not repeated by itself: each one sends a mail.
    async fn password_forgotten(&self, body: &ForgottenPassword) -> Reply<()> {
        self.call_without_reply(Call::post(routes::AUTH_PASSWORD_FORGOTTEN, body)?).await
    }

    // Not repeated by itself: a code is good once.
    async fn reset_password(&self, body: &ResetPassword) -> Reply<()> {
        self.call_without_reply(Call::post(routes::AUTH_PASSWORD_RESET, body)?).await
    }

    async fn account(&self, access_token: &str) -> Reply<AccountDetails> {
        self.call(Call::get(routes::ACCOUNT).with(access_token)).await
    }

    // Linking is repeatable: what is linked already, the same way, is a success.
    async fn link_password(&self, access_token: &str, body: &LinkPassword) -> Reply<AccountDetails> {
        self.call(Call::post(routes::ACCOUNT_LINK_PASSWORD, body)?.repeated().with(access_token)).await
    }

    async fn link_device(&self, access_token: &str, body: &LinkDevice) -> Reply<AccountDetails> {
        self.call(Call::post(routes::ACCOUNT_LINK_DEVICE, body)?.repeated().with(access_token)).await
    }

    async fn link_custom(&self, access_token: &str, body: &LinkCustom) -> Reply<AccountDetails> {
        self.call(Call::post(routes::ACCOUNT_LINK_CUSTOM, body)?.with(access_token)).await
    }

    // Repeatable: the same new password again changes nothing.
    async fn change_password(&self, access_token: &str, body: &ChangePassword) -> Reply<()> {
        self.call_without_reply(Call::post(routes::ACCOUNT_PASSWORD, body)?.repeated().with(access_token))
            .await
    }

    async fn send_email_code(&self, access_token: &str) -> Reply<()> {
        let call = Call { method: Method::POST, repeatable: false, ..Call::get(routes::ACCOUNT_EMAIL_CODE) };
        self.call_without_reply(call.with(access_token)).await
    }

    async fn verify_email(&self, access_token: &str, body: &VerifyEmail) -> Reply<AccountDetails> {
        self.call(Call::post(routes::ACCOUNT_EMAIL_VERIFY, body)?.with(access_token)).await
    }
}
