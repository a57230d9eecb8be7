//! The engine-free client of the backend: everything the Godot nodes do, without Godot.
//!
//! Each part is a cheap handle to shared state. Methods are `async`, run on the caller's tokio runtime, and may be
//! dropped at any await point. News arrives through a callback given at construction, called on a worker thread.
//! Time, network and disk come through [`clock::Clock`], [`transport::Transport`] and [`storage::Storage`].
#![deny(missing_docs)]

pub mod backend;
pub mod clock;
pub mod config;
pub mod dtls;
mod entropy;
pub mod error;
pub mod host;
pub mod journal;
pub mod jwks;
mod planted;
pub mod player_store;
pub mod registration;
pub mod retry;
pub mod rooms;
pub mod secret;
pub mod session;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod storage;
pub mod token;
pub mod transport;
pub mod validation;
pub mod world_store;

pub use backend::{Backend, HttpBackend};
pub use config::Config;
pub use error::{ClientError, Fault};
pub use secret::ServerKey;

/// What crosses the wire, for those who build on this crate.
pub use backend_protocol as protocol;

/// Chooses the process's one crypto provider (aws-lc-rs) for token verification. Call once before anything else;
/// calling it again changes nothing.
pub fn install_crypto_provider() {
    // Err means that a provider is installed already, which is what we want.
    let _already_installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}
