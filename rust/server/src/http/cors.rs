//! What browsers need to know: which pages may call the API, and what else they may not do with its replies.

use std::time::Duration;

use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
    REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
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
pub fn cors(origins: &[HeaderValue]) -> CorsLayer {
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

/// Nothing here is a page; and what a player is told is not for caches, unless the handler said so.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for good in ["https://play.example.org", "http://localhost:8060", "*", "https://[::1]:8443"] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "example.org",
            "https://example.org/",
            "https://example.org/game",
            "null",
            "ftp://example.org",
            "https://a@example.org",
            "https://*.example.org x",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
