//! The backend goes away while everybody plays on, and comes back: what that costs, and how fast the backlog is gone.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backend_client::Backend as _;
use backend_client::player_store::{Batch, BatchItem, Event, Pace, RawJson};
use backend_client::protocol::limits::{MAX_BATCH, MAX_LOAD};
use backend_client::protocol::player_store::{LoadPlayers, SaveOutcome};
use test_harness::backend::Backend;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::game::{Events, Game, WAIT_TIMEOUT, document};
use super::times::{Times, milliseconds};
use crate::results::Report;

const PART: &str = "outage";
/// Time between two saves of a player.
const TICK: Duration = Duration::from_millis(100);
/// The same in a game that runs in real time.
const TYPICAL: Duration = Duration::from_secs(6);
/// Growth of memory in the second half of the outage that counts as none: what an allocator keeps in reserve.
const STEADY_MIB: f64 = 16.0;
/// How often the backlog is sent by the raw client.
const IDEAL_RUNS: usize = 5;
const MIB: f64 = 1024.0 * 1024.0;

/// How much there is to do.
#[derive(Clone, Copy)]
pub struct Size {
    players: usize,
    /// Documents of each player.
    documents: usize,
    /// How long the backend is away.
    away: Duration,
}

impl Size {
    /// An hour of a thousand players who save one of eight documents every six seconds, sixty times as fast: as many saves
    /// and as many documents, and sixty times the load on the journal.
    pub const FULL: Self = Self { players: 1_000, documents: 8, away: Duration::from_secs(60) };
    /// Just enough to see that it works.
    pub const QUICK: Self = Self { players: 20, documents: 8, away: Duration::from_secs(2) };
}

/// First and last moment at which the backend took a save.
type Taken = Arc<Mutex<Option<(Instant, Instant)>>>;

/// Bytes in use.
#[derive(Clone, Copy, Default)]
struct Footprint {
    memory: u64,
    journal: u64,
}

