//! How long a save takes to be safe on local disk, against one bare write and fdatasync of the same size.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use backend_client::player_store::Event;
use test_harness::backend::Backend;
use tokio::time::Instant;

use super::game::{DOCUMENT_BYTES, Events, Game, NEVER, document};
use super::times::Times;
use crate::results::Report;

const PART: &str = "local acknowledgement";
/// Saves of each kind in one round.
const PER_ROUND: u64 = 100;
/// Documents saved at once.
const BURST: usize = 64;
/// Bursts in one round.
const BURSTS: u64 = 4;

/// Measures in turns: one save at a time, a bare sync at a time, a burst at a time.
pub async fn measure(process: &Backend, folder: &Path, rounds: u64, report: &mut Report) -> Result<()> {
    let (mut game, mut events) = Game::start(&process.into(), &folder.join("journal"), NEVER).await?;
    game.welcome(BURST).await?;
    let mut bare = Bare::create(&folder.join("bare"))?;
    let mut singles = Times::default();
    let mut syncs = Times::default();
    let mut bursts = Times::default();
    let mut number = 0;
    for round in 0..=rounds {
        // The first round warms up.
        let warm = round > 0;
        for _ in 0..PER_ROUND {
            number += 1;
            let player = &game.players[usize::try_from(number)? % BURST];
            let content = document(number)?;
            let begin = Instant::now();
            game.store.save(player, "progress", content)?;
            let at = acknowledged(&mut events, 1).await?;
            if warm {
                singles.add_all(begin, &at);
            }
        }
        for _ in 0..PER_ROUND {
            let took = bare.append()?;
            if warm {
                syncs.add(took);
            }
        }
        for _ in 0..BURSTS {
            number += 1;
            let contents = (0..BURST).map(|_| document(number)).collect::<Result<Vec<_>>>()?;
            let begin = Instant::now();
            for (player, content) in game.players.iter().zip(contents) {
                game.store.save(player, "progress", content)?;
            }
            let at = acknowledged(&mut events, BURST).await?;
            if warm {
                bursts.add_all(begin, &at);
            }
        }
    }
    syncs.add_to(report, PART, "bare write and fdatasync of 2 KiB");
    singles.add_to(report, PART, "one save of 2 KiB at a time");
    bursts.add_to(report, PART, "each of 64 saves at once");
    let ratio = |times: &mut Times, syncs: &mut Times, share| times.quantile(share) / syncs.quantile(share);
    report.figure(PART, "one at a time against bare, p50", ratio(&mut singles, &mut syncs, 0.5), "x");
    report.figure_at_most(
        PART,
        "one at a time against bare, p99",
        ratio(&mut singles, &mut syncs, 0.99),
        "x",
        3.0,
    );
    report.figure(PART, "64 at once against bare, p99", ratio(&mut bursts, &mut syncs, 0.99), "x");
    Ok(())
}

/// Waits for `count` acknowledgements, and says when each was given.
async fn acknowledged(events: &mut Events, count: usize) -> Result<Vec<Instant>> {
    let mut moments = Vec::with_capacity(count);
    while moments.len() < count {
        match events.recv().await.context("the store is gone")? {
            (at, Event::Journalled(saves)) => moments.extend(saves.iter().map(|_| at)),
            (_, Event::JournalFailed(error)) => bail!("the journal failed: {error}"),
            _ => {}
        }
    }
    Ok(moments)
}

/// A file that grows, as any log does.
struct Bare(File);

impl Bare {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(file))
    }

    fn append(&mut self) -> Result<Duration> {
        let bytes = [b'x'; DOCUMENT_BYTES];
        let begin = Instant::now();
        self.0.write_all(&bytes)?;
        self.0.sync_data()?;
        Ok(begin.elapsed())
    }
}
