//! `soak`: saves small documents at given rates for a long time, and looks how much of the disk the journal takes.
//!
//! Every rate has a store, a journal and a folder of its own, as in a game server; the backend is in the process and takes
//! what it is sent. Prints the sizes as CSV while it runs. Exit code 1: a journal took more than it may, a save was not
//! acknowledged, or not delivered.

mod backend;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backend_client::journal::JournalFolder;
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::{Content, Event, Pace, PlayerStore, Setup};
use clap::Parser;
use serde_json::json;

/// Most bytes that a journal may take beyond what is unsent: its log, pages that are free, and what is not counted here.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Players who are saved in turn.
const PLAYERS: u64 = 32;
/// Longest time anything takes that has to succeed.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(name = "soak", about = "The journal's size under small saves that go on")]
struct Options {
    /// Saves a second, one or several
    #[arg(long, value_delimiter = ',', default_values_t = [10, 60, 500])]
    rate: Vec<u64>,
    /// How long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Seconds between two samples
    #[arg(long, default_value_t = 5)]
    every: u64,
    /// Where the journals go; else a temporary folder
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Also plots the sizes to this SVG file
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// What was found at one rate.
struct Outcome {
    rate: u64,
    /// Minutes and MiB.
    points: Vec<(f64, f64)>,
    saves: u64,
    acknowledged: u64,
    largest: u64,
    unsent: usize,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let temporary = tempfile::tempdir()?;
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    println!("rate,seconds,bytes,saves,acknowledged");
    let outcomes = runtime.block_on(async {
        let mut soaking = tokio::task::JoinSet::new();
        for rate in options.rate.clone() {
            let folder = folder.join(format!("rate-{rate}"));
            let (length, every) = (options.minutes * 60.0, options.every);
            soaking.spawn(soak(rate, folder, Duration::from_secs_f64(length), Duration::from_secs(every)));
        }
        let mut outcomes = Vec::new();
        while let Some(done) = soaking.join_next().await {
            outcomes.push(done??);
        }
        anyhow::Ok(outcomes)
    });
    let mut outcomes = outcomes?;
    outcomes.sort_by_key(|outcome| outcome.rate);
    if let Some(path) = &options.plot {
        plot::draw(path, &outcomes, MAX_BYTES).context("cannot plot")?;
    }
    let mut failed = false;
    for Outcome { rate, saves, acknowledged, largest, unsent, .. } in &outcomes {
        let good = *largest <= MAX_BYTES && *acknowledged == *saves && *unsent == 0;
        failed |= !good;
        let line = json!({ "rate": rate, "saves": saves, "acknowledged": acknowledged, "largest_bytes": largest,
            "unsent": unsent, "good": good });
        println!("{line}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn soak(rate: u64, folder: PathBuf, length: Duration, every: Duration) -> Result<Outcome> {
    let (backend, registration) = backend::NearBackend::register().await?;
    // The newest change that is acknowledged covers all before it, of whichever player.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let failure = Arc::new(Mutex::new(None));
    let (newest, failed) = (Arc::clone(&acknowledged), Arc::clone(&failure));
    let store = PlayerStore::new(Setup {
        backend,
        clock: Arc::new(SystemClock),
        registration,
        journal: Arc::new(JournalFolder::new(&folder)),
        pace: Pace::default(),
        on_event: Arc::new(move |event| match event {
            Event::Journalled(saves) => {
                let last = saves.iter().map(|save| save.revision).max().unwrap_or(0);
                newest.fetch_max(last, Ordering::Relaxed);
            }
            Event::JournalFailed(error) => {
                *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            }
            _ => {}
        }),
    });
    for player in 0..PLAYERS {
        store.load(&format!("player-{player}"), TIMEOUT).await?;
    }
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate as f64));
    let mut next_sample = Duration::ZERO;
    let mut outcome = Outcome { rate, points: Vec::new(), saves: 0, acknowledged: 0, largest: 0, unsent: 0 };
    while begun.elapsed() < length {
        ticks.tick().await;
        outcome.saves += 1;
        let player = format!("player-{}", outcome.saves % PLAYERS);
        store.save(&player, "position", document(outcome.saves))?;
        if begun.elapsed() >= next_sample {
            next_sample += every;
            let (bytes, at) = (bytes_in(&folder)?, begun.elapsed().as_secs_f64());
            outcome.largest = outcome.largest.max(bytes);
            outcome.points.push((at / 60.0, bytes as f64 / (1024.0 * 1024.0)));
            let acknowledged = acknowledged.load(Ordering::Relaxed);
            println!("{rate},{at:.0},{bytes},{},{acknowledged}", outcome.saves);
        }
    }
    outcome.unsent = store.flush(None, TIMEOUT).await.unsaved;
    store.flush_local(TIMEOUT).await;
    if let Some(error) = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
        return Err(error).context(format!("the journal failed at {rate} saves a second"));
    }
    outcome.acknowledged = acknowledged.load(Ordering::Relaxed);
    Ok(outcome)
}

fn document(number: u64) -> Content {
    let value =
        json!({ "number": number, "x": number as f64 / 3.0, "y": 2.5, "animation": "hop", "facing": "left" });
    value.as_object().cloned().unwrap_or_default()
}

/// What the files take, those that come and go included.
fn bytes_in(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        sum += entry?.metadata().map_or(0, |found| found.len());
    }
    Ok(sum)
}
