//! Objects on their way: addresses for them, and the way through the backend for stores that sign none.

use std::ops::Range;

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use backend_protocol::world_store::{
    Download, Downloads, MAX_OBJECT_BYTES, RequestDownloads, RequestUploads, Upload, Uploads, object_hash,
    world_id,
};
use backend_protocol::{Code, Problem};
use sqlx::Row;

use super::commit::{record_object, unavailable};
use super::objects::{is_object, new_upload};
use crate::auth::extractors::ServerAuth;
use crate::http::body_min_rate::is_too_slow;
use crate::http::{ApiError, ApiResult, JsonBody};
use crate::state::AppState;

/// Returns which objects are missing, and where to upload them.
#[utoipa::path(post, path = "/v1/worlds/{world_id}/uploads", operation_id = "worlds_create_uploads", tag = "world store", request_body = RequestUploads,
    params(("world_id" = String, Path)), security(("server_key" = [])),
    responses((status = 200, body = Uploads), (status = "4XX", body = Problem)))]
pub async fn uploads(
    State(state): State<AppState>,
    _server: ServerAuth,
    Path(id): Path<String>,
    body: JsonBody<RequestUploads>,
) -> ApiResult<Json<Uploads>> {
    world_id("world_id", &id)?;
    let hashes = body.value.hashes;
    let mut known = vec![false; hashes.len()];
    let mut tx = state.database.begin().await?;
    // One order for all, so that two requests cannot wait for each other's rows.
    let mut order: Vec<usize> = (0..hashes.len()).collect();
    order.sort_by_key(|&index| &hashes[index]);
    for index in order {
        // A server that is told of an object has hours to commit it before it could be removed.
        let touched = sqlx::query("UPDATE world_objects SET wanted_at = $1 WHERE hash = $2 AND verified = 1");
        let touched = touched.bind(tx.now).bind(&hashes[index]).execute(&mut *tx.conn).await?;
        known[index] = touched.rows_affected() > 0;
    }
    tx.commit().await?;
    let mut objects = Vec::with_capacity(hashes.len());
    for (hash, present) in hashes.into_iter().zip(known) {
        let upload = new_upload();
        let address = if present {
            None
        } else {
            state.objects.address(Method::PUT, &state.objects.location(&hash, &upload)).await
        };
        let upload = address.is_some().then_some(upload);
        objects.push(Upload { hash, present, address, upload });
    }
    Ok(Json(Uploads { objects }))
}

/// Returns where to download objects.
#[utoipa::path(post, path = "/v1/worlds/{world_id}/downloads", operation_id = "worlds_create_downloads", tag = "world store", request_body = RequestDownloads,
    params(("world_id" = String, Path)), security(("server_key" = [])),
    responses((status = 200, body = Downloads), (status = "4XX", body = Problem)))]
pub async fn downloads(
    State(state): State<AppState>,
    _server: ServerAuth,
    Path(id): Path<String>,
    body: JsonBody<RequestDownloads>,
) -> ApiResult<Json<Downloads>> {
    world_id("world_id", &id)?;
    let mut objects = Vec::with_capacity(body.value.hashes.len());
    for hash in body.value.hashes {
        let Some((location, stored_bytes)) = find(&state, &hash).await? else { continue };
        let address = state.objects.address(Method::GET, &location).await;
        objects.push(Download { hash, stored_bytes, address });
    }
    Ok(Json(Downloads { objects }))
}

/// Stores a compressed object after checking its hash.
#[utoipa::path(put, path = "/v1/worlds/{world_id}/objects/{hash}", operation_id = "worlds_put_object", tag = "world store",
    request_body(content = Vec<u8>, content_type = "application/zstd"),
    params(("world_id" = String, Path), ("hash" = String, Path)), security(("server_key" = [])),
    responses((status = 204), (status = 422, body = Problem), (status = "4XX", body = Problem)))]
