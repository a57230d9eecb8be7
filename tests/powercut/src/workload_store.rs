//! Saves as a game does: through the player store, in bursts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use backend_client::journal::JournalFolder;
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::{Event, Pace, PlayerStore, Setup};
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::content;
use crate::fake_backend::{FakeBackend, TIMEOUT};
use crate::protocol::{Line, Name, hash, monotonic};
use crate::report::report;

/// Saves until the process ends.
pub async fn run(
    folder: PathBuf,
    mut rng: Xoshiro256PlusPlus,
    players: &str,
    backend_takes: bool,
) -> Result<()> {
    let epoch = rng.random_range(1..1_000_000);
    let transport = FakeBackend::new(epoch, backend_takes, format!("server-{players}"));
    let (backend, registration) = transport.register().await?;
    report(&[Line::Opening]);
    let store = PlayerStore::new(Setup {
        backend,
        clock: Arc::new(SystemClock),
        registration,
        journal: Arc::new(JournalFolder::new(folder)),
        pace: Pace { debounce: Duration::from_millis(5), max_delay: Duration::from_millis(20) },
        on_event: Arc::new(report_event),
    });
    let count = rng.random_range(1..=8);
    let ids: Vec<String> = (0..count).map(|index| format!("{players}-{index}")).collect();
    for id in &ids {
        store.load(id, TIMEOUT).await?;
    }
    let mut number = 0;
    loop {
        let burst = if rng.random_ratio(1, 8) { 64 } else { rng.random_range(1..=8) };
        for _ in 0..burst {
            let player = ids[rng.random_range(0..ids.len())].clone();
            let name = Name { player, key: format!("document.{}", rng.random_range(0..3)), epoch };
            number += 1;
            let value = content::draw(&mut rng, number);
            report(&[Line::Try { name: name.clone(), number, hash: hash(&value)? }]);
            let revision = store.save(&name.player, &name.key, value)?;
            ensure!(revision == number, "{name}: revision {revision} for content {number}");
        }
        match rng.random_range(0..4) {
            0 => {}
            1 => tokio::time::sleep(Duration::from_micros(rng.random_range(0..5_000))).await,
            _ => {
                store.flush_local(TIMEOUT).await;
            }
        }
    }
}

/// Passes every acknowledgement on at once; a journal that fails here is a matter for the orchestrator.
fn report_event(event: Event) {
    match event {
        Event::Journalled(saves) => {
            let at = monotonic();
            let line = |save: backend_client::player_store::LocalSave| Line::Acknowledged {
                at,
                name: Name { player: save.player_id, key: save.key, epoch: save.epoch },
                sequence: save.sequence,
                number: save.revision,
            };
            report(&saves.into_iter().map(line).collect::<Vec<_>>());
        }
        Event::JournalFailed(_) | Event::JournalWarning(_) | Event::Conflicted { .. } => {
            eprintln!("{event:?}");
        }
        _ => {}
    }
}
