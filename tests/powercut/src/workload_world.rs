//! Saves chunks as a game does: through the world store, in bursts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use backend_client::platform::clock::SystemClock;
use backend_client::world_store::{Setup, WorldStore};
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::content;
use crate::fake_backend::{FakeBackend, TIMEOUT};
use crate::fake_worlds::{FakeWorlds, WorldVersion};
use crate::protocol::{Line, WORLD, chunk_name, hash, monotonic, number_of};
use crate::report::report;

/// Saves until the process ends.
pub async fn run(
    folder: PathBuf,
    world_version: PathBuf,
    mut rng: Xoshiro256PlusPlus,
    chunks: &str,
    backend_takes: bool,
) -> Result<()> {
    let epoch = rng.random_range(1..1_000_000);
    let (_, registration) =
        FakeBackend::new(epoch, backend_takes, format!("server-{chunks}")).register().await?;
    let backend = FakeWorlds {
        epoch,
        takes: backend_takes,
        version: WorldVersion(world_version),
        on_commit: Box::new(|chunk, content| {
            // Said before the reply, so that the world forgets no change earlier.
            let sequence = number_of(content).cast_signed();
            report(&[Line::Settled { name: chunk_name(chunk), sequence }]);
        }),
        objects: Mutex::default(),
    };
    report(&[Line::Opening]);
    let setup = Setup {
        backend: Arc::new(backend),
        clock: Arc::new(SystemClock),
        registration,
        folder,
        former_folders: Vec::new(),
        delay: Duration::from_millis(5),
        on_event: Arc::new(|_| {}),
    };
    let store = WorldStore::open(setup, WORLD, TIMEOUT).await?;
    let count = rng.random_range(1..=24);
    let mut numbers: HashMap<String, u64> = HashMap::new();
    loop {
        let burst = if rng.random_ratio(1, 8) { 48 } else { rng.random_range(1..=6) };
        for _ in 0..burst {
            let chunk = format!("{chunks}/{}", rng.random_range(0..count));
            let number = numbers.entry(chunk.clone()).or_default();
            *number += 1;
            let number = *number;
            let content = content::draw(&mut rng, number);
            let name = chunk_name(&chunk);
            report(&[Line::Try { name: name.clone(), number, hash: hash(&content)? }]);
            let acknowledgement = store.put(&chunk, serde_json::to_vec(&content)?)?;
            tokio::spawn(async move {
                match acknowledgement.done().await {
                    Ok(()) => {
                        let sequence = number.cast_signed();
                        report(&[Line::Acknowledged { at: monotonic(), name, sequence, number }]);
                    }
                    // After the cut: the disk is gone.
                    Err(error) => eprintln!("{name}: {error}"),
                }
            });
        }
        match rng.random_range(0..4) {
            0 => tokio::task::yield_now().await,
            1 => tokio::time::sleep(Duration::from_micros(rng.random_range(0..5_000))).await,
            _ => {
                store.flush_local(TIMEOUT).await;
            }
        }
    }
}
