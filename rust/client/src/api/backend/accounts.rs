//! The calls that make, join and change accounts.

use async_trait::async_trait;
use backend_protocol::accounts::{
    AccountDetails, ChangePassword, CustomLogin, ForgottenPassword, LinkCustom, LinkDevice, LinkPassword,
    ResetPassword, VerifyEmail,
};
use backend_protocol::session::{Logout, Session};

use super::Reply;

/// A backend with accounts of its own.
#[async_trait]
#[allow(
    missing_docs,
    reason = "each method is the route of the same name, documented in backend_protocol::routes"
)]
pub trait AccountBackend: Send + Sync {
    async fn login_custom(&self, body: &CustomLogin) -> Reply<Session>;
    async fn logout_everywhere(&self, body: &Logout) -> Reply<()>;
    async fn password_forgotten(&self, body: &ForgottenPassword) -> Reply<()>;
    async fn reset_password(&self, body: &ResetPassword) -> Reply<()>;
    async fn account(&self, access_token: &str) -> Reply<AccountDetails>;
    async fn link_password(&self, access_token: &str, body: &LinkPassword) -> Reply<AccountDetails>;
    async fn link_device(&self, access_token: &str, body: &LinkDevice) -> Reply<AccountDetails>;
    async fn link_custom(&self, access_token: &str, body: &LinkCustom) -> Reply<AccountDetails>;
    async fn change_password(&self, access_token: &str, body: &ChangePassword) -> Reply<()>;
    async fn send_email_code(&self, access_token: &str) -> Reply<()>;
    async fn verify_email(&self, access_token: &str, body: &VerifyEmail) -> Reply<AccountDetails>;
}
