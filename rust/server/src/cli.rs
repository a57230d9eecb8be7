//! The subcommands.

mod admin_keys;
mod doctor;
mod fault_proxy;
mod log_format;
mod matchmaking;
mod output;
mod players;
mod room_process;
mod serve;
mod server_keys;
mod shutdown_signal;
mod signing_keys;
pub mod usage;

use backend_server::openapi_document;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

#[derive(Parser)]
#[command(version, about = "Backend for Godot dedicated servers and their clients")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serves the API
    Serve(serve::ServeArguments),
    /// Checks what `serve` needs with the same settings, and serves nothing
    Doctor(doctor::Doctor),
    /// Creates, lists, rotates and revokes server keys
    Keys(server_keys::KeyCommands),
    /// Lists, rotates and revokes the keys that sign tokens
    SigningKeys(signing_keys::SigningKeyCommands),
    /// Creates, lists and revokes keys for the routes under `/v1/admin`
    AdminKeys(admin_keys::AdminKeyCommands),
    /// Checks and simulates matchmaking rule sets
    Matchmaking(matchmaking::MatchmakingCommands),
    /// Prints one player's documents as JSON
    PlayerDocuments(players::PlayerDocuments),
    /// Prints the first 1,000 players and their documents as JSON
    Players(players::Players),
    /// Prints the API as OpenAPI 3.1
    Openapi,
    /// Stands between games and the backend of this machine, and misbehaves as its standard input demands
    #[command(hide = true)]
    FaultProxy(fault_proxy::FaultProxy),
    /// Runs one game server for `serve`
    #[command(hide = true)]
    RoomProcess(room_process::RoomProcess),
}

#[derive(Args)]
pub struct DatabaseArgument {
    /// SQLite file (created if absent) or `postgres://…` URL
    #[arg(long, env = "BACKEND_DATABASE", default_value = "backend.db", hide_env_values = true)]
    pub database: String,
}

/// Runs one subcommand.
pub async fn run(command: Command) -> anyhow::Result<()> {
    if !matches!(command, Command::Serve(_)) {
        log_for_operators();
    }
    match command {
        Command::Serve(arguments) => serve::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::Keys(commands) => server_keys::run(commands).await,
        Command::SigningKeys(commands) => signing_keys::run(commands).await,
        Command::AdminKeys(commands) => admin_keys::run(commands).await,
        Command::Matchmaking(commands) => matchmaking::run(commands),
        Command::PlayerDocuments(arguments) => players::print_documents(arguments).await,
        Command::Players(arguments) => players::print_all(arguments).await,
        Command::FaultProxy(arguments) => fault_proxy::run(arguments).await,
        Command::RoomProcess(arguments) => room_process::run(&arguments),
        Command::Openapi => output::line(openapi_document()?.trim_end()),
    }
}

/// Logs the security events of commands on keys.
fn log_for_operators() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // An error in writing the log would be written to the same closed standard error, and panic.
        .log_internal_errors(false)
        .init();
}
