//! Passwords that are entered: how many may be wrong, and what they are compared with.

use backend_protocol::Code;

use super::audit::Event;
use super::known_login_ips;
use super::password_hash::Form;
use crate::digest::sha256;
use crate::http::rate_limit::PasswordAttempt;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// Refuses a wrong password, or too many. Takes as long for accounts that do not exist.
pub async fn check_password(
    state: &AppState,
    subject: &str,
    player_id: &str,
    password: String,
    stored: Option<String>,
) -> ApiResult<Form> {
    let known_ip = known_login_ips::contains(&state.database, player_id).await?;
    let attempt = PasswordAttempt::begin(&state.rate_limits, &sha256(subject.as_bytes()), known_ip)?;
    match state.passwords.matches(password, stored).await {
        Ok(Some(form)) => {
            attempt.succeed();
            Ok(form)
        }
        Ok(None) => {
            Event::new("password").player(player_id).refused("wrong password");
            Err(ApiError::new(Code::InvalidCredentials, "the e-mail address or the password is wrong"))
        }
        Err(error) => {
            attempt.cancel();
            Err(error)
        }
    }
}
