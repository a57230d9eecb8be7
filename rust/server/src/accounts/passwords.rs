//! Another password: with the old one, or with a code from a mail.

use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::accounts::{ChangePassword, ForgottenPassword, ResetPassword};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::{address, email, end_sessions};
use crate::accounts::mail::{MailJob, codes};
use crate::auth::audit::Event;
use crate::auth::extractors::PlayerAuth;
use crate::auth::known_login_ips;
use crate::auth::password_check::check_password;
use crate::auth::refresh_tokens;
use crate::auth::revocations;
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Changes the password of the caller's account and ends its other sessions.
#[utoipa::path(post, path = "/v1/account/password", operation_id = "account_change_password", tag = "account", request_body = ChangePassword,
    security(("access_token" = [])), responses((status = 204), (status = 401, body = Problem), (status = "4XX", body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<ChangePassword>,
) -> ApiResult<StatusCode> {
    let player_id = player.0.sub.clone();
    let ChangePassword { current_password, new_password, refresh_token } = body.value;
    let row = sqlx::query("SELECT email, password_hash FROM players WHERE player_id = $1")
        .bind(&player_id)
        .fetch_one(state.database.pool())
        .await?;
    let stored: Option<String> = row.try_get("password_hash")?;
    let subject = row.try_get::<Option<String>, _>("email")?.unwrap_or_else(|| player_id.clone());
    let right = check_password(&state, &subject, &player_id, current_password, stored.clone()).await;
    if let Err(error) = right {
        // The first try was executed and its reply lost: the new password is the current one already.
        let done = error.0.code == Code::InvalidCredentials
            && state.passwords.matches(new_password, stored).await?.is_some();
        return if done { Ok(StatusCode::NO_CONTENT) } else { Err(error) };
    }
    let password_hash = state.passwords.hash(new_password).await?;
    let mut tx = state.database.begin().await?;
    let kept = match &refresh_token {
        Some(token) => Some(refresh_tokens::session_of(&state, &mut tx, token, &player_id).await?),
        None => None,
    };
    set(&mut tx, &player_id, &password_hash).await?;
    end_sessions(&mut tx, &player_id, kept.as_deref()).await?;
    tx.commit().await?;
    Event::new("password_changed").player(&player_id).ok();
    state.mail.enqueue(MailJob::PasswordChanged { player_id });
    Ok(StatusCode::NO_CONTENT)
}

async fn set(tx: &mut crate::database::Transaction, player_id: &str, password_hash: &str) -> ApiResult<()> {
    sqlx::query("UPDATE players SET password_hash = $1 WHERE player_id = $2")
        .bind(password_hash)
        .bind(player_id)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Replaces the hash of a password by one of its normal form, unless another was set meanwhile.
pub async fn renew(
    tx: &mut crate::database::Transaction,
    player_id: &str,
    stored: &str,
    renewed: &str,
) -> ApiResult<()> {
    sqlx::query("UPDATE players SET password_hash = $1 WHERE player_id = $2 AND password_hash = $3")
        .bind(renewed)
        .bind(player_id)
        .bind(stored)
        .execute(&mut *tx.conn)
        .await?;
    Ok(())
}

/// Sends a reset code to the address, if it has an account. The reply is the same if it has none.
#[utoipa::path(post, path = "/v1/auth/password/forgotten", operation_id = "auth_forgotten_password", tag = "account", request_body = ForgottenPassword,
    responses((status = 202), (status = "4XX", body = Problem)))]
pub async fn forgotten(
    State(state): State<AppState>,
    body: JsonBody<ForgottenPassword>,
) -> ApiResult<StatusCode> {
    // The account is looked for afterwards, so that the time of the reply is the same.
    state.mail.enqueue(MailJob::PasswordReset { email: address::normalized(&body.value.email) });
    Ok(StatusCode::ACCEPTED)
}

/// Sets a new password with the code from the mail, and ends all sessions.
#[utoipa::path(post, path = "/v1/auth/password/reset", operation_id = "auth_reset_password", tag = "account", request_body = ResetPassword,
    responses((status = 204), (status = 403, body = Problem), (status = "4XX", body = Problem)))]
pub async fn reset(State(state): State<AppState>, body: JsonBody<ResetPassword>) -> ApiResult<StatusCode> {
    let ResetPassword { email, code, new_password } = body.value;
    let email = address::normalized(&email);
    let hash = codes::hash(codes::RESET, &email, &code);
    // Looked at before the costly hash; used below.
    let invalid = || {
        Event::new("password_reset").refused("wrong code");
        ApiError::new(Code::MailCodeInvalid, "the code is wrong, used or past its time; ask for another")
    };
    if !codes::is_valid(&state.database, &hash).await? {
        return Err(invalid());
    }
    let password_hash = state.passwords.hash(new_password).await?;
    let mut tx = state.database.begin().await?;
    let player_id = codes::consume(&mut tx, &hash).await?.ok_or_else(invalid)?;
    set(&mut tx, &player_id, &password_hash).await?;
    let verified = sqlx::query("SELECT email_verified_at FROM players WHERE player_id = $1")
        .bind(&player_id)
        .fetch_one(&mut *tx.conn)
        .await?
        .try_get::<Option<i64>, _>("email_verified_at")?;
    if verified.is_none() {
        // An attacker may have registered the address before its owner did, and left other ways in.
        forget_other_ways(&mut tx, &player_id).await?;
    }
    email::verified(&mut tx, &player_id).await?;
    end_sessions(&mut tx, &player_id, None).await?;
    revocations::insert(&mut tx, &player_id, revocations::SESSIONS_ENDED).await?;
    known_login_ips::insert(&mut tx, &player_id).await?;
    tx.commit().await?;
    // The reader of its mails is the owner, whom the attempts of strangers do not keep out.
    state.rate_limits.forget_unknown_networks(&sha256(email.as_bytes()));
    Event::new("password_reset").player(&player_id).ok();
    state.mail.enqueue(MailJob::PasswordChanged { player_id });
    Ok(StatusCode::NO_CONTENT)
}

async fn forget_other_ways(tx: &mut crate::database::Transaction, player_id: &str) -> ApiResult<()> {
    for statement in [
        "UPDATE players SET device_hash = NULL WHERE player_id = $1",
        "DELETE FROM identities WHERE player_id = $1",
        "DELETE FROM familiar_addresses WHERE player_id = $1",
    ] {
        sqlx::query(statement).bind(player_id).execute(&mut *tx.conn).await?;
    }
    Ok(())
}
