//! The list of public rooms: filters, orders and pages.

pub mod conditions;
mod cursor;
#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use backend_protocol::rooms::{RoomPage, RoomQuery};
use backend_protocol::{Problem, limits};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};

use self::conditions::statement;
use self::cursor::Cursor;
use super::growing_statement::{Bind, Conditions};
use super::room;
use crate::auth::extractors::PlayerOrServer;
use crate::http::etag::{EtaggedJson, IfNoneMatch};
use crate::http::{ApiResult, query};
use crate::state::AppState;

/// Lists live rooms.
#[utoipa::path(get, path = "/v1/rooms", operation_id = "rooms_list", tag = "rooms", params(RoomQuery), security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = RoomPage), (status = 304), (status = "4XX", body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    _auth: PlayerOrServer,
    if_none_match: IfNoneMatch,
    uri: Uri,
) -> ApiResult<Response> {
    let query: RoomQuery = query(&uri)?;
    let key = serde_json::to_string(&query).map_err(anyhow::Error::from)?;
    // Rejected before it shares a statement with others.
    let config = &state.config;
    let statement = statement(&query, &state.database, &config.game, &config.environment)?;
    let app = state.clone();
    let read = move |_key, waiters: Vec<()>| {
        let (state, query, statement) = (app.clone(), query.clone(), statement.clone());
        async move {
            let page = page(&state, &query, statement).await?;
            let page = match &query.fields {
                Some(_) => EtaggedJson::json(&selected(&page, &query)?)?,
                None => EtaggedJson::json(&page)?,
            };
            Ok(vec![page; waiters.len()])
        }
    };
    let page = state.rooms.page_loader.load(key, (), read).await?;
    Ok(page.unless_matched(&if_none_match))
}

async fn page(state: &AppState, query: &RoomQuery, conditions: Conditions) -> ApiResult<RoomPage> {
    let limit = query.limit.unwrap_or(limits::DEFAULT_PAGE);
    let mut statement = sqlx::query(AssertSqlSafe(conditions.sql));
    for value in conditions.values {
        statement = match value {
            Bind::Text(text) => statement.bind(text),
            Bind::Number(number) => statement.bind(number),
            Bind::Float(number) => statement.bind(number),
        };
    }
    let rows = statement.fetch_all(state.database.pool()).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rooms = Vec::with_capacity(rows.len().min(wanted));
    for row in rows.iter().take(wanted) {
        rooms.push(room(row)?);
    }
    let next_cursor = match (rows.len() > wanted, rooms.last(), rows.get(wanted.saturating_sub(1))) {
        (true, Some(last), Some(row)) => Some(Cursor::after(last, row.try_get("created_at")?, query)?),
        _ => None,
    };
    Ok(RoomPage { rooms, next_cursor })
}

/// The page with the requested fields of its rooms, and their ids.
fn selected(page: &RoomPage, query: &RoomQuery) -> ApiResult<Value> {
    let mut page = serde_json::to_value(page).map_err(anyhow::Error::from)?;
    for room in page["rooms"].as_array_mut().into_iter().flatten() {
        if let Some(room) = room.as_object_mut() {
            room.retain(|name, _| name == "room_id" || query.field_list().any(|field| field == name));
        }
    }
    Ok(page)
}
