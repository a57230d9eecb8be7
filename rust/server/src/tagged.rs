//! Replies under an ETag: made once, and not sent to whoever has them already.

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::Outcome;
use crate::tokens::sha256;

/// JSON with its ETag. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Tagged {
    bytes: Bytes,
    tag: HeaderValue,
}

impl Tagged {
    /// `body` as JSON.
    pub fn json(body: &impl Serialize) -> Outcome<Self> {
        Self::of(serde_json::to_vec(body).map_err(anyhow::Error::from)?)
    }

    /// Bytes that are JSON already.
    pub fn of(bytes: Vec<u8>) -> Outcome<Self> {
        let tag = format!("\"{}\"", &sha256(&bytes)[..32]);
        let tag = HeaderValue::try_from(tag).map_err(anyhow::Error::from)?;
        Ok(Self { bytes: bytes.into(), tag })
    }

    /// The reply, or 304 when the caller has it already (RFC 9110 §13.1.2).
    pub fn unless_known(&self, headers: &HeaderMap) -> Response {
        let known = headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_this = |one: &[u8]| {
            let one = one.trim_ascii();
            one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == self.tag.as_bytes()
        };
        let mut response = if known.split(|byte| *byte == b',').any(is_this) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = self.bytes.clone().into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        };
        response.headers_mut().insert(ETAG, self.tag.clone());
        response
    }
}
