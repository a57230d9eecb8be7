//! The id of a request: taken from the caller when it is well formed, made otherwise, echoed and logged.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use backend_protocol::REQUEST_ID;
use tracing::Instrument;
use uuid::Uuid;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request being handled.
pub struct RequestId;

impl RequestId {
    pub fn current() -> String {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }
}

/// Outermost layer: gives the request its id, logs and counts its outcome. Bodies and credentials are never logged.
pub async fn identify(request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given
        .filter(|id| backend_protocol::limits::identifier("id", id, 64).is_ok())
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let method = request.method().clone();
    // The route, not the path: ids in it would make a label per server.
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, %method, route);
    let begun = Instant::now();
    let mut response = CURRENT.scope(id.clone(), next.run(request)).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let elapsed = begun.elapsed();
    span.in_scope(|| tracing::debug!(status, elapsed_us = elapsed.as_micros(), "answered"));
    metrics::counter!("backend_requests_total", "route" => route.clone(), "status" => status.to_string())
        .increment(1);
    metrics::histogram!("backend_request_seconds", "route" => route).record(elapsed.as_secs_f64());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
