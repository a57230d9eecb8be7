//! What SIGTERM waits for: every player has a changed document, and all of them have to be safe.

use std::path::Path;

use anyhow::{Result, ensure};
use backend_client::player_store::Flushed;
use end_to_end::backend::Backend;
use tokio::time::Instant;

use crate::figures::{Report, Times, milliseconds};
use crate::game::{Game, NEVER, PATIENCE, document};

const PART: &str = "all players dirty";
/// From DESIGN §5.
const LOCAL_GOAL_MS: f64 = 250.0;
const BACKEND_GOAL_MS: f64 = 2_000.0;

/// Measures from the first of all changes, made at once, until the last is safe.
pub async fn measure(
    process: &Backend,
    folder: &Path,
    players: usize,
    repetitions: u64,
    report: &mut Report,
) -> Result<()> {
    let (game, events) = Game::start(process, folder, NEVER, players).await?;
    drop(events);
    let mut calls = Times::default();
    let mut local = Times::default();
    let mut committed = Times::default();
    for repetition in 1..=repetitions {
        let contents = (0..players).map(|_| document(repetition)).collect::<Result<Vec<_>>>()?;
        let begin = Instant::now();
        for (player, content) in game.players.iter().zip(contents) {
            game.store.save(player, "progress", content)?;
        }
        calls.add(begin.elapsed());
        let unsafe_still = game.store.flush_local(PATIENCE).await;
        local.add(begin.elapsed());
        ensure!(unsafe_still == 0, "{unsafe_still} documents are not durable");
        let flushed = game.store.flush(None, PATIENCE).await;
        committed.add(begin.elapsed());
        ensure!(flushed == Flushed { saved: players, ..Flushed::default() }, "{flushed:?}");
    }
    let begin = Instant::now();
    let released = game.store.release_all(PATIENCE).await;
    let release = milliseconds(begin.elapsed());
    ensure!(released.unsaved == 0, "{released:?}");
    report.add(PART, "players with one changed document of 2 KiB", players as f64, "");
    report.add(PART, "repetitions", repetitions as f64, "");
    report.add(PART, "all save() calls of the main thread, p99", calls.quantile(0.99), "ms");
    report.add(PART, "durable locally, p50", local.quantile(0.5), "ms");
    report.add_with_goal(PART, "durable locally, p99", local.quantile(0.99), "ms", LOCAL_GOAL_MS);
    report.add(PART, "committed by the backend, p50", committed.quantile(0.5), "ms");
    report.add_with_goal(
        PART,
        "committed by the backend, p99",
        committed.quantile(0.99),
        "ms",
        BACKEND_GOAL_MS,
    );
    report.add(PART, "all leases let go, once", release, "ms");
    Ok(())
}
