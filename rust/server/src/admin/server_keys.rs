//! Server keys, for the operator's tools.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use backend_protocol::admin::{CreateKey, CreatedKey, KeyList, RotateKey};
use backend_protocol::{Code, Problem, limits};

use crate::auth::extractors::AdminAuth;
use crate::auth::server_keys::{self, MadeKey, NewKey};
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::registration::key_revocation::revoke_server_key;
use crate::state::AppState;

fn unknown() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such key")
}

fn created(made: MadeKey) -> (StatusCode, Json<CreatedKey>) {
    (StatusCode::CREATED, Json(CreatedKey { key_id: made.key_id, key: made.key }))
}

/// Lists all server keys, without the keys themselves.
#[utoipa::path(get, path = "/v1/admin/server-keys", operation_id = "admin_server_keys_list", tag = "admin", security(("admin_key" = [])),
    responses((status = 200, body = KeyList), (status = "4XX", body = Problem)))]
pub async fn list(State(state): State<AppState>, _admin: AdminAuth) -> ApiResult<Json<KeyList>> {
    Ok(Json(KeyList { keys: server_keys::list(&state.database).await? }))
}

/// Creates a server key for this game and environment.
#[utoipa::path(post, path = "/v1/admin/server-keys", operation_id = "admin_server_keys_create", tag = "admin", request_body = CreateKey,
    security(("admin_key" = [])), responses((status = 201, body = CreatedKey), (status = "4XX", body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    _admin: AdminAuth,
    body: JsonBody<CreateKey>,
) -> ApiResult<(StatusCode, Json<CreatedKey>)> {
    let new = NewKey {
        game: state.config.game.clone(),
        environment: state.config.environment.clone(),
        label: body.value.label,
    };
    Ok(created(server_keys::create(&state.database, &new).await?))
}

/// Replaces a server key by a new one. The old key stays valid for a grace period.
#[utoipa::path(post, path = "/v1/admin/server-keys/{key_id}/rotate", operation_id = "admin_server_keys_rotate", tag = "admin", request_body = RotateKey,
    params(("key_id" = String, Path)), security(("admin_key" = [])),
    responses((status = 201, body = CreatedKey), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn rotate(
    State(state): State<AppState>,
    _admin: AdminAuth,
    Path(key_id): Path<String>,
    body: JsonBody<RotateKey>,
) -> ApiResult<(StatusCode, Json<CreatedKey>)> {
    limits::identifier("key_id", &key_id, 64)?;
    let keys = server_keys::list(&state.database).await?;
    let key = keys.iter().find(|key| key.key_id == key_id).ok_or_else(unknown)?;
    if key.state != "active" || key.game.is_none() {
        return Err(ApiError::field(
            "key_id",
            "must be of an active key; this one was revoked or rotated before",
        ));
    }
    Ok(created(server_keys::rotate(&state.database, &key_id, body.value.grace_seconds).await?))
}

/// Revokes a server key immediately.
#[utoipa::path(delete, path = "/v1/admin/server-keys/{key_id}", operation_id = "admin_server_keys_revoke", tag = "admin", params(("key_id" = String, Path)),
    security(("admin_key" = [])),
    responses((status = 204), (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn revoke(
    State(state): State<AppState>,
    _admin: AdminAuth,
    Path(key_id): Path<String>,
) -> ApiResult<StatusCode> {
    limits::identifier("key_id", &key_id, 64)?;
    if revoke_server_key(&state.database, &key_id).await? {
        state.rooms.rooms_changed();
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}
