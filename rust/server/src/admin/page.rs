//! The operator's page at `/admin`: one document and one script. It has no data of its own: the script asks for it under the
//! admin key, which it keeps in memory.

use std::sync::OnceLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PAGE: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");

/// Path of the page.
pub const PATH: &str = "/admin";
/// Path of its script.
pub const SCRIPT_PATH: &str = "/admin/page.js";

/// The document.
pub async fn page() -> Response {
    reply("text/html; charset=utf-8", PAGE)
}

/// Its script.
pub async fn script() -> Response {
    reply("text/javascript; charset=utf-8", SCRIPT)
}

fn reply(media_type: &'static str, body: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, policy()),
    ];
    (headers, body).into_response()
}

/// The page's own script and style, requests to the backend, and nothing else.
fn policy() -> HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    let made = || {
        let style = PAGE.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
        let (style, _) = style.unwrap_or_default();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, style.as_bytes());
        let text = format!(
            "default-src 'none'; script-src 'self'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
            STANDARD.encode(digest)
        );
        // Hash and text are ASCII; without them, a page that shows nothing is the safe one.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
    };
    POLICY.get_or_init(made).clone()
}
