//! More ways to log in to an account. A guest that gets one keeps its id, and with it everything that was saved for it.

use axum::Json;
use axum::extract::State;
use backend_protocol::accounts::{AccountDetails, LinkCustom, LinkDevice, LinkPassword};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::{address, details, taken_email};
use crate::accounts::mail::MailJob;
use crate::auth::audit::Event;
use crate::auth::extractors::PlayerAuth;
use crate::auth::known_login_ips;
use crate::config::EmailAccounts;
use crate::database::Transaction;
use crate::digest::sha256;
use crate::http::idempotency;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Whose identity this is.
pub async fn owner(tx: &mut Transaction, provider: &str, subject: &str) -> ApiResult<Option<String>> {
    let row = sqlx::query("SELECT player_id FROM identities WHERE provider = $1 AND subject = $2")
        .bind(provider)
        .bind(subject)
        .fetch_optional(&mut *tx.conn)
        .await?;
    Ok(row.map(|row| row.try_get("player_id")).transpose()?)
}

/// Links an identity that belongs to no account yet.
pub async fn add(tx: &mut Transaction, player_id: &str, provider: &str, subject: &str) -> ApiResult<()> {
    let added = sqlx::query(
        "INSERT INTO identities (provider, subject, player_id, linked_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT DO NOTHING",
    )
    .bind(provider)
    .bind(subject)
    .bind(player_id)
    .bind(tx.now)
    .execute(&mut *tx.conn)
    .await?;
    if added.rows_affected() == 0 {
        return Err(taken(
            "the account has another identity of this provider, or another account has this one",
        ));
    }
    Ok(())
}

fn taken(words: &str) -> ApiError {
    ApiError::new(Code::AlreadyLinked, words)
}

/// Adds an e-mail address and a password to the caller's account.
#[utoipa::path(post, path = "/v1/account/link/password", operation_id = "account_link_password", tag = "account", request_body = LinkPassword,
    security(("access_token" = [])), responses((status = 200, body = AccountDetails), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn password(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<LinkPassword>,
) -> ApiResult<Json<AccountDetails>> {
    let player_id = player.0.sub.clone();
    let email = address::normalized(&body.value.email);
    let password_hash = state.passwords.hash(body.value.password.clone()).await?;
    let mut tx = state.database.begin().await?;
    let row = sqlx::query("SELECT email, pending_email, password_hash FROM players WHERE player_id = $1")
        .bind(&player_id)
        .fetch_one(&mut *tx.conn)
        .await?;
    let (has, waits): (Option<String>, Option<String>) =
        (row.try_get("email")?, row.try_get("pending_email")?);
    let stored: Option<String> = row.try_get("password_hash")?;
    if let Some(stored) = stored {
        // The first try was executed and its reply lost.
        let same = [has.as_ref(), waits.as_ref()].contains(&Some(&email))
            && state.passwords.matches(body.value.password, Some(stored)).await?.is_some();
        if !same {
            return Err(taken("the account has a password; change it instead"));
        }
        return Ok(Json(details(&mut tx.conn, &player_id).await?));
    }
    let column = match state.email_accounts {
        EmailAccounts::Open => "email",
        EmailAccounts::Verified => "pending_email",
    };
    let sql = format!("UPDATE players SET {column} = $1, password_hash = $2 WHERE player_id = $3");
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(email)
        .bind(password_hash)
        .bind(&player_id)
        .execute(&mut *tx.conn)
        .await
        .map_err(taken_email)?;
    known_login_ips::insert(&mut tx, &player_id).await?;
    idempotency::invalidate_keys(&mut tx, &player_id).await?;
    let account = details(&mut tx.conn, &player_id).await?;
    tx.commit().await?;
    Event::new("account_linked").method("password").player(&player_id).ok();
    state.mail.enqueue(MailJob::Verification { player_id });
    Ok(Json(account))
}

/// Links a device to the caller's account.
#[utoipa::path(post, path = "/v1/account/link/device", operation_id = "account_link_device", tag = "account", request_body = LinkDevice,
    security(("access_token" = [])), responses((status = 200, body = AccountDetails), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn device(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<LinkDevice>,
) -> ApiResult<Json<AccountDetails>> {
    let player_id = player.0.sub.clone();
    let device_hash = sha256(body.value.device_id.as_bytes());
    let mut tx = state.database.begin().await?;
    let linked = sqlx::query(
        "UPDATE players SET device_hash = $1 WHERE player_id = $2 AND (device_hash IS NULL OR device_hash = $1)",
    )
    .bind(device_hash)
    .bind(&player_id)
    .execute(&mut *tx.conn)
    .await;
    match linked {
        Ok(done) if done.rows_affected() > 0 => {}
        Ok(_) => return Err(taken("the account has another device")),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            return Err(taken("this device logs in to another account"));
        }
        Err(error) => return Err(error.into()),
    }
    idempotency::invalidate_keys(&mut tx, &player_id).await?;
    let account = details(&mut tx.conn, &player_id).await?;
    tx.commit().await?;
    Event::new("account_linked").method("device").player(&player_id).ok();
    Ok(Json(account))
}

/// Links an identity of another platform to the caller's account.
#[utoipa::path(post, path = "/v1/account/link/custom", operation_id = "account_link_custom", tag = "account", request_body = LinkCustom,
    security(("access_token" = [])), responses((status = 200, body = AccountDetails), (status = 409, body = Problem),
        (status = 503, body = Problem), (status = "4XX", body = Problem)))]
pub async fn custom(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<LinkCustom>,
) -> ApiResult<Json<AccountDetails>> {
    let player_id = player.0.sub.clone();
    let LinkCustom { provider, token } = body.value;
    let identity = state.identity_providers.verify(&provider, &token).await?;
    let mut tx = state.database.begin().await?;
    match owner(&mut tx, &provider, &identity.subject).await? {
        Some(owner) if owner == player_id => {}
        Some(_) => return Err(taken("this identity logs in to another account")),
        None => add(&mut tx, &player_id, &provider, &identity.subject).await?,
    }
    idempotency::invalidate_keys(&mut tx, &player_id).await?;
    let account = details(&mut tx.conn, &player_id).await?;
    tx.commit().await?;
    Event::new("account_linked").method("custom").player(&player_id).ok();
    Ok(Json(account))
}
