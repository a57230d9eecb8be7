//! The subcommands.

pub mod admin_keys;
pub mod log_format;
pub mod output;
pub mod server_keys;
pub mod signing_keys;
pub mod usage;
