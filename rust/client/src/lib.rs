//! The engine-free client of the backend: everything the Godot nodes do, without Godot.
//!
//! Each part is a cheap handle to shared state. Methods are `async`, run on the caller's tokio runtime, and may be
//! dropped at any await point. News arrives through a callback given at construction, called on a worker thread.
//! Time, network and disk come through [`platform::clock::Clock`],
//! [`api::transport::Transport`] and [`platform::storage::Storage`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod api;
pub mod config;
pub mod doctor;
pub mod document;
pub mod error;
mod failpoints;
pub mod host;
pub mod journal;
pub mod matchmaking;
pub mod peer_auth;
pub mod platform;
pub mod player_store;
pub mod registration;
pub mod relay;
pub mod rooms;
pub mod server_query;
pub mod session;
pub mod shutdown;
mod sync;
pub mod telemetry;
#[cfg(feature = "test-util")]
pub mod test_util;
pub mod validation;
pub mod world_store;

pub use api::backend::Backend;
pub use api::http::HttpBackend;
pub use config::Config;
pub use error::{ClientError, Fault};
pub use platform::secret::ServerKey;

/// What crosses the wire, for those who build on this crate.
pub use backend_protocol as protocol;
