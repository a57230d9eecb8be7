//! The engine-free client of the backend: everything the Godot nodes do, without Godot.
//!
//! Each part is a cheap handle to shared state. Methods are `async`, run on the caller's tokio runtime, and may be
//! dropped at any await point. News arrives through a callback given at construction, called on a worker thread.
//! Time, network and disk come through [`clock::Clock`], [`transport::Transport`] and [`storage::Storage`].
#![deny(missing_docs)]

pub mod api;
pub mod backend;
pub mod clock;
pub mod config;
pub mod dtls;
mod entropy;
pub mod error;
pub mod host;
pub mod journal;
pub mod jwks;
pub mod peer_auth;
mod planted;
pub mod player_store;
pub mod registration;
pub mod retry;
pub mod revocations;
pub mod rooms;
pub mod secret;
pub mod session;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod storage;
pub mod transport;
pub mod validation;
mod watched;
pub mod world_store;

pub use backend::{Backend, HttpBackend};
pub use config::Config;
pub use error::{ClientError, Fault};
pub use secret::ServerKey;

/// What crosses the wire, for those who build on this crate.
pub use backend_protocol as protocol;
