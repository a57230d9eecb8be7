//! Which web pages may call the API.

use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use backend_protocol::{IDEMPOTENCY_KEY, REQUEST_ID};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// CORS for pages of `origins`. No cookies are used, so credentials are never allowed.
pub fn layer(origins: &[HeaderValue]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            IF_NONE_MATCH,
            RANGE,
            HeaderName::from_static(IDEMPOTENCY_KEY),
            HeaderName::from_static(REQUEST_ID),
        ])
        .expose_headers([ETAG, RETRY_AFTER, HeaderName::from_static(REQUEST_ID)])
        .max_age(Duration::from_secs(3600))
}
