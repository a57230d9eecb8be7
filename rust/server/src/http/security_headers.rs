//! Headers that forbid browsers and caches to do more with a reply than a game does.

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use tower_http::set_header::SetResponseHeaderLayer;

type SetHeader = SetResponseHeaderLayer<HeaderValue>;

/// No reply is a page, and replies are not for caches, unless the handler set `Content-Security-Policy` or `Cache-Control`.
pub fn layer() -> (SetHeader, SetHeader, SetHeader, SetHeader, SetHeader) {
    let set = |name, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    (
        set(X_CONTENT_TYPE_OPTIONS, "nosniff"),
        set(X_FRAME_OPTIONS, "DENY"),
        set(REFERRER_POLICY, "no-referrer"),
        SetResponseHeaderLayer::if_not_present(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
        SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, HeaderValue::from_static("no-store")),
    )
}
