//! The settings of `backend-server serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use self::identity_provider::IdentityProvider;
use self::mail_target::MailTarget;
use self::parsers::{not_empty, path, secret};

pub use redaction::redact_secrets;

pub mod identity_provider;
pub mod mail_target;
pub(crate) mod parsers;
pub(crate) mod redaction;
mod regions;
pub(crate) mod relay;

/// A setting that cannot be used. The text names the setting and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSetting(pub String);

/// Which accounts an e-mail address makes; see `--email-accounts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EmailAccounts {
    /// An address counts immediately. A registration shows whether it has an account already.
    Open,
    /// An address counts when a code sent to it is entered. A registration does not show whether it has an account.
    Verified,
}

/// Settings of `backend-server serve`. Each has an environment variable of the same meaning.
///
/// It is not `Debug`: a database's URL and a hook's hold secrets.
#[derive(Clone, Args)]
pub struct Config {
    /// Address to listen on. Port 0 takes a free port
    #[arg(long, env = "BACKEND_LISTEN", default_value = "127.0.0.1:8420")]
    pub listen: SocketAddr,
    /// SQLite file (created if absent) or `postgres://…` URL
    #[arg(long, env = "BACKEND_DATABASE", default_value = "backend.db", hide_env_values = true)]
    pub database: String,
    /// Storage of world chunks: a folder, `s3://bucket/prefix` or `az://container/prefix`, with credentials from `AWS_…` or
    /// `AZURE_…` variables. Default: a folder `worlds` beside the SQLite file
    #[arg(long, env = "BACKEND_WORLD_STORAGE", hide_env_values = true, value_parser = not_empty)]
    pub world_storage: Option<String>,
    /// Issuer of the tokens (their `iss` claim)
    #[arg(long, env = "BACKEND_ISSUER", default_value = "backend_client", value_parser = not_empty)]
    pub issuer: String,
    /// Game whose players log in here
    #[arg(long, env = "BACKEND_GAME", default_value = "default", value_parser = not_empty)]
    pub game: String,
    /// Environment, such as `live` or `staging`. Server keys of other environments are rejected
    #[arg(long, env = "BACKEND_ENVIRONMENT", default_value = "live", value_parser = parsers::environment)]
    pub environment: String,
    /// Network or address of a proxy whose `X-Forwarded-For` header is trusted. Can be given several times
    #[arg(long = "trusted-proxy", env = "BACKEND_TRUSTED_PROXIES", value_delimiter = ',', value_parser = parsers::network)]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Requests per minute and IP address (burst: half of it). 0 = unlimited. Requests from loopback or with a valid key are
    /// not counted
    #[arg(long, env = "BACKEND_REQUESTS_PER_MINUTE", default_value_t = 1200)]
    pub requests_per_minute: u32,
    /// Logins, refreshes and invalid keys per minute and IP address (burst: half of it). 0 = unlimited
    #[arg(long, env = "BACKEND_LOGINS_PER_MINUTE", default_value_t = 60)]
    pub logins_per_minute: u32,
    /// New accounts per minute and IP address (burst: half of it). 0 = unlimited
    #[arg(long, env = "BACKEND_NEW_ACCOUNTS_PER_MINUTE", default_value_t = 20)]
    pub new_accounts_per_minute: u32,
    /// Requests per minute and player, from any address (burst: half of it). 0 = unlimited
    #[arg(long, env = "BACKEND_PLAYER_REQUESTS_PER_MINUTE", default_value_t = 600)]
    pub player_requests_per_minute: u32,
    /// Maximum number of open connections
    #[arg(long, env = "BACKEND_MAX_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Maximum number of open connections per IP address. Loopback and trusted proxies are not limited
    #[arg(long, env = "BACKEND_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: u32,
    /// Maximum number of room lists that are followed at the same time, each on a connection of its own
    #[arg(long, env = "BACKEND_MAX_ROOM_FOLLOWERS", default_value_t = 5_000)]
    pub max_room_followers: u32,
    /// Maximum number of room lists that are followed from one IP address. Loopback is not limited
    #[arg(long, env = "BACKEND_MAX_ROOM_FOLLOWERS_PER_ADDRESS", default_value_t = 64)]
    pub max_room_followers_per_address: u32,
    /// Seconds within which a client must send the head of a request and accept each part of a reply. Bodies must arrive at
    /// 8 KiB/s or more after that time
    #[arg(long, env = "BACKEND_SLOW_CLIENT_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub slow_client_seconds: u32,
    /// Origin of a web client that may call the API, such as `https://play.example.org`. Can be given several times. `*` = any
    /// origin
    #[arg(long = "allowed-origin", env = "BACKEND_ALLOWED_ORIGINS", value_delimiter = ',', value_parser = parsers::origin)]
    pub allowed_origins: Vec<axum::http::HeaderValue>,
    /// Mail transport: `none`, `console`, `file:FOLDER`, `smtps://USER:PASSWORD@HOST` or `smtp://…?tls=required`
    #[arg(long, env = "BACKEND_MAIL", default_value = "none", hide_env_values = true, value_parser = mail_target::target)]
    pub mail: MailTarget,
    /// Sender of the mails, such as `Game <noreply@example.org>`
    #[arg(long, env = "BACKEND_MAIL_FROM", value_parser = not_empty)]
    pub mail_from: Option<String>,
    /// Name of the game in mails. Default: the value of `--game`
    #[arg(long, env = "BACKEND_MAIL_NAME", value_parser = not_empty)]
    pub mail_name: Option<String>,
    /// When an e-mail address becomes an account: `open` = immediately, `verified` = when the player enters a code sent to
    /// it, which hides who has an account. Default: `verified` with a mail server, `open` without
    #[arg(long, env = "BACKEND_EMAIL_ACCOUNTS", value_enum)]
    pub email_accounts: Option<EmailAccounts>,
    /// `NAME=URL` of a hook that verifies the login tokens of another platform. Can be given several times
    #[arg(long = "identity-provider", env = "BACKEND_IDENTITY_PROVIDERS", hide_env_values = true, value_delimiter = ',', value_parser = identity_provider::provider)]
    pub identity_providers: Vec<IdentityProvider>,
    /// Secret that is sent to the hooks as `Authorization: Bearer`
    #[arg(long, env = "BACKEND_IDENTITY_HOOK_SECRET", hide_env_values = true, value_parser = secret)]
    pub identity_hook_secret: Option<SecretString>,
    /// File with the server key. Written on the first start, read afterwards
    #[arg(long, env = "BACKEND_SERVER_KEY_FILE", value_parser = path)]
    pub server_key_file: Option<PathBuf>,
    /// Seconds after its last heartbeat until a server leaves the room list and loses its players
    #[arg(long, env = "BACKEND_LEASE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
    /// Seconds between the heartbeats of a server
    #[arg(long, env = "BACKEND_HEARTBEAT_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub heartbeat_seconds: u32,
    /// Seconds between the heartbeats of a server that holds players: the longest delay until it learns that another server
    /// requests one of them
    #[arg(long, env = "BACKEND_HOLDER_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub holder_heartbeat_seconds: u32,
    /// Maximum number of documents of one player. A save that would create another one is refused. 0 = unlimited
    #[arg(long, env = "BACKEND_MAX_DOCUMENTS_PER_PLAYER", default_value_t = 256)]
    pub max_documents_per_player: u32,
    /// Lifetime of an access token, in seconds
    #[arg(long, env = "BACKEND_ACCESS_TOKEN_SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub access_token_seconds: u32,
    /// `NAME=HOST:PORT` of a region and of the UDP port of a machine in it that answers pings, such as the query port of a game
    /// server: players measure how far each region is. Can be given several times
    #[arg(long = "region", env = "BACKEND_REGIONS", value_delimiter = ',', value_parser = regions::region)]
    pub regions: Vec<backend_protocol::rooms::Region>,
    /// Lifetime of a join ticket, in seconds
    #[arg(long, env = "BACKEND_TICKET_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub ticket_seconds: u32,
    /// Matchmakers and their rule sets, as a JSON file. Without it there is no matchmaking
    #[arg(long, env = "BACKEND_MATCHMAKING", value_parser = path)]
    pub matchmaking: Option<PathBuf>,
    /// Rooms on demand and quick play: how game servers are started, as a JSON file. Without it there are none
    #[arg(long, env = "BACKEND_ROOMS_ON_DEMAND", value_parser = path)]
    pub rooms_on_demand: Option<PathBuf>,
    /// Game servers of this host that are started ahead of time. Default: `spare_servers` of `--rooms-on-demand`
    #[arg(long, env = "BACKEND_SPARE_SERVERS")]
    pub spare_servers: Option<u32>,
    /// The program whose subcommand `room-process` runs a game server. Default: this one
    #[arg(long, hide = true, value_parser = path)]
    pub room_process_program: Option<PathBuf>,
    /// UDP address of the realtime relay, through which players host rooms of their own, such as `0.0.0.0:8421`. Without it there
    /// is none. Port 0 takes a free port
    #[arg(long, env = "BACKEND_RELAY_LISTEN")]
    pub relay_listen: Option<SocketAddr>,
    /// Host name or IP address at which players reach the relay. Default: the one of `--relay-listen`
    #[arg(long, env = "BACKEND_RELAY_ADDRESS", value_parser = not_empty)]
    pub relay_address: Option<String>,
    /// Maximum number of players who are connected to the relay
    #[arg(long, env = "BACKEND_RELAY_MAX_PLAYERS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub relay_max_players: u32,
    /// Lifetime of a refresh token, in seconds
    #[arg(long, env = "BACKEND_REFRESH_TOKEN_SECONDS", default_value_t = 30 * 24 * 3600, value_parser = clap::value_parser!(u32).range(60..))]
    pub refresh_token_seconds: u32,
}

