//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Settings of `backend-server serve`. Each has an environment variable of the same meaning.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "BACKEND_LISTEN", default_value = "127.0.0.1:8420")]
    pub listen: SocketAddr,
    /// A SQLite file, or `postgres://…`
    #[arg(long, env = "BACKEND_DATABASE", default_value = "backend.db", hide_env_values = true)]
    pub database: String,
    /// `iss` of the tokens
    #[arg(long, env = "BACKEND_ISSUER", default_value = "backend_client")]
    pub issuer: String,
    /// The game whose players log in here
    #[arg(long, env = "BACKEND_GAME", default_value = "default")]
    pub game: String,
    /// File with the server key; written on first start, read afterwards
    #[arg(long, env = "BACKEND_SERVER_KEY_FILE")]
    pub server_key_file: Option<PathBuf>,
    /// Seconds after which a silent server leaves the room list
    #[arg(long, env = "BACKEND_LEASE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
    /// Seconds between heartbeats that servers are asked for
    #[arg(long, env = "BACKEND_HEARTBEAT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub heartbeat_seconds: u32,
    /// Seconds an access token lives
    #[arg(long, env = "BACKEND_ACCESS_TOKEN_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub access_token_seconds: u32,
    /// Seconds a join ticket lives
    #[arg(long, env = "BACKEND_TICKET_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub ticket_seconds: u32,
    /// Seconds a refresh token lives
    #[arg(long, env = "BACKEND_REFRESH_TOKEN_SECONDS", default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u32).range(60..))]
    pub refresh_token_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            database: "backend.db".into(),
            issuer: "backend_client".into(),
            game: "default".into(),
            server_key_file: None,
            lease_seconds: 60,
            heartbeat_seconds: 30,
            access_token_seconds: 600,
            ticket_seconds: 60,
            refresh_token_seconds: 30 * 24 * 3600,
        }
    }
}
