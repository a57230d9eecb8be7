//! Followed room lists: server-sent events with what changes on a list.
//!
//! One task of this process reads the recorded changes ([`super::changes`]) while anybody follows, keeps the rooms in memory
//! ([`room_index`]), and sends each follower what concerns its query. Followers of the same query share the events. A follower
//! that comes back with the id of the last event, to this replica or another, gets what has changed since.

mod access;
mod admission;
mod event_body;
mod event_stream;
mod event_text;
mod group;
mod indexed_room;
mod notifications;
mod reader;
mod room_index;
#[cfg(test)]
mod tests;

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use backend_protocol::rooms::{MAX_FOLLOWED_ROOMS, RoomChanges, RoomQuery};
use backend_protocol::{Code, Problem};
use tokio::time::Instant;

use self::access::Access;
use self::event_body::EventBody;
use self::event_text::Position;
use self::group::GroupKey;
use crate::auth::extractors::Caller;
use crate::http::{ApiError, ApiResult, query};
use crate::rooms::attempt_limits;
use crate::state::AppState;

pub use self::admission::Followers;
pub use self::notifications::notify_replicas;
pub use self::reader::run;

/// A stream ends after this long, so that followers spread over the replicas that there are by then.
const MAX_STREAM: Duration = Duration::from_secs(30 * 60);
/// How long a follower waits for the rooms to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Asks nginx, and proxies that follow its example, to pass events on at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follows a room list: server-sent events, `reset` with the whole list and `change` with what differs. `sort` and `descending` do
/// not count.
#[utoipa::path(get, path = "/v1/rooms/events", operation_id = "rooms_follow", tag = "rooms",
    params(RoomQuery, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event received: the stream begins with what has changed since. An id that is unknown or older than 50 minutes: with the whole list")),
    security(("access_token" = []), ("server_key" = [])),
    responses((status = 200, body = RoomChanges, content_type = "text/event-stream"), (status = 422, body = Problem), (status = 429, body = Problem), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub async fn events(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> ApiResult<Response> {
    let query: RoomQuery = query(&uri)?;
    for (field, is_absent) in [("cursor", query.cursor.is_none()), ("limit", query.limit.is_none())] {
        if !is_absent {
            return Err(ApiError::field(field, "must be absent: a list that is followed has no pages"));
        }
    }
    let key = GroupKey::new(&query)?;
    let last_event_id = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let resumed = last_event_id.and_then(|id| Position::parse(id, state.database.backend_id()));
    if let Caller::Player(player) = &caller {
        attempt_limits::follow_list(&state.rate_limits, &player.0.sub)?;
    }
    let followers = &state.rooms.followers;
    let place = followers.admit(&state.config)?;
    let stream = tokio::time::timeout(READ_TIMEOUT, followers.join(key, resumed)).await.map_err(|_| {
        ApiError::later(Code::Unavailable, 5, "the rooms could not be read in time; try again")
    })??;
    let mut ends_at = Instant::now() + MAX_STREAM;
    if let Caller::Player(player) = &caller {
        let now = state.database.now().await? / 1000;
        let left = i64::try_from(player.0.exp).unwrap_or(i64::MAX).saturating_sub(now);
        // Who follows shows a new token in time.
        ends_at = ends_at.min(Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    }
    let body = EventBody::new(stream, place, ends_at, Access::of(caller).lost(state.clone()));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

fn too_many_rooms() -> ApiError {
    ApiError::new(
        Code::TooManyRooms,
        format!(
            "more than {MAX_FOLLOWED_ROOMS} rooms meet the query; narrow it, or read the list page by page"
        ),
    )
}
