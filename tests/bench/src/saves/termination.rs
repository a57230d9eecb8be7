//! SIGTERM: every player has a changed document, and all of them have to be safe, with and without a backend.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use test_harness::backend::Backend;
use test_harness::process::Process;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::game::{Game, NEVER, Place, WAIT_TIMEOUT};
use super::game_server::{line, monotonic};
use super::outage::{Newest, missing};
use super::times::{Times, milliseconds};
use crate::results::Report;

const PART: &str = "SIGTERM";
const WITHOUT: &str = "SIGTERM without backend";
/// From DESIGN §5.
const LOCAL_GOAL_MS: f64 = 250.0;
const BACKEND_GOAL_MS: f64 = 2_000.0;
/// Exit code of a server that left something in its journal.
const LEFT_IN_JOURNAL: i32 = 75;

/// How much there is to do.
#[derive(Clone, Copy)]
pub struct Size {
    players: usize,
    /// Servers that are ended with a backend, and without.
    with: u64,
    without: u64,
    grace: Duration,
}

impl Size {
    /// A thousand players.
    pub const FULL: Self = Self { players: 1_000, with: 50, without: 3, grace: Duration::from_secs(10) };
    /// Just enough to see that it works.
    pub const QUICK: Self = Self { players: 20, with: 1, without: 1, grace: Duration::from_secs(2) };
}

/// What one server did from SIGTERM on.
struct Ended {
    handed_in: Duration,
    local: Duration,
    sent: Duration,
    exit: Duration,
    code: i32,
}

/// Starts servers in processes of their own and ends them, one after another.
pub fn measure(
    process: &mut Backend,
    runtime: &Runtime,
    folder: &Path,
    size: Size,
    report: &mut Report,
) -> Result<()> {
    let ids = runtime.block_on(async {
        let (mut game, _events) = Game::start(&(&*process).into(), &folder.join("accounts"), NEVER).await?;
        game.welcome(size.players).await?;
        game.store.release_all(WAIT_TIMEOUT).await;
        game.registration.deregister().await?;
        anyhow::Ok(game.players)
    })?;
    let players = folder.join("players.txt");
    fs::write(&players, ids.join("\n"))?;
    let journal = folder.join("journal");
    let mut number = 0;
    let mut next = |process: &mut Backend, with_backend: bool| {
        number += 1;
        let ended = end(process, &journal, &players, number, size.grace, with_backend)?;
        let newest = ids.iter().map(|id| ((id.clone(), "progress".to_owned()), (number, 1))).collect();
        anyhow::Ok((ended, newest))
    };
    with_backend(process, size, &mut next, report)?;
    without_backend(process, runtime, &journal, size, &mut next, report)
}

type Next<'a> = dyn FnMut(&mut Backend, bool) -> Result<(Ended, Newest)> + 'a;

fn with_backend(process: &mut Backend, size: Size, next: &mut Next<'_>, report: &mut Report) -> Result<()> {
    let mut handed_in = Times::default();
    let mut local = Times::default();
    let mut sent = Times::default();
    let mut exit = Times::default();
    let mut lost = 0;
    for _ in 0..size.with {
        let (ended, newest) = next(process, true)?;
        ensure!(ended.code == 0, "a server with a backend ended with exit code {}", ended.code);
        handed_in.add(ended.handed_in);
        local.add(ended.local);
        sent.add(ended.sent);
        exit.add(ended.exit);
        lost += missing(process, &newest)?;
    }
    report.figure(PART, "players, each with a changed document of 2 KiB", size.players as f64, "");
    report.figure(PART, "servers ended", size.with as f64, "");
    report.figure_at_most(PART, "documents lost", lost as f64, "", 0.0);
    report.figure(PART, "all save() calls of the main thread, p99", handed_in.quantile(0.99), "ms");
    report.figure(PART, "SIGTERM until all are durable locally, p50", local.quantile(0.5), "ms");
    let p99 = local.quantile(0.99);
    report.figure_at_most(PART, "SIGTERM until all are durable locally, p99", p99, "ms", LOCAL_GOAL_MS);
    report.figure(PART, "SIGTERM until all are at the backend, p50", sent.quantile(0.5), "ms");
    let p99 = sent.quantile(0.99);
    report.figure_at_most(PART, "SIGTERM until all are at the backend, p99", p99, "ms", BACKEND_GOAL_MS);
    report.figure(PART, "SIGTERM until the process is gone, p99", exit.quantile(0.99), "ms");
    Ok(())
}

