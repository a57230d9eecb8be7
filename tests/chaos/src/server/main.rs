//! `chaos-server`: one game server of a trial. It is built on the client crate as a game is: real HTTP, a real journal,
//! real signals. It is told what its players do on standard input, one JSON object per line, and says on standard output
//! what was attempted and what the store acknowledged, one JSON object per line.
//!
//! The end of standard input ends it at once, so that it cannot outlive the trial.

mod game;
mod ledger;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use backend_client::api::transport::HttpTransport;
use backend_client::journal::JournalFolder;
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::{Pace, PlayerStore, Setup};
use backend_client::registration::{self, Registration, ServerDescription};
use backend_client::{Backend, Config, HttpBackend, ServerKey};
use clap::Parser;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use game::{Game, OnConflict};
use ledger::report;
use world::Worlds;

/// Exit code when something is left in the journal, as the addon has it.
const LEFT_IN_JOURNAL: u8 = 75;
/// Pause between attempts to register.
const REGISTER_AGAIN: Duration = Duration::from_millis(100);

#[derive(Parser)]
struct Options {
    #[arg(long)]
    index: i64,
    #[arg(long)]
    backend_url: String,
    #[arg(long)]
    key_file: PathBuf,
    #[arg(long)]
    journal: PathBuf,
    #[arg(long)]
    debounce_ms: u64,
    #[arg(long)]
    request_ms: u64,
    #[arg(long)]
    grace_ms: u64,
    #[arg(long)]
    on_conflict: OnConflict,
    /// The world that it keeps
    #[arg(long)]
    world: Option<String>,
    #[arg(long)]
    incarnation: i64,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    tracing_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(run(options))?;
    // Whatever is still on its way belongs to the journal now.
    runtime.shutdown_background();
    Ok(code)
}

fn tracing_to_stderr() {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let filter =
        tracing_subscriber::filter::Targets::new().with_target("backend_client", tracing::Level::DEBUG);
    tracing_subscriber::registry().with(lines).with(filter).init();
}

async fn run(options: Options) -> Result<ExitCode> {
    // Before anything else, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let config = Config {
        base_url: options.backend_url.clone(),
        timeout: Duration::from_millis(options.request_ms),
        retry_attempts: 2,
        ..Config::default()
    };
    let clock = Arc::new(SystemClock);
    let transport = Arc::new(HttpTransport::new(&config)?);
    let http = Arc::new(HttpBackend::new(config, transport, clock.clone())?);
    let backend: Arc<dyn Backend> = http.clone();
    let key = ServerKey::read(&options.key_file)?;
    let registration = Registration::new(
        Arc::clone(&backend),
        clock.clone(),
        key,
        // There is no main loop that could stand still.
        Duration::from_secs(24 * 3_600),
        Arc::new(|event| match event {
            registration::Event::Registered(server_id) => {
                report(&json!({ "event": "registered", "server_id": server_id }));
            }
            other => report(&json!({ "event": "registration", "news": format!("{other:?}") })),
        }),
    );
    let (news, heard) = mpsc::unbounded_channel();
    let ledger = Arc::new(ledger::Ledger::new(options.index, options.incarnation));
    let store = PlayerStore::new(Setup {
        backend,
        clock: clock.clone(),
        registration: registration.clone(),
        journal: Arc::new(JournalFolder::new(&options.journal)),
        pace: Pace {
            debounce: Duration::from_millis(options.debounce_ms),
            max_delay: Duration::from_millis(options.debounce_ms * 4),
        },
        on_event: {
            let ledger = Arc::clone(&ledger);
            Arc::new(move |event| {
                ledger.record(&event);
                // The game has ended: nobody acts on news any more.
                let _nobody_listens = news.send(event);
            })
        },
    });
    let folder = options.journal.join("worlds");
    let worlds = Arc::new(Worlds::new(http, clock, registration.clone(), folder));
    let game =
        Arc::new(Game { store, ledger, on_conflict: options.on_conflict, worlds, present: Mutex::default() });
    if let Some(world) = options.world {
        let worlds = Arc::clone(&game.worlds);
        tokio::spawn(async move { worlds.take(&world, None).await });
    }
    tokio::spawn(Arc::clone(&game).react(heard));
    tokio::spawn(enlist(registration.clone(), options.index));
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = commands.next_line() => match line? {
                Some(line) => game.obey(serde_json::from_str(&line).with_context(|| line.clone())?),
                None => std::process::exit(0),
            },
            _ = terminate.recv() => break,
        }
    }
    let grace = Duration::from_millis(options.grace_ms);
    let unsaved = game.shut_down(&registration, grace).await;
    Ok(if unsaved == 0 { ExitCode::SUCCESS } else { ExitCode::from(LEFT_IN_JOURNAL) })
}

/// Registers, for as long as it takes.
async fn enlist(registration: Registration, index: i64) {
    let description = ServerDescription {
        name: format!("Chaos {index}"),
        address: "127.0.0.1".to_owned(),
        port: 9,
        max_players: 100,
        ..ServerDescription::default()
    };
    while let Err(error) = registration.register(description.clone()).await {
        report(&json!({ "event": "registration", "news": error.to_string() }));
        tokio::time::sleep(REGISTER_AGAIN).await;
    }
}
