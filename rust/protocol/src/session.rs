//! Logging in and staying logged in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};
use crate::unicode;

/// Makes a new guest account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnonymousLogin {
    /// Name shown to others; the backend invents one when it is absent. 1 to 32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// Logs in the account bound to a device, making it on first use.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceLogin {
    /// A secret the device keeps: 16 to 128 characters, random.
    pub device_id: String,
    /// Name for a new account. 1 to 32 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// Logs in with e-mail address and password.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordLogin {
    /// At most 254 bytes; compared without regard to case.
    pub email: String,
    /// 8 to 128 characters.
    pub password: String,
}

/// Makes an account with e-mail address and password.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// At most 254 bytes; compared without regard to case.
    pub email: String,
    /// 8 to 128 characters.
    pub password: String,
    /// Name shown to others. 1 to 32 characters.
    pub display_name: String,
}

/// Trades a refresh token for a new session. An immediate replay gets the same successor; an older token
/// revokes the whole family (RFC 9700 §4.14.2).
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The newest refresh token of this session.
    pub refresh_token: String,
}

/// Ends the session the refresh token belongs to.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// Any refresh token of the session.
    pub refresh_token: String,
}

/// A session: who the player is, and the tokens that prove it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// JWT of type `access+jwt` for `Authorization: Bearer`.
    pub access_token: String,
    /// Seconds the access token lives, counted from the reply; independent of the client's wall clock.
    pub expires_in: u32,
    /// One-use token for [`Refresh`].
    pub refresh_token: String,
    /// Seconds the refresh token lives.
    pub refresh_expires_in: u32,
    /// True when this login made the account.
    pub created: bool,
}

impl Check for AnonymousLogin {
    fn check(&self) -> Result<(), FieldError> {
        display_name(self.display_name.as_deref())
    }
}

impl Check for DeviceLogin {
    fn check(&self) -> Result<(), FieldError> {
        limits::opaque("device_id", &self.device_id, limits::MIN_DEVICE_ID, limits::MAX_DEVICE_ID)?;
        display_name(self.display_name.as_deref())
    }
}

impl Check for PasswordLogin {
    fn check(&self) -> Result<(), FieldError> {
        limits::known_email("email", &self.email)?;
        password("password", &self.password)
    }
}

impl Check for Register {
    fn check(&self) -> Result<(), FieldError> {
        limits::email("email", &self.email)?;
        new_password("password", &self.password)?;
        display_name(Some(&self.display_name))
    }
}

impl Check for Refresh {
    fn check(&self) -> Result<(), FieldError> {
        limits::token("refresh_token", &self.refresh_token)
    }
}

impl Check for Logout {
    fn check(&self) -> Result<(), FieldError> {
        limits::token("refresh_token", &self.refresh_token)
    }
}

pub(crate) fn display_name(name: Option<&str>) -> Result<(), FieldError> {
    let Some(name) = name else { return Ok(()) };
    limits::text("display_name", name, 1, limits::MAX_DISPLAY_NAME)
}

/// A password that is there already: one of an older version may be one that would not be taken now.
pub(crate) fn password(field: &str, password: &str) -> Result<(), FieldError> {
    let typed = password.chars().count();
    if (limits::MIN_PASSWORD..=limits::MAX_PASSWORD).contains(&typed) {
        return Ok(());
    }
    has_length(field, password)
}

/// A password to be: as long as it may be in the form it is hashed in, and of characters that can be typed again.
pub(crate) fn new_password(field: &str, password: &str) -> Result<(), FieldError> {
    has_length(field, password)?;
    if let Some(letter) = password.chars().find(|letter| !unicode::is_typed(*letter)) {
        let code = u32::from(letter);
        let rule =
            format!("must not contain control characters, invisible or unassigned ones; has U+{code:04X}");
        return Err(FieldError::new(field, rule));
    }
    Ok(())
}

fn has_length(field: &str, password: &str) -> Result<(), FieldError> {
    let length = unicode::password(password).chars().count();
    if (limits::MIN_PASSWORD..=limits::MAX_PASSWORD).contains(&length) {
        Ok(())
    } else {
        let (min, max) = (limits::MIN_PASSWORD, limits::MAX_PASSWORD);
        Err(FieldError::new(field, format!("must have {min} to {max} characters, has {length}")))
    }
}
