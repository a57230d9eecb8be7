//! The reference backend: login, validation, registry, rooms and players' documents over SQLite or PostgreSQL.
#![deny(missing_docs)]

mod accounts;
mod admin;
pub mod admin_keys;
mod audit;
mod client_address;
pub mod config;
mod connections;
pub mod database;
mod envelope;
mod epochs;
mod familiar_addresses;
mod gathered;
mod health;
mod idempotency;
mod identities;
mod mail;
pub mod openapi;
mod password;
pub mod player_store;
mod problem;
mod rate_limit;
mod registration;
mod revocations;
mod rooms;
mod router;
mod serve;
pub mod server_keys;
mod session;
pub mod signing_keys;
mod slow_body;
mod standing;
mod state;
mod sweep;
mod tagged;
mod tokens;
mod validation;
mod web;
mod world_store;

pub use accounts::EmailAccounts;
pub use audit::TARGET as AUDIT_TARGET;
pub use config::Config;
pub use envelope::request_id as current_request_id;
pub use identities::{IdentityProvider, provider as identity_provider};
pub use mail::{MailTarget, target as mail_target};
pub use serve::{Running, start};
