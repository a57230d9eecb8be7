//! Replies with an ETag: serialized once, and not sent again to clients that have them. `tower-http` has no layer for tags of
//! replies; one around the router would also have to serialize and hash each reply again, which this does once for many requests.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::digest::sha256;
use crate::http::error::ApiResult;

/// The `If-None-Match` header of the caller.
pub struct IfNoneMatch(Option<HeaderValue>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(IF_NONE_MATCH).cloned()))
    }
}

/// JSON with its ETag. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct EtaggedJson {
    bytes: Bytes,
    tag: HeaderValue,
}

impl EtaggedJson {
    /// `body` as JSON.
    pub fn json(body: &impl Serialize) -> ApiResult<Self> {
        Self::of(serde_json::to_vec(body).map_err(anyhow::Error::from)?)
    }

    /// Bytes that are JSON already.
    pub fn of(bytes: Vec<u8>) -> ApiResult<Self> {
        let tag = format!("\"{}\"", &sha256(&bytes)[..32]);
        let tag = HeaderValue::try_from(tag).map_err(anyhow::Error::from)?;
        Ok(Self { bytes: bytes.into(), tag })
    }

    /// Returns the reply, or 304 if the caller has it already (RFC 9110 §13.1.2).
    pub fn unless_matched(&self, if_none_match: &IfNoneMatch) -> Response {
        let if_none_match = if_none_match.0.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        let is_this = |one: &[u8]| {
            let one = one.trim_ascii();
            one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == self.tag.as_bytes()
        };
        let matches = if_none_match.split(|byte| *byte == b',').any(is_this);
        let mut response =
            Response::new(if matches { Body::empty() } else { Body::from(self.bytes.clone()) });
        // Room for the headers that the middleware adds.
        response.headers_mut().reserve(12);
        if matches {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response.headers_mut().insert(ETAG, self.tag.clone());
        response
    }
}
