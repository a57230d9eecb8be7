//! Accounts: creation, look-up, details for the owner.

pub mod address;
pub mod email;
pub mod link;
pub mod mail;
pub mod passwords;

use axum::Json;
use axum::extract::State;
use backend_protocol::accounts::AccountDetails;
use backend_protocol::{Code, Problem, unicode};
use sqlx::Row;
use uuid::Uuid;

use crate::auth::active_account::Account;
use crate::auth::extractors::PlayerAuth;
use crate::database::Transaction;
use crate::http::idempotency;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

/// What an account begins with.
#[derive(Default)]
pub struct NewAccount {
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub pending_email: Option<String>,
    pub password_hash: Option<String>,
    pub device_hash: Option<String>,
}

pub async fn create(state: &AppState, tx: &mut Transaction, new: NewAccount) -> ApiResult<Account> {
    state.rate_limits.count_new_account()?;
    let player_id = Uuid::now_v7().to_string();
    let display_name =
        new.display_name.unwrap_or_else(|| format!("Guest-{}", &player_id[player_id.len() - 6..]));
    let display_name = unicode::composed(&display_name).into_owned();
    let made = sqlx::query(
        "INSERT INTO players (player_id, display_name, email, pending_email, password_hash, device_hash, created_at, scope) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&player_id)
    .bind(&display_name)
    .bind(new.email)
    .bind(new.pending_email)
    .bind(new.password_hash)
    .bind(new.device_hash)
    .bind(tx.now)
    .bind(state.config.scope())
    .execute(&mut *tx.conn)
    .await;
    match made {
        Ok(_) => Ok(Account { player_id, display_name, tokens_before: 0, created: true }),
        Err(error) => Err(taken_email(error)),
    }
}

/// An address that belongs to another account.
fn taken_email(error: sqlx::Error) -> ApiError {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => {
            let mut problem =
                Problem::new(Code::AccountExists, "there is an account with this e-mail address");
            problem.field = Some("email".into());
            problem.into()
        }
        error => error.into(),
    }
}

/// Ends all sessions of a player but `kept`. Its access tokens are refused here from now on; game servers learn of it
/// only by [`crate::auth::revocations`].
pub async fn end_sessions(tx: &mut Transaction, player_id: &str, kept: Option<&str>) -> ApiResult<()> {
    sqlx::query(
        "UPDATE sessions SET revoked_at = $1 WHERE player_id = $2 AND revoked_at IS NULL AND session_id <> $3",
    )
    .bind(tx.now)
    .bind(player_id)
    .bind(kept.unwrap_or_default())
    .execute(&mut *tx.conn)
    .await?;
    sqlx::query("UPDATE players SET tokens_before = $1 WHERE player_id = $2")
        .bind(tx.now / 1000)
        .bind(player_id)
        .execute(&mut *tx.conn)
        .await?;
    idempotency::invalidate_keys(tx, player_id).await
}

pub async fn details(executor: &mut sqlx::AnyConnection, player_id: &str) -> ApiResult<AccountDetails> {
    let row = sqlx::query(
        "SELECT display_name, email, pending_email, email_verified_at, password_hash, device_hash FROM players \
         WHERE player_id = $1",
    )
    .bind(player_id)
    .fetch_optional(&mut *executor)
    .await?
    .ok_or_else(|| ApiError::new(Code::PlayerNotFound, "the account is gone"))?;
    let providers = sqlx::query("SELECT provider FROM identities WHERE player_id = $1 ORDER BY provider")
        .bind(player_id)
        .fetch_all(&mut *executor)
        .await?;
    let providers =
        providers.iter().map(|row| row.try_get("provider")).collect::<sqlx::Result<Vec<String>>>()?;
    let email: Option<String> = row.try_get("email")?;
    let pending: Option<String> = row.try_get("pending_email")?;
    let has_password = row.try_get::<Option<String>, _>("password_hash")?.is_some();
    let has_device = row.try_get::<Option<String>, _>("device_hash")?.is_some();
    let logs_in_by_mail = email.is_some() && has_password;
    Ok(AccountDetails {
        player_id: player_id.to_owned(),
        display_name: unicode::clean(&row.try_get::<String, _>("display_name")?).into_owned(),
        guest: providers.is_empty() && !has_device && !logs_in_by_mail,
        // A new address that waits for its code is shown rather than the old one.
        email_verified: pending.is_none() && row.try_get::<Option<i64>, _>("email_verified_at")?.is_some(),
        email: pending.or(email),
        has_password,
        has_device,
        providers,
    })
}

/// Returns the caller's account and the ways to log in to it.
#[utoipa::path(get, path = "/v1/account", operation_id = "account_get", tag = "account", security(("access_token" = [])),
    responses((status = 200, body = AccountDetails), (status = "4XX", body = Problem)))]
pub async fn account(State(state): State<AppState>, player: PlayerAuth) -> ApiResult<Json<AccountDetails>> {
    let mut connection = state.database.pool().acquire().await?;
    Ok(Json(details(&mut connection, &player.0.sub).await?))
}
