//! JSON bodies and query strings that name the field that is wrong with them. axum's own `Json` and `Query` reject with a text
//! that has no field, and read a body at whatever rate it comes.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::Uri;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use backend_protocol::{Check, Code, MAX_BODY_BYTES};
use http_body::Body as _;
use serde::de::DeserializeOwned;

use super::body_min_rate::is_too_slow;
use super::error::{ApiError, ApiResult};
use crate::digest::sha256;

/// A JSON body that parsed and keeps its own limits. Reads at most `LIMIT` bytes.
pub struct JsonBody<T, const LIMIT: usize = MAX_BODY_BYTES> {
    pub value: T,
    bytes: Bytes,
}

impl<T, const LIMIT: usize> JsonBody<T, LIMIT> {
    /// SHA-256 of the route and the body, credentials included, for telling a repetition from a different request.
    pub fn hash(&self, route: &str) -> String {
        sha256(&[route.as_bytes(), b"\0", &self.bytes].concat())
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Check, const LIMIT: usize> FromRequest<S> for JsonBody<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|value| value.split(';').next()).map(str::trim);
        if !essence.is_some_and(|value| value.eq_ignore_ascii_case("application/json")) {
            return Err(ApiError::new(Code::UnsupportedMediaType, "send the body as application/json"));
        }
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > LIMIT as u64) {
            return Err(too_large(LIMIT));
        }
        let bytes = read(request.into_body(), LIMIT).await?;
        let value: T = parse(&bytes)?;
        value.check()?;
        Ok(Self { value, bytes })
    }
}

/// None: the request has no body. Its type may be named: clients often send the same headers with each request.
impl<S: Send + Sync, T: DeserializeOwned + Check, const LIMIT: usize> OptionalFromRequest<S>
    for JsonBody<T, LIMIT>
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        if request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("the body may have at most {limit} bytes"))
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match to_bytes(body, limit).await {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            let is_too_large =
                std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("limit"));
            if is_too_large {
                Err(too_large(limit))
            } else if is_too_slow(&error) {
                Err(ApiError::new(Code::RequestTimeout, "the body came too slowly"))
            } else {
                Err(ApiError::new(Code::MalformedJson, "the body ended before it was complete"))
            }
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Keeping track of the path takes as long again: only where there is something to explain.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| explain(&error))?;
    deserializer
        .end()
        .map_err(|_| ApiError::new(Code::MalformedJson, "more follows after the JSON value"))?;
    Ok(value)
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let inner = error.inner();
    if !inner.is_data() {
        let (line, column) = (inner.line(), inner.column());
        return ApiError::new(Code::MalformedJson, format!("not JSON at line {line}, column {column}"));
    }
    let message = inner.to_string();
    // serde's message without its position. Values stay out: they may be secrets.
    let message = message.split(" at line ").next().unwrap_or_default();
    let named = ["unknown field `", "missing field `"]
        .iter()
        .find_map(|prefix| message.strip_prefix(prefix))
        .and_then(|rest| rest.split('`').next());
    let path = error.path().to_string();
    let (field, rule) = match named {
        Some(name) => {
            let known = path == "." || path.ends_with(name);
            let field = match (path.as_str(), known) {
                (".", _) => name.to_owned(),
                (path, true) => path.to_owned(),
                (path, false) => format!("{path}.{name}"),
            };
            let rule =
                if message.starts_with("unknown") { "is not a field of this request" } else { "is required" };
            (field, rule.to_owned())
        }
        None => {
            let expected = message.split("expected ").nth(1).unwrap_or("another type");
            (if path == "." { "body".to_owned() } else { path }, format!("must be {expected}"))
        }
    };
    ApiError::field(&field, &rule)
}

/// A query string that parsed and keeps its own limits.
pub fn query<T: DeserializeOwned + Check>(uri: &Uri) -> ApiResult<T> {
    let query = axum::extract::Query::<T>::try_from_uri(uri).map_err(|rejection| {
        // "…: sort: unknown variant …", or "…: unknown field `colour`, …".
        let text = rejection.body_text();
        let text = text.split_once("query string: ").map_or(text.as_str(), |(_, rest)| rest);
        let unknown = text.split_once("unknown field `").and_then(|(_, rest)| rest.split('`').next());
        let field = unknown.or_else(|| text.split(':').next()).unwrap_or("query");
        ApiError::field(field, "is not a parameter of this list, or not of its type")
    })?;
    query.0.check()?;
    Ok(query.0)
}

/// Extractor for [`query`].
pub struct QueryString<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Check> FromRequestParts<S> for QueryString<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        query(&parts.uri).map(Self)
    }
}