impl Config {
    /// See `--slow-client-seconds`.
    pub fn slow_client_timeout(&self) -> Duration {
        Duration::from_secs(self.slow_client_seconds.into())
    }

    /// The scope of players and worlds created here: `game/environment`. An environment contains no slash.
    pub fn scope(&self) -> String {
        format!("{}/{}", self.game, self.environment)
    }

    /// Rejects combinations of settings that contradict each other.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let Self { lease_seconds, heartbeat_seconds, access_token_seconds, refresh_token_seconds, .. } = self;
        if lease_seconds <= heartbeat_seconds {
            return Err(InvalidSetting(format!(
                "--lease-seconds {lease_seconds} must be more than --heartbeat-seconds {heartbeat_seconds} (best twice as \
                 much): a server would leave the list between two heartbeats; make the lease longer or the heartbeats more \
                 frequent"
            )));
        }
        regions::check(&self.regions)?;
        relay::check(self)?;
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
            max_room_followers: 5_000,
            max_room_followers_per_address: 64,
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
            max_documents_per_player: 256,
            access_token_seconds: 600,
            regions: Vec::new(),
            ticket_seconds: 60,
            matchmaking: None,
            rooms_on_demand: None,
            spare_servers: None,
            room_process_program: None,
            relay_listen: None,
            relay_address: None,
            relay_max_players: 2_000,
            refresh_token_seconds: 30 * 24 * 3600,
        }
    }
}

#[cfg(test)]
mod tests;
