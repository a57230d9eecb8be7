//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

use crate::accounts::EmailAccounts;
use crate::accounts::mail::MailTarget;
use crate::auth::identity_providers::IdentityProvider;

fn secret(text: &str) -> Result<SecretString, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.into()) }
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text.to_owned()) }
}

fn path(text: &str) -> Result<PathBuf, &'static str> {
    not_empty(text).map(PathBuf::from)
}

/// A setting that cannot be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(pub String);

/// `text` as it may be shown: a URL without what it has before its host.
pub fn redact_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // A password may hold a slash that should have been escaped.
    match rest.rfind('@') {
        Some(at) if at >= authority.len() => format!("{scheme}://***@{}", &rest[at + 1..]),
        Some(_) => match authority.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}{path}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// Settings of `backend-server serve`. Each has an environment variable of the same meaning.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, env = "BACKEND_LISTEN", default_value = "127.0.0.1:8420")]
    pub listen: SocketAddr,
    /// A SQLite file, or `postgres://…`
    #[arg(long, env = "BACKEND_DATABASE", default_value = "backend.db", hide_env_values = true)]
    pub database: String,
    /// Where worlds lie: a folder, `s3://bucket/prefix` or `az://container/prefix`, with credentials from `AWS_…` or
    /// `AZURE_…` variables. Default: a folder `worlds` beside the SQLite file
    #[arg(long, env = "BACKEND_WORLD_STORAGE", value_parser = not_empty)]
    pub world_storage: Option<String>,
    /// `iss` of the tokens
    #[arg(long, env = "BACKEND_ISSUER", default_value = "backend_client", value_parser = not_empty)]
    pub issuer: String,
    /// The game whose players log in here
    #[arg(long, env = "BACKEND_GAME", default_value = "default", value_parser = not_empty)]
    pub game: String,
    /// The environment the servers' keys must be for, such as `live` or `staging`
    #[arg(long, env = "BACKEND_ENVIRONMENT", default_value = "live", value_parser = crate::auth::server_keys::environment)]
    pub environment: String,
    /// Network or address of a proxy whose `X-Forwarded-For` is believed; may be given several times
    #[arg(long = "trusted-proxy", env = "BACKEND_TRUSTED_PROXIES", value_delimiter = ',', value_parser = crate::http::client_ip::network)]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Requests a minute from one address, beyond a burst of half as many; 0: as many as come. Requests from this machine
    /// and those with a server key are not counted
    #[arg(long, env = "BACKEND_REQUESTS_PER_MINUTE", default_value_t = 1200)]
    pub requests_per_minute: u32,
    /// The same for logins, refreshes and wrong server keys
    #[arg(long, env = "BACKEND_LOGINS_PER_MINUTE", default_value_t = 60)]
    pub logins_per_minute: u32,
    /// The same for new accounts
    #[arg(long, env = "BACKEND_NEW_ACCOUNTS_PER_MINUTE", default_value_t = 20)]
    pub new_accounts_per_minute: u32,
    /// The same for one player's requests, wherever they come from
    #[arg(long, env = "BACKEND_PLAYER_REQUESTS_PER_MINUTE", default_value_t = 600)]
    pub player_requests_per_minute: u32,
    /// Most connections at a time
    #[arg(long, env = "BACKEND_MAX_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Most connections from one address, unless it is this machine or a trusted proxy
    #[arg(long, env = "BACKEND_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: u32,
    /// Seconds a client may take to send a request's head, or to take a part of a reply; a body must come at 8 KiB/s after them
    #[arg(long, env = "BACKEND_SLOW_CLIENT_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub slow_client_seconds: u32,
    /// Origin of a web client, such as `https://play.example.org`, whose pages may call the API; may be given several times.
    /// `*`: any
    #[arg(long = "allowed-origin", env = "BACKEND_ALLOWED_ORIGINS", value_delimiter = ',', value_parser = crate::http::cors::origin)]
    pub allowed_origins: Vec<axum::http::HeaderValue>,
    /// How mails go out: `none`, `console`, `file:FOLDER`, `smtps://USER:PASSWORD@HOST` or `smtp://…?tls=required`
    #[arg(long, env = "BACKEND_MAIL", default_value = "none", hide_env_values = true, value_parser = crate::accounts::mail::target)]
    pub mail: MailTarget,
    /// Sender of the mails, such as `Game <noreply@example.org>`
    #[arg(long, env = "BACKEND_MAIL_FROM", value_parser = not_empty)]
    pub mail_from: Option<String>,
    /// The game's name in mails. Default: that of `--game`
    #[arg(long, env = "BACKEND_MAIL_NAME", value_parser = not_empty)]
    pub mail_name: Option<String>,
    /// When an e-mail address makes an account: `open`, at once, or `verified`, when a code sent to it comes back, which
    /// hides who has an account. Default: `verified` with a mail server, `open` without
    #[arg(long, env = "BACKEND_EMAIL_ACCOUNTS", value_enum)]
    pub email_accounts: Option<EmailAccounts>,
    /// `NAME=URL` of a hook that says whose token of another platform one is; may be given several times
    #[arg(long = "identity-provider", env = "BACKEND_IDENTITY_PROVIDERS", value_delimiter = ',', value_parser = crate::auth::identity_providers::provider)]
    pub identity_providers: Vec<IdentityProvider>,
    /// What the hooks know the backend by, sent as `Authorization: Bearer`
    #[arg(long, env = "BACKEND_IDENTITY_HOOK_SECRET", hide_env_values = true, value_parser = secret)]
    pub identity_hook_secret: Option<SecretString>,
    /// File with the server key; written on first start, read afterwards
    #[arg(long, env = "BACKEND_SERVER_KEY_FILE", value_parser = path)]
    pub server_key_file: Option<PathBuf>,
    /// Seconds after which a silent server leaves the room list
    #[arg(long, env = "BACKEND_LEASE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
    /// Seconds between heartbeats that servers are asked for
    #[arg(long, env = "BACKEND_HEARTBEAT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub heartbeat_seconds: u32,
    /// The same for servers that hold players: the longest time until one hears that another server waits for a player
    #[arg(long, env = "BACKEND_HOLDER_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub holder_heartbeat_seconds: u32,
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

