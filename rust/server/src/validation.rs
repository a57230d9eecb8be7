//! The public keys, and validation of tokens by the backend.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::Response;
use backend_protocol::validation::{Claims, Jwks, TokenKind, Validate, Validated};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use crate::auth::audit::Event;
use crate::auth::authorization::{Lookup, verify_player};
use crate::auth::extractors::UnverifiedKey;
use crate::auth::signing_keys;
use crate::http::etag::IfNoneMatch;
use crate::http::idempotency::IdempotencyKey;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::rooms::seats;
use crate::state::AppState;

/// The public keys tokens are verified with (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "validation_keys", tag = "validation", responses((status = 200, body = Jwks), (status = 304)))]
pub async fn jwks(State(state): State<AppState>, if_none_match: IfNoneMatch) -> ApiResult<Response> {
    let mut response = state.tokens.jwks().unless_matched(&if_none_match);
    response.headers_mut().insert(CACHE_CONTROL, JWKS_CACHED.clone());
    Ok(response)
}

static JWKS_CACHED: LazyLock<HeaderValue> = LazyLock::new(|| {
    let value = format!("public, max-age={}", signing_keys::MAX_AGE_SECONDS);
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("public"))
});

/// Validates a token and returns its player. A join ticket is consumed.
#[utoipa::path(post, path = "/v1/validate", operation_id = "validation_validate", tag = "validation", request_body = Validate, security(("server_key" = [])),
    responses((status = 200, body = Validated), (status = 401, body = Problem), (status = 409, body = Problem), (status = "4XX", body = Problem)))]
pub async fn validate(
    State(state): State<AppState>,
    key: UnverifiedKey,
    idempotency_key: ApiResult<IdempotencyKey>,
    body: ApiResult<JsonBody<Validate>>,
) -> ApiResult<Json<Validated>> {
    let (idempotency_key, body) = match (idempotency_key, body) {
        (Ok(idempotency_key), Ok(body)) => (idempotency_key, body),
        (Err(error), _) | (_, Err(error)) => {
            // Without a valid key, the reply names no other error.
            key.verify(&state, &key.look_up(&state).await?).await?;
            return Err(error);
        }
    };
    let Validate { token, server_id } = body.value;
    let known = state.tokens.cached_claims(&token);
    let lookup = known.as_ref().map_or_else(Lookup::default, |claims| Lookup::of_player(claims));
    let lookup = Lookup { key_hash: Some(&key.key_hash), ..lookup };
    let snapshot = state.authorization.load(&state.database, lookup).await?;
    let server = key.verify(&state, &snapshot).await?;
    let (kind, claims, now) = match known {
        Some(claims) => {
            let now = verify_player(&claims, &snapshot)?;
            (TokenKind::Access, claims, now)
        }
        // Verified before the player it names is looked up.
        None => {
            let (kind, claims) = state.tokens.verify(&token, server_id.as_deref(), snapshot.now)?;
            let now = state.authorization.authorize_player(&state.database, &claims).await?.now;
            (kind, claims, now)
        }
    };
    if let (TokenKind::Join, Some(server_id)) = (kind, &server_id) {
        consume(&state, &server.key_hash, server_id, &claims, &idempotency_key).await?;
    }
    let expires_in = claims.exp.saturating_sub(u64::try_from(now / 1000).unwrap_or_default());
    Ok(Json(Validated {
        player_id: claims.sub.clone(),
        display_name: claims.name.clone(),
        kind,
        expires_in: u32::try_from(expires_in).unwrap_or(u32::MAX),
        ticket_id: (kind == TokenKind::Join).then(|| claims.jti.clone()),
    }))
}

/// Uses a ticket up, once. The same request repeated under its idempotency key is still the same use.
async fn consume(
    state: &AppState,
    key_hash: &str,
    server_id: &str,
    claims: &Claims,
    key: &IdempotencyKey,
) -> ApiResult<()> {
    let mut tx = state.database.begin().await?;
    let owner = sqlx::query("SELECT key_hash FROM servers WHERE server_id = $1")
        .bind(server_id)
        .fetch_optional(&mut *tx.conn)
        .await?;
    let owner = owner.map(|row| row.try_get::<String, _>("key_hash")).transpose()?;
    if owner.as_deref() != Some(key_hash) {
        return Err(ApiError::new(Code::TokenInvalid, "the ticket is not for a server of this key"));
    }
    let key = key.0.clone().unwrap_or_default();
    let expires_at = i64::try_from(claims.exp).unwrap_or(i64::MAX / 1000) * 1000;
    let used = sqlx::query(
        "INSERT INTO used_tickets (jti, idempotency_key, expires_at) VALUES ($1, $2, $3) ON CONFLICT (jti) DO NOTHING",
    )
    .bind(&claims.jti)
    .bind(&key)
    .bind(expires_at)
    .execute(&mut *tx.conn)
    .await?;
    if used.rows_affected() == 0 {
        let row = sqlx::query("SELECT idempotency_key FROM used_tickets WHERE jti = $1")
            .bind(&claims.jti)
            .fetch_one(&mut *tx.conn)
            .await?;
        let by: String = row.try_get("idempotency_key")?;
        if key.is_empty() || by != key {
            Event::new("ticket_used").player(&claims.sub).server(server_id).refused("used before");
            return Err(ApiError::new(Code::TicketUsed, "the ticket was used before"));
        }
    }
    seats::keep_for_heartbeat(&mut tx, &claims.jti).await?;
    tx.commit().await?;
    Ok(())
}
