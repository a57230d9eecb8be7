//! Saves straight into the journal: one batch after another, as fast as it goes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use backend_client::journal::{Changes, JournalFolder, JournalSource as _, Record, Settled};
use backend_client::player_store::RawJson;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom as _;

use crate::content;
use crate::protocol::{Line, Name, hash, monotonic};
use crate::report::report;

/// Saves until the process ends.
pub async fn run(folder: PathBuf, mut rng: Xoshiro256PlusPlus, players: &str) -> Result<()> {
    report(&[Line::Opening]);
    let source = JournalFolder::new(folder);
    let (mut journal, recovered) = source.open(None).await?;
    let documents = rng.random_range(1..=24);
    let mut documents: Vec<(Name, i64)> = (0..documents)
        .map(|index| {
            let player = format!("{players}-{}", index % 7);
            (Name { player, key: format!("document.{index}"), epoch: rng.random_range(1..1_000_000) }, 0)
        })
        .collect();
    // What earlier processes left is with the backend at some time.
    let mut earlier = recovered.saves;
    let mut batch = Changes { server_id: Some(format!("server-{players}")), ..Changes::default() };
    loop {
        let mut tries = Vec::new();
        let mut acknowledgements = Vec::new();
        let size = if rng.random_ratio(1, 8) { 64 } else { rng.random_range(1..=8) };
        for _ in 0..size {
            let index = rng.random_range(0..documents.len());
            let (name, sequence) = &mut documents[index];
            *sequence += 1;
            let number = sequence.unsigned_abs();
            let value = content::draw(&mut rng, number);
            tries.push(Line::Try { name: name.clone(), number, hash: hash(&value)? });
            acknowledgements.push((name.clone(), *sequence, number));
            batch.saves.push(record(name, *sequence, value));
        }
        if rng.random_ratio(1, 8)
            && let Some((name, sequence)) = documents.choose(&mut rng)
        {
            let known = sequence - rng.random_range(0..3);
            batch.settled.push(settled(name, known));
            tries.push(Line::Settled { name: name.clone(), sequence: known });
        }
        if rng.random_ratio(1, 4)
            && let Some(left) = earlier.pop()
        {
            let name = Name { player: left.player_id, key: left.key, epoch: left.epoch };
            batch.settled.push(settled(&name, left.sequence));
            tries.push(Line::Settled { name, sequence: left.sequence });
        }
        report(&tries);
        journal.write(&batch).await?;
        let at = monotonic();
        let acknowledged = |(name, sequence, number)| Line::Acknowledged { at, name, sequence, number };
        report(&acknowledgements.into_iter().map(acknowledged).collect::<Vec<_>>());
        batch = Changes::default();
        if rng.random_ratio(1, 32) {
            journal.rest().await?;
        }
        if rng.random_ratio(1, 48) {
            journal.close().await;
            (journal, _) = source.open(None).await?;
        }
        if rng.random_ratio(1, 4) {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
        }
    }
}

fn record(name: &Name, sequence: i64, value: backend_client::player_store::Content) -> Record {
    let Name { player, key, epoch } = name.clone();
    let loaded_version = (sequence % 3 == 0).then_some(sequence);
    Record { player_id: player, key, epoch, sequence, value: RawJson::from(&value), loaded_version }
}

fn settled(name: &Name, sequence: i64) -> Settled {
    let Name { player, key, epoch } = name.clone();
    Settled { player_id: player, key, epoch, sequence }
}
