//! Where players reach the relay.

use std::net::SocketAddr;

use super::{Config, InvalidSetting};

/// Rejects a relay that nobody could find.
pub fn check(config: &Config) -> Result<(), InvalidSetting> {
    let Some(listen) = config.relay_listen else { return Ok(()) };
    match &config.relay_address {
        Some(address) => backend_protocol::limits::public_address("--relay-address", address)
            .map_err(|error| InvalidSetting(error.to_string())),
        None if listen.ip().is_unspecified() => Err(InvalidSetting(format!(
            "--relay-listen {listen} names no address that players can connect to; say it with --relay-address"
        ))),
        None => Ok(()),
    }
}

/// Host name or IP address at which players reach it.
pub fn public_address(config: &Config, listen: SocketAddr) -> String {
    config.relay_address.clone().unwrap_or_else(|| listen.ip().to_string())
}
