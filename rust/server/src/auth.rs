//! Authentication and authorization: credentials, tokens, keys, revocations, the audit log.

pub(crate) mod active_account;
pub mod admin_keys;
pub(crate) mod audit;
pub(crate) mod authorization;
pub(crate) mod extractors;
pub(crate) mod identity_providers;
pub(crate) mod known_login_ips;
pub(crate) mod password_check;
pub(crate) mod password_hash;
pub(crate) mod refresh_tokens;
pub(crate) mod revocations;
pub mod server_keys;
pub mod signing_keys;
pub(crate) mod tokens;
