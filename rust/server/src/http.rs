//! HTTP between the socket and the handlers: connections, middleware, limits, bodies, errors.

pub mod body_min_rate;
pub mod client_ip;
pub mod connection_limit;
pub mod context;
pub mod cors;
pub mod error;
pub mod etag;
pub mod idempotency;
pub mod json;
pub mod listener;
pub mod middleware;
pub mod rate_limit;
mod security_headers;
mod timeouts;

pub use error::{ApiError, ApiResult};
pub use json::{JsonBody, QueryString, query};
