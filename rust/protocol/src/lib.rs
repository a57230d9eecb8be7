//! What goes over the wire between games, game servers and the backend: request and reply types, limits, error
//! codes. No I/O; both ends compile against the same definitions.
//!
//! JSON in `snake_case`, times as RFC 3339 strings, errors as RFC 9457 problem documents ([`problem::Problem`]).
//! Requests refuse unknown members, so that a misspelt field is an error rather than silence; replies accept
//! them, so that an older game can talk to a newer backend.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod accounts;
pub mod admin;
pub mod limits;
pub mod matchmaking;
pub mod player_store;
pub mod problem;
pub mod registration;
pub mod relay;
pub mod rooms;
pub mod routes;
pub mod session;
pub mod unicode;
pub mod validation;
pub mod world_store;

pub use limits::{Check, FieldError};
pub use problem::{Code, Problem};

/// Header that carries the id of a request, chosen by the caller or by the backend, and echoed in every reply.
pub const REQUEST_ID: &str = "x-request-id";

/// Header that makes a repeated `POST` harmless: a UUID made once per intent and reused by its retries
/// (draft-ietf-httpapi-idempotency-key-header).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Largest request body the backend reads, in bytes, unless a route states another limit.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Largest body of `POST /v1/players/save`, in bytes: a full batch of large documents.
pub const MAX_SAVE_BODY_BYTES: usize = 8 * 1024 * 1024;
