//! Proving that an account's e-mail address is its owner's.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use backend_protocol::accounts::{AccountDetails, VerifyEmail};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::{details, taken_email};
use crate::accounts::mail::{MailJob, codes};
use crate::auth::audit::Event;
use crate::auth::extractors::PlayerAuth;
use crate::database::Transaction;
use crate::http::idempotency;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Sends another code to the account's address, if that is not verified.
#[utoipa::path(post, path = "/v1/account/email/code", operation_id = "account_send_email_code", tag = "account", security(("access_token" = [])),
    responses((status = 202), (status = "4XX", body = Problem)))]
pub async fn code(State(state): State<AppState>, player: PlayerAuth) -> ApiResult<StatusCode> {
    state.mail.enqueue(MailJob::Verification { player_id: player.0.sub.clone() });
    Ok(StatusCode::ACCEPTED)
}

/// Verifies the account's address with the code from the mail.
#[utoipa::path(post, path = "/v1/account/email/verify", operation_id = "account_verify_email", tag = "account", request_body = VerifyEmail,
    security(("access_token" = [])), responses((status = 200, body = AccountDetails), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn verify(
    State(state): State<AppState>,
    player: PlayerAuth,
    body: JsonBody<VerifyEmail>,
) -> ApiResult<Json<AccountDetails>> {
    let player_id = player.0.sub.clone();
    let mut tx = state.database.begin().await?;
    let row = sqlx::query("SELECT email, pending_email FROM players WHERE player_id = $1")
        .bind(&player_id)
        .fetch_one(&mut *tx.conn)
        .await?;
    let pending: Option<String> = row.try_get("pending_email")?;
    let address = match pending {
        Some(pending) => Some(pending),
        None => row.try_get::<Option<String>, _>("email")?,
    };
    let hash = codes::hash(codes::VERIFICATION, address.as_deref().unwrap_or_default(), &body.value.code);
    let taken = codes::consume(&mut tx, &hash).await?;
    if taken.as_deref() != Some(player_id.as_str()) {
        Event::new("email_verified").player(&player_id).refused("wrong code");
        let words = "the code is wrong, used or past its time; ask for another";
        return Err(ApiError::new(Code::MailCodeInvalid, words));
    }
    verified(&mut tx, &player_id).await?;
    let account = details(&mut tx.conn, &player_id).await?;
    tx.commit().await?;
    Event::new("email_verified").player(&player_id).ok();
    Ok(Json(account))
}

/// The address that waited for its code counts. Refused when another account was faster.
pub async fn verified(tx: &mut Transaction, player_id: &str) -> ApiResult<()> {
    sqlx::query(
        "UPDATE players SET email = COALESCE(pending_email, email), pending_email = NULL, email_verified_at = $1 \
         WHERE player_id = $2",
    )
    .bind(tx.now)
    .bind(player_id)
    .execute(&mut *tx.conn)
    .await
    .map_err(taken_email)?;
    idempotency::invalidate_keys(tx, player_id).await
}
