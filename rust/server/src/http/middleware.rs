//! The middleware around every route.

use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use backend_protocol::{REQUEST_ID, limits};
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use uuid::Builder;

use super::context::{CURRENT, RequestContext};
use super::{body_min_rate, client_ip, cors, security_headers};
use crate::state::AppState;

const X_REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID);

/// Puts the middleware around the routes of `router`. A request passes it from the first layer to the last, its reply from the
/// last to the first.
pub fn apply(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    let origins = &state.config.allowed_origins;
    router.layer(
        ServiceBuilder::new()
            // First, so that a web page may read rejections as well.
            .option_layer((!origins.is_empty()).then(|| cors::layer(origins)))
            .layer(map_request(remove_malformed_request_id))
            .layer(SetRequestIdLayer::new(X_REQUEST_ID, MakeUuid))
            .layer(PropagateRequestIdLayer::new(X_REQUEST_ID))
            .layer(security_headers::layer())
            .layer(from_fn_with_state(state.clone(), set_context))
            .layer(from_fn(record_metrics))
            .layer(from_fn_with_state(state.clone(), limit_requests)),
    )
}

/// An id of the caller is kept only if it can stand in logs and headers as it is.
async fn remove_malformed_request_id(mut request: Request) -> Request {
    let is_well_formed =
        |value: &HeaderValue| value.to_str().is_ok_and(|id| limits::identifier("id", id, 64).is_ok());
    if request.headers().get(X_REQUEST_ID).is_some_and(|value| !is_well_formed(value)) {
        request.headers_mut().remove(X_REQUEST_ID);
    }
    request
}

/// UUIDs of version 7, from this process's own generator rather than the system's.
#[derive(Clone, Copy)]
struct MakeUuid;

impl MakeRequestId for MakeUuid {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or_default();
        let id = Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid();
        HeaderValue::try_from(id.simple().to_string()).ok().map(RequestId::new)
    }
}

/// Makes the request's id and the client's address available to logs, the audit log and error replies.
async fn set_context(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.header_value().clone());
    let context = RequestContext {
        request_id: id.unwrap_or(HeaderValue::from_static("none")),
        address: client_ip::of(&request, &state.config.trusted_proxies),
    };
    CURRENT.scope(context, next.run(request)).await
}

/// Counts and times requests by route. The label is the route, not the path: ids in it would make a series for each.
async fn record_metrics(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("unmatched").to_owned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let (status, elapsed) = (response.status().as_u16(), begun.elapsed());
    tracing::debug!(%method, route, status, elapsed_us = elapsed.as_micros(), "answered");
    metrics::histogram!("backend_request_seconds", "route" => route.clone()).record(elapsed.as_secs_f64());
    metrics::counter!("backend_requests_total", "route" => route, "status" => status.to_string())
        .increment(1);
    response
}

/// Rejects requests beyond the rate limits, and bodies that come too slowly.
async fn limit_requests(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match state.rate_limits.count_request(&request) {
        Ok(()) => next.run(body_min_rate::limited(request, state.config.slow_client_timeout())).await,
        Err(error) => error.into_response(),
    }
}
