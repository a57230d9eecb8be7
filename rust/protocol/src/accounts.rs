//! What belongs to an account: the ways to log in to it, its e-mail address and its password.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};
use crate::session::{display_name, new_password, password};

/// External login with a token of an identity provider, such as a platform's ticket. The provider's hook verifies it.
/// Makes an account on first use.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomLogin {
    /// Name of a provider the operator configured, `[A-Za-z0-9_.-]`, 1 to 32 bytes.
    pub provider: String,
    /// What the platform gave the game. 1 to 8192 bytes.
    pub token: String,
    /// Name for a new account. 1 to 32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// Adds an e-mail address and a password to the caller's account, which keeps its id and progress.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkPassword {
    /// At most 254 bytes; compared without regard to case.
    pub email: String,
    /// 8 to 128 characters.
    pub password: String,
}

/// Links a device to the caller's account.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkDevice {
    /// A secret the device keeps: 16 to 128 characters, random.
    pub device_id: String,
}

/// Links an identity of another platform to the caller's account.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkCustom {
    /// As in [`CustomLogin`].
    pub provider: String,
    /// As in [`CustomLogin`].
    pub token: String,
}

/// The caller's account, and the ways to log in to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountDetails {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// The e-mail address, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// True when a code that was sent to the address came back. Until then a backend that demands it does not let the address
    /// log in.
    pub email_verified: bool,
    /// True when the account has a password.
    pub has_password: bool,
    /// True when a device logs in to it.
    pub has_device: bool,
    /// Providers of linked identities, sorted.
    pub providers: Vec<String>,
    /// True when there is no way to log in again but this session: a guest.
    pub guest: bool,
}

/// Gives the account another password. All its sessions end but the one of `refresh_token`.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password so far.
    pub current_password: String,
    /// 8 to 128 characters.
    pub new_password: String,
    /// The newest refresh token of the caller's own session, which goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

/// Asks for a mail with a code for [`ResetPassword`]. The answer is the same whether there is such an account or not.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgottenPassword {
    /// At most 254 bytes; compared without regard to case.
    pub email: String,
}

/// Sets another password with the code from the mail. All sessions of the account end, and its address is verified.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// The address the code was sent to.
    pub email: String,
    /// The code from the mail; case, spaces and hyphens do not matter.
    pub code: String,
    /// 8 to 128 characters.
    pub new_password: String,
}

/// Proves that the account's address is the caller's.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyEmail {
    /// The code from the mail; case, spaces and hyphens do not matter.
    pub code: String,
}

fn custom(provider: &str, token: &str) -> Result<(), FieldError> {
    limits::identifier("provider", provider, limits::MAX_PROVIDER)?;
    limits::token("token", token)
}

fn code(code: &str) -> Result<(), FieldError> {
    limits::opaque("code", code, 1, limits::MAX_MAIL_CODE)
}

impl Check for CustomLogin {
    fn check(&self) -> Result<(), FieldError> {
        custom(&self.provider, &self.token)?;
        display_name(self.display_name.as_deref())
    }
}

impl Check for LinkPassword {
    fn check(&self) -> Result<(), FieldError> {
        limits::email("email", &self.email)?;
        new_password("password", &self.password)
    }
}

impl Check for LinkDevice {
    fn check(&self) -> Result<(), FieldError> {
        limits::opaque("device_id", &self.device_id, limits::MIN_DEVICE_ID, limits::MAX_DEVICE_ID)
    }
}

impl Check for LinkCustom {
    fn check(&self) -> Result<(), FieldError> {
        custom(&self.provider, &self.token)
    }
}

impl Check for ChangePassword {
    fn check(&self) -> Result<(), FieldError> {
        password("current_password", &self.current_password)?;
        new_password("new_password", &self.new_password)?;
        self.refresh_token.as_deref().map_or(Ok(()), |token| limits::token("refresh_token", token))
    }
}

impl Check for ForgottenPassword {
    fn check(&self) -> Result<(), FieldError> {
        limits::email("email", &self.email)
    }
}

impl Check for ResetPassword {
    fn check(&self) -> Result<(), FieldError> {
        limits::known_email("email", &self.email)?;
        code(&self.code)?;
        new_password("new_password", &self.new_password)
    }
}

impl Check for VerifyEmail {
    fn check(&self) -> Result<(), FieldError> {
        code(&self.code)
    }
}
