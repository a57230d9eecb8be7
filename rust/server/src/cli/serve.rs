//! `backend-server serve`.

use backend_server::{AUDIT_TARGET, Config, raise_open_file_limit, start};
use clap::{Args, ValueEnum};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_format::WithRequestId;
use super::{output, shutdown_signal};

#[derive(Args)]
pub struct ServeArguments {
    #[command(flatten)]
    config: Box<Config>,
    /// Format of the log on standard error
    #[arg(long, env = "BACKEND_LOG_FORMAT", value_enum, default_value = "text")]
    log: LogFormat,
    /// Log level: off, error, warn, info, debug or trace
    #[arg(long, env = "BACKEND_LOG_LEVEL", default_value = "info", value_parser = level)]
    log_level: LevelFilter,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    // An empty text would parse as a level.
    let level = if text.is_empty() { None } else { text.parse().ok() };
    level.ok_or("must be one of off, error, warn, info, debug, trace")
}

/// Serves until a signal stops it.
pub async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let ServeArguments { config, log, log_level: level } = arguments;
    config.check()?;
    // Security events are logged at every level.
    let filter = Targets::new().with_default(level).with_target(AUDIT_TARGET, level.max(LevelFilter::INFO));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // An error in writing the log would be written to the same closed standard error, and panic: each request that is
        // logged would fail.
        .log_internal_errors(false);
    match log {
        LogFormat::Json => {
            let lines = WithRequestId { lines: tracing_subscriber::fmt::format().json(), json: true };
            let layer = layer.json().event_format(lines);
            tracing_subscriber::registry().with(layer.with_filter(filter)).init();
        }
        LogFormat::Text => {
            let lines =
                WithRequestId { lines: tracing_subscriber::fmt::format().with_ansi(false), json: false };
            tracing_subscriber::registry().with(layer.event_format(lines).with_filter(filter)).init();
        }
    }
    raise_open_file_limit();
    // Before listening: a signal that arrives right after the ready line must find its handler.
    let stop = shutdown_signal::install()?;
    let running = start(*config).await?;
    if let Some(key) = &running.new_server_key {
        output::secret("the first server key", format_args!("server key (shown once): {key}"))?;
    }
    output::line(format_args!("listening on http://{}", running.address))?;
    if let Some(address) = running.relay_address {
        output::line(format_args!("relay listening on udp://{address}"))?;
    }
    stop.await;
    tracing::info!("stopping");
    running.stop().await
}