pub async fn put(
    State(state): State<AppState>,
    _server: ServerAuth,
    Path((id, hash)): Path<(String, String)>,
    request: Request,
) -> ApiResult<StatusCode> {
    world_id("world_id", &id)?;
    object_hash("hash", &hash)?;
    let _permit = state.objects.checks.acquire().await.map_err(anyhow::Error::from)?;
    let stored = read(request.into_body()).await?;
    let (checked, expected) = (stored.clone(), hash.clone());
    let good = tokio::task::spawn_blocking(move || is_object(&checked, &expected));
    if !good.await.map_err(anyhow::Error::from)? {
        return Err(ApiError::new(
            Code::ObjectInvalid,
            "the body is not the zstd-compressed form of what has this hash, or too large",
        ));
    }
    // Read, not believed: right bytes replace what the store has lost or damaged since.
    if let Some((location, _)) = find(&state, &hash).await? {
        if state.objects.holds(&location, &hash).await.map_err(|error| unavailable(&error))? {
            set_verified(&state, &hash, &location, 1).await?;
            return Ok(StatusCode::NO_CONTENT);
        }
        tracing::warn!(hash, "the content of an object in the store does not match its hash; it is replaced");
        set_verified(&state, &hash, &location, 0).await?;
    }
    let location = state.objects.location(&hash, &new_upload());
    let stored_bytes = stored.len() as u64;
    state.objects.put(&location, stored).await.map_err(|error| unavailable(&error))?;
    record_object(&state, &hash, &location, stored_bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Records whether the object at `location` has the hash `hash`.
async fn set_verified(state: &AppState, hash: &str, location: &str, verified: i64) -> ApiResult<()> {
    let mut tx = state.database.begin().await?;
    sqlx::query("UPDATE world_objects SET verified = $1 WHERE hash = $2 AND location = $3")
        .bind(verified)
        .bind(hash)
        .bind(location)
        .execute(&mut *tx.conn)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Returns a compressed object, or a part of it.
#[utoipa::path(get, path = "/v1/worlds/{world_id}/objects/{hash}", operation_id = "worlds_get_object", tag = "world store",
    params(("world_id" = String, Path), ("hash" = String, Path)), security(("server_key" = [])),
    responses((status = 200, content_type = "application/zstd"), (status = 206, content_type = "application/zstd"),
        (status = 404, body = Problem), (status = "4XX", body = Problem)))]
pub async fn get(
    State(state): State<AppState>,
    _server: ServerAuth,
    Path((id, hash)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    world_id("world_id", &id)?;
    object_hash("hash", &hash)?;
    let found = find(&state, &hash).await?;
    let (location, size) = found.ok_or_else(|| ApiError::new(Code::NotFound, "there is no such object"))?;
    let range = requested_range(&headers, size)?;
    let part = state.objects.get(&location, range.clone()).await.map_err(|error| unavailable(&error))?;
    let mut response = Body::from_stream(part.into_stream()).into_response();
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    let reply = response.headers_mut();
    reply.insert(CONTENT_TYPE, HeaderValue::from_static("application/zstd"));
    reply.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    reply.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = range {
        let described = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        reply.insert(CONTENT_RANGE, HeaderValue::try_from(described).map_err(anyhow::Error::from)?);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

async fn find(state: &AppState, hash: &str) -> ApiResult<Option<(String, u64)>> {
    let row = sqlx::query("SELECT location, stored_bytes FROM world_objects WHERE hash = $1")
        .bind(hash)
        .fetch_optional(state.database.pool())
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((row.try_get("location")?, row.try_get::<i64, _>("stored_bytes")?.unsigned_abs())))
}

async fn read(body: Body) -> ApiResult<Bytes> {
    to_bytes(body, MAX_OBJECT_BYTES).await.map_err(|error| {
        let limit =
            std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit"));
        if limit {
            ApiError::new(Code::BodyTooLarge, format!("an object has at most {MAX_OBJECT_BYTES} bytes"))
        } else if is_too_slow(&error) {
            ApiError::new(Code::RequestTimeout, "the body came too slowly")
        } else {
            ApiError::new(Code::ObjectInvalid, "the body ended before it was complete")
        }
    })
}

/// One range, from a byte on or between two (RFC 9110 §14.1.2). Other forms are ignored, as the RFC allows.
fn requested_range(headers: &HeaderMap, size: u64) -> ApiResult<Option<Range<u64>>> {
    let Some(text) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let Ok(first) = first.trim().parse::<u64>() else { return Ok(None) };
    let end = match last.trim() {
        "" => size,
        last => match last.parse::<u64>() {
            Ok(last) if last >= first => last.saturating_add(1).min(size),
            _ => return Ok(None),
        },
    };
    if first >= end {
        return Err(ApiError::field("range", &format!("must begin before {size}, where the object ends")));
    }
    Ok(Some(first..end))
}

#[cfg(test)]
mod tests;