fn without_backend(
    process: &mut Backend,
    runtime: &Runtime,
    journal: &Path,
    size: Size,
    next: &mut Next<'_>,
    report: &mut Report,
) -> Result<()> {
    let mut local = Times::default();
    let mut exit = Times::default();
    let mut delivered = Times::default();
    let mut lost = 0;
    for _ in 0..size.without {
        let (ended, newest) = next(process, false)?;
        ensure!(ended.code == LEFT_IN_JOURNAL, "a server without a backend ended with {}", ended.code);
        local.add(ended.local);
        exit.add(ended.exit);
        process.resume()?;
        delivered.add(runtime.block_on(deliver(&(&*process).into(), journal))?);
        lost += missing(process, &newest)?;
    }
    report.figure(WITHOUT, "servers ended", size.without as f64, "");
    report.figure_at_most(WITHOUT, "documents lost after the next start", lost as f64, "", 0.0);
    let most = local.quantile(1.0);
    report.figure_at_most(
        WITHOUT,
        "SIGTERM until all are durable locally, at most",
        most,
        "ms",
        LOCAL_GOAL_MS,
    );
    let (most, grace) = (exit.quantile(1.0), milliseconds(size.grace));
    report.figure_at_most(WITHOUT, "SIGTERM until the process is gone, at most", most, "ms", grace);
    report.figure(WITHOUT, "next start until all are at the backend, at most", delivered.quantile(1.0), "ms");
    Ok(())
}

/// One server from its start to its end.
fn end(
    backend: &mut Backend,
    journal: &Path,
    players: &Path,
    number: u64,
    grace: Duration,
    with_backend: bool,
) -> Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("game-server")
        .args(["--url", &backend.url()])
        .arg("--key-file")
        .arg(backend.server_key_file());
    command.arg("--journal").arg(journal).arg("--players").arg(players);
    command.args(["--number", &number.to_string(), "--grace-ms", &grace.as_millis().to_string()]);
    let mut server = Process::start("game-server", command)?;
    server.log().wait_for(line::READY)?;
    if !with_backend {
        backend.kill()?;
    }
    let sigterm = monotonic();
    server.signal(Signal::TERM)?;
    let status = server.wait()?;
    let gone = monotonic();
    let said = |what: &str| -> Result<u64> {
        let line = server.log().wait_for(what)?;
        Ok(line.trim_start_matches(what).parse()?)
    };
    let since = |moment: u64| Duration::from_nanos(moment.saturating_sub(sigterm));
    Ok(Ended {
        handed_in: Duration::from_nanos(said(line::HANDED_IN)?),
        local: since(said(line::LOCAL)?),
        sent: since(said(line::SENT)?),
        exit: since(gone),
        code: status.code().context("the server was killed")?,
    })
}

/// The next start, with nobody in it: how long it takes until everything that was left is with the backend.
async fn deliver(place: &Place, journal: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let (game, _events) = Game::start(place, journal, NEVER).await?;
    while game.store.is_recovering() || game.store.pending_count() > 0 {
        ensure!(begin.elapsed() < WAIT_TIMEOUT, "{} documents are not delivered", game.store.pending_count());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begin.elapsed();
    game.store.release_all(WAIT_TIMEOUT).await;
    game.registration.deregister().await?;
    Ok(took)
}
