//! `backend-server`: the reference backend as one binary.

mod cli;

use std::process::ExitCode;

use crate::cli::log_format::WithRequest;
use crate::cli::{admin_keys, output, server_keys, signing_keys, usage};
use anyhow::Context;
use backend_server::database::Database;
use backend_server::{AUDIT_TARGET, Config, allow_many_files, openapi, player_store, private_files, start};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The C library's keeps threads waiting for each other when one frees what another has taken, as happens with every answer
/// that a shared statement gives.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about = "Backend for Godot dedicated servers and their clients")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the API
    Serve {
        #[command(flatten)]
        config: Box<Config>,
        /// Form of the log on standard error
        #[arg(long, env = "BACKEND_LOG_FORMAT", value_enum, default_value = "text")]
        log: LogFormat,
        /// Least important level that is logged: error, warn, info, debug, trace
        #[arg(long, env = "BACKEND_LOG_LEVEL", default_value = "info", value_parser = level)]
        log_level: LevelFilter,
    },
    /// Makes, lists, rotates and revokes server keys
    Keys(server_keys::KeyCommands),
    /// Lists, rotates and revokes the keys that tokens are signed with
    SigningKeys(signing_keys::SigningKeyCommands),
    /// Makes, lists and revokes keys for the routes under `/v1/admin`
    AdminKeys(admin_keys::AdminKeyCommands),
    /// Prints one player's documents as JSON
    PlayerDocuments {
        #[command(flatten)]
        database: DatabaseArgument,
        /// The account's id
        #[arg(long)]
        player: String,
    },
    /// Prints the first 1,000 players and their documents as JSON
    Players {
        #[command(flatten)]
        database: DatabaseArgument,
    },
    /// Prints the API as OpenAPI 3.1
    Openapi,
}

#[derive(Args)]
struct DatabaseArgument {
    /// A SQLite file, or `postgres://…`
    #[arg(long, env = "BACKEND_DATABASE", default_value = "backend.db", hide_env_values = true)]
    database: String,
}

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    // Nothing would be a level as well.
    let level = if text.is_empty() { None } else { text.parse().ok() };
    level.ok_or("must be one of off, error, warn, info, debug, trace")
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything is made.
    private_files::restrict_new_files();
    match usage::parse::<Cli>() {
        Ok(cli) => usage::exit(run(cli.command).await),
        Err(code) => code,
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    if !matches!(command, Command::Serve { .. }) {
        log_for_operators();
    }
    match command {
        Command::Serve { config, log, log_level } => serve(*config, log, log_level).await,
        Command::Keys(commands) => server_keys::run(commands).await,
        Command::SigningKeys(commands) => signing_keys::run(commands).await,
        Command::AdminKeys(commands) => admin_keys::run(commands).await,
        Command::PlayerDocuments { database, player } => {
            let database = Database::open(&database.database).await?;
            output::line(format_args!("{:#}", player_store::read_back(&database, &player).await?))
        }
        Command::Players { database } => {
            let database = Database::open(&database.database).await?;
            output::line(format_args!("{:#}", player_store::read_back_all(&database).await?))
        }
        Command::Openapi => output::line(openapi::document()?.trim_end()),
    }
}

/// What a command does to keys is a security event.
fn log_for_operators() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Of errors in writing the log, it would tell the same closed standard error, and panic.
        .log_internal_errors(false)
        .init();
}

async fn serve(config: Config, log: LogFormat, level: LevelFilter) -> anyhow::Result<()> {
    config.check()?;
    // Security events are logged at every level.
    let filter = Targets::new().with_default(level).with_target(AUDIT_TARGET, level.max(LevelFilter::INFO));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Of errors in writing the log, it would tell the same closed standard error, and panic: each request that is
        // logged would fail.
        .log_internal_errors(false);
    match log {
        LogFormat::Json => {
            let lines = WithRequest { lines: tracing_subscriber::fmt::format().json(), json: true };
            let layer = layer.json().event_format(lines);
            tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        }
        LogFormat::Text => {
            let lines =
                WithRequest { lines: tracing_subscriber::fmt::format().with_ansi(false), json: false };
            tracing_subscriber::registry().with(layer.event_format(lines).with_filter(filter)).init();
        }
    }
    allow_many_files();
    // Before listening: a signal that arrives right after the ready line must find its handler.
    let stop = stop_requested()?;
    let running = start(config).await?;
    if let Some(key) = &running.new_server_key {
        output::secret("the first server key", format_args!("server key (shown once): {key}"))?;
    }
    output::line(format_args!("listening on http://{}", running.address))?;
    stop.await;
    tracing::info!("stopping");
    running.stop().await
}

#[cfg(unix)]
fn stop_requested() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch SIGINT")?;
    // The terminal is gone. `nohup` means that this is not the end of the service.
    let mut hangup = if is_ignored(HANGUP) {
        None
    } else {
        Some(signal(SignalKind::hangup()).context("cannot watch SIGHUP")?)
    };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    })
}

#[cfg(unix)]
const HANGUP: u32 = 1;

/// Whether the process was started with the signal ignored, as far as the system tells.
#[cfg(unix)]
fn is_ignored(signal: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(not(unix))]
fn stop_requested() -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await.context("cannot watch Ctrl-C") {
            tracing::error!("{error:#}");
            std::future::pending::<()>().await;
        }
    })
}
