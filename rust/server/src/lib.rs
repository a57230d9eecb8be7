//! The reference backend: login, validation, registry, rooms and players' documents over SQLite or PostgreSQL.
#![deny(missing_docs)]

mod audit;
mod client_address;
pub mod config;
pub mod database;
mod health;
mod idempotency;
pub mod openapi;
mod password;
pub mod player_store;
mod problem;
mod registration;
mod request_id;
mod rooms;
mod router;
mod serve;
pub mod server_keys;
mod session;
mod state;
mod sweep;
mod tokens;
mod validation;
mod world_store;

pub use audit::TARGET as AUDIT_TARGET;
pub use config::Config;
pub use serve::{Running, start};