impl Config {
    /// What players and worlds made here belong to: the game and the environment, whose name holds no slash.
    pub fn scope(&self) -> String {
        format!("{}/{}", self.game, self.environment)
    }

    /// Refuses settings that each make sense, but not together.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let Self { lease_seconds, heartbeat_seconds, access_token_seconds, refresh_token_seconds, .. } = self;
        if lease_seconds <= heartbeat_seconds {
            return Err(InvalidSetting(format!(
                "--lease-seconds {lease_seconds} must be more than --heartbeat-seconds {heartbeat_seconds} (best twice as \
                 much): a server would leave the list between two heartbeats; make the lease longer or the heartbeats more \
                 frequent"
            )));
        }
        if refresh_token_seconds < access_token_seconds {
            return Err(InvalidSetting(format!(
                "--refresh-token-seconds {refresh_token_seconds} must be at least --access-token-seconds \
                 {access_token_seconds}: a session would end before the token it was begun with; make it longer"
            )));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            database: "backend.db".into(),
            world_storage: None,
            issuer: "backend_client".into(),
            game: "default".into(),
            environment: "live".into(),
            trusted_proxies: Vec::new(),
            requests_per_minute: 1200,
            logins_per_minute: 60,
            new_accounts_per_minute: 20,
            player_requests_per_minute: 600,
            max_connections: 10_000,
            max_connections_per_address: 256,
            slow_client_seconds: 10,
            allowed_origins: Vec::new(),
            mail: MailTarget::None,
            mail_from: None,
            mail_name: None,
            email_accounts: None,
            identity_providers: Vec::new(),
            identity_hook_secret: None,
            server_key_file: None,
            lease_seconds: 60,
            heartbeat_seconds: 30,
            holder_heartbeat_seconds: 5,
            access_token_seconds: 600,
            ticket_seconds: 60,
            refresh_token_seconds: 30 * 24 * 3600,
        }
    }
}

#[cfg(test)]
mod tests;
