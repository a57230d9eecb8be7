//! The reference backend: login, validation, registry, rooms and players' documents over SQLite or PostgreSQL.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod accounts;
mod admin;
mod allocation;
mod auth;
pub mod config;
pub mod database;
mod digest;
pub mod doctor;
mod health;
mod http;
mod jobs;
mod key_format;
mod matchmaking;
mod openapi;
pub mod player_store;
pub mod private_files;
mod registration;
mod relay;
mod room_creation;
mod rooms;
mod router;
mod served_time;
mod server;
mod session;
mod state;
mod validation;
mod world_store;

#[cfg(target_os = "linux")]
pub use allocation::local::supervisor::run as run_room_process;
pub use auth::audit::TARGET as AUDIT_TARGET;
pub use auth::{admin_keys, server_keys, signing_keys};
pub use config::identity_provider::{IdentityProvider, provider as identity_provider};
pub use config::mail_target::{MailTarget, target as mail_target};
pub use config::{Config, EmailAccounts};
pub use http::connection_limit::raise_open_file_limit;
pub use http::context::request_id as current_request_id;
pub use registration::key_revocation::revoke_server_key;
pub use router::openapi_document;
pub use server::{Running, start};
