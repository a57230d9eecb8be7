//! Which web pages may call the API.

use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use backend_protocol::{IDEMPOTENCY_KEY, REQUEST_ID};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// An origin (RFC 6454) as the operator writes it, or `*`.
pub fn origin(text: &str) -> Result<HeaderValue, String> {
    let rule = || "must be an origin such as https://play.example.org, without a path, or *".to_owned();
    if text != "*" {
        let uri: Uri = text.parse().map_err(|_| rule())?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let bare = uri.authority().is_some_and(|host| !host.as_str().contains('@'));
        // `http` adds the path; a browser's Origin has none.
        if !web || !bare || uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
            return Err(rule());
        }
    }
    HeaderValue::from_str(&text.to_ascii_lowercase()).map_err(|_| rule())
}

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

#[cfg(test)]
mod tests;