/// Takes the backend away, saves, gives it back and waits.
pub fn measure(
    process: &mut Backend,
    runtime: &Runtime,
    folder: &Path,
    size: Size,
    report: &mut Report,
) -> Result<()> {
    let (game, events) = runtime.block_on(async {
        let (mut game, events) = Game::start(&(&*process).into(), folder, Pace::default()).await?;
        game.welcome(size.players).await?;
        anyhow::Ok((game, events))
    })?;
    let taken = Taken::default();
    runtime.spawn(follow(events, taken.clone()));
    let mut newest = HashMap::new();
    runtime.block_on(async {
        for key in 0..size.documents {
            save_all(&game, &format!("document.{key}"), 0, &mut newest)?;
        }
        game.store.flush(None, WAIT_TIMEOUT).await;
        anyhow::Ok(())
    })?;
    let before = footprint(folder)?;
    process.kill()?;
    let samples = runtime.block_on(play_on(&game, folder, size, &mut newest))?;
    let backlog = game.store.backlog();
    *taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
    process.resume()?;
    let back = Instant::now();
    let end = back + WAIT_TIMEOUT;
    runtime.block_on(async {
        while game.store.pending_count() > 0 {
            ensure!(Instant::now() < end, "{} documents are not at the backend", game.store.pending_count());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The journal gives its space back once it has been quiet.
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    })?;
    let (first, last) =
        taken.lock().unwrap_or_else(PoisonError::into_inner).context("the backend took nothing")?;
    let after = footprint(folder)?;
    let lost = missing(process, &newest)?;
    let mut ideal = Times::default();
    for _ in 0..IDEAL_RUNS {
        ideal.add(runtime.block_on(send_all(&game, &newest))?);
    }

    let half = samples.get(samples.len() / 2).copied().unwrap_or_default();
    let at_end = samples.last().copied().unwrap_or_default();
    let most = |of: fn(&Footprint) -> u64| samples.iter().map(of).max().unwrap_or_default() as f64 / MIB;
    let ideal = ideal.quantile(0.5);
    let drain = milliseconds(last - first);
    let saves = newest.values().map(|saved| saved.1).sum::<u64>() as f64;
    report.figure(PART, "time without backend", size.away.as_secs_f64(), "s");
    report.figure(PART, "saves meanwhile", saves, "");
    let hours = saves * TYPICAL.as_secs_f64() / size.players as f64 / 3_600.0;
    report.figure(PART, "which are as many as in, one save per player each 6 s", hours, "h");
    report.figure(PART, "documents waiting at its end", backlog.documents as f64, "");
    report.figure(PART, "of them journalled", backlog.journalled as f64, "");
    report.figure_at_most(PART, "documents lost", lost as f64, "", 0.0);
    report.figure(PART, "memory before", before.memory as f64 / MIB, "MiB");
    report.figure(PART, "memory at most", most(|sample| sample.memory), "MiB");
    let growth = (at_end.memory as f64 - half.memory as f64) / MIB;
    report.figure_at_most(PART, "growth of memory in the second half", growth, "MiB", STEADY_MIB);
    report.figure(PART, "journal at most", most(|sample| sample.journal), "MiB");
    report.figure(PART, "journal afterwards", after.journal as f64 / MIB, "MiB");
    report.figure(
        PART,
        "return of the backend until it takes the first save",
        milliseconds(first - back),
        "ms",
    );
    report.figure(PART, "first until last save taken", drain, "ms");
    report.figure(PART, "ideal: the same in full batches by the raw client, p50", ideal, "ms");
    report.figure(PART, "draining against ideal", drain / ideal, "x");
    // A wait before the first save is felt as well.
    let whole = milliseconds(last - back) / ideal;
    report.figure_at_most(
        PART,
        "return of the backend until the last save taken against ideal",
        whole,
        "x",
        2.0,
    );
    Ok(())
}

/// Newest content and number of saves of each document.
pub type Newest = HashMap<(String, String), (u64, u64)>;

fn save_all(game: &Game, key: &str, number: u64, newest: &mut Newest) -> Result<()> {
    for player in &game.players {
        game.store.save(player, key, document(number)?)?;
        let saved = newest.entry((player.clone(), key.to_owned())).or_default();
        *saved = (number, saved.1 + 1);
    }
    Ok(())
}

/// Everybody saves with every tick, one document after another. Gives what it costs, once per second.
async fn play_on(game: &Game, folder: &Path, size: Size, newest: &mut Newest) -> Result<Vec<Footprint>> {
    for saved in newest.values_mut() {
        saved.1 = 0;
    }
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(TICK);
    let mut samples = Vec::new();
    let mut tick: u64 = 0;
    while begin.elapsed() < size.away {
        ticks.tick().await;
        tick += 1;
        let key = usize::try_from(tick)? % size.documents;
        save_all(game, &format!("document.{key}"), tick, newest)?;
        if tick.is_multiple_of(10) {
            samples.push(footprint(folder)?);
        }
    }
    let unsafe_still = game.store.flush_local(WAIT_TIMEOUT).await;
    ensure!(unsafe_still == 0, "{unsafe_still} documents are not durable");
    samples.push(footprint(folder)?);
    Ok(samples)
}

/// Notes when the backend takes saves.
async fn follow(mut events: Events, taken: Taken) {
    while let Some((at, event)) = events.recv().await {
        if matches!(event, Event::Saved { .. }) {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            *taken = Some((taken.map_or(at, |(first, _)| first), at));
        }
    }
}

/// Documents that are not at the backend as they were last saved.
pub fn missing(process: &Backend, newest: &Newest) -> Result<usize> {
    let stored: HashMap<_, _> =
        process.players()?.into_iter().map(|player| (player.player_id, player.documents)).collect();
    let is_missing = |((player, key), (number, _)): &(&(String, String), &(u64, u64))| {
        let document = stored.get(player).and_then(|documents| documents.get(key));
        document.and_then(|document| document.get("number")?.as_u64()) != Some(*number)
    };
    Ok(newest.iter().filter(is_missing).count())
}

/// The same documents in full batches, back to back, under numbers that the store would give next.
async fn send_all(game: &Game, newest: &Newest) -> Result<Duration> {
    let server_id = game.registration.server_id().context("not registered")?;
    let mut leases = HashMap::new();
    for players in game.players.chunks(MAX_LOAD) {
        let body = LoadPlayers { server_id: server_id.clone(), player_ids: players.to_vec() };
        for player in game.backend.load_players(&game.key, &body).await?.players {
            leases.insert(player.player_id, (player.epoch, player.sequence));
        }
    }
    let mut items = Vec::with_capacity(newest.len());
    let mut names: Vec<_> = newest.iter().collect();
    names.sort();
    for ((player_id, key), (number, _)) in names {
        let (epoch, sequence) = leases.get_mut(player_id).context("a player is held by somebody else")?;
        *sequence += 1;
        let (player_id, key) = (player_id.as_str().into(), key.as_str().into());
        let value = RawJson::from(&document(*number)?);
        items.push(BatchItem {
            player_id,
            key,
            epoch: *epoch,
            sequence: *sequence,
            value,
            loaded_version: None,
        });
    }
    let batches: Vec<Batch> = items
        .chunks(MAX_BATCH)
        .map(|items| Batch { server_id: server_id.clone(), items: items.to_vec() })
        .collect();
    let begin = Instant::now();
    for batch in &batches {
        let reply = game.backend.save_documents(&game.key, batch).await?;
        let applied = reply.results.iter().all(|result| result.outcome == SaveOutcome::Applied);
        ensure!(applied, "not applied: {:?}", reply.results.first());
    }
    Ok(begin.elapsed())
}

/// Resident memory of this process (proc_pid_status(5)) and bytes of the folder's files.
fn footprint(folder: &Path) -> Result<Footprint> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    let mut journal = 0;
    for entry in fs::read_dir(folder)? {
        journal += entry?.metadata()?.len();
    }
    Ok(Footprint { memory: kilobytes * 1024, journal })
}
