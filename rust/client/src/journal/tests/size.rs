//! How much of the disk a journal takes.

use std::path::Path;

use serde_json::json;

use super::*;

/// The log, some free pages, and what a handful of documents takes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

fn record(player: u64, sequence: i64, letters: usize) -> Record {
    let value = json!({ "n": sequence, "ballast": "x".repeat(letters) });
    let value = RawJson::from(value.as_object().expect("an object"));
    Record {
        player_id: format!("player-{player}"),
        key: "progress".into(),
        epoch: 1,
        sequence,
        value,
        loaded_version: None,
    }
}

fn settled(record: &Record) -> Settled {
    let Record { player_id, key, epoch, sequence, .. } = record.clone();
    Settled { player_id, key, epoch, sequence }
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").metadata().expect("its size").len()).sum()
}

#[tokio::test]
async fn small_saves_that_go_on_take_no_more_and_no_more_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = JournalFolder::new(folder.path());
    let (mut journal, _) = source.open(Some("a")).await.expect("opened");
    let (mut largest, mut before) = (0, None);
    // Never a quiet moment. Their pages in the log are some 48 MiB.
    for number in 1..=3_000 {
        let save = record(number % 8, i64::try_from(number).expect("small"), 40);
        let changes = Changes {
            settled: before.iter().map(settled).collect(),
            saves: vec![save.clone()],
            ..Changes::default()
        };
        journal.write(&changes).await.expect("written");
        before = Some(save);
        largest = largest.max(bytes_in(folder.path()));
    }
    assert!(largest < MAX_BYTES, "{largest} bytes for 8 documents of 100");
    journal.close().await;
    let (journal, recovered) = source.open(Some("a")).await.expect("opened again");
    assert_eq!(recovered.saves, Vec::from_iter(before));
    journal.close().await;
}

#[tokio::test]
async fn space_of_what_is_sent_is_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = JournalFolder::new(folder.path());
    let (mut journal, _) = source.open(Some("a")).await.expect("opened");
    // An outage: 32 MiB wait.
    let saves: Vec<Record> = (0..512).map(|player| record(player, 1, 64 * 1024)).collect();
    for saves in saves.chunks(64) {
        journal.write(&Changes { saves: saves.to_vec(), ..Changes::default() }).await.expect("written");
    }
    assert!(bytes_in(folder.path()) > 4 * MAX_BYTES);
    let changes = Changes { settled: saves.iter().map(settled).collect(), ..Changes::default() };
    journal.write(&changes).await.expect("settled");
    journal.rest().await.expect("a quiet moment");
    let bytes = bytes_in(folder.path());
    assert!(bytes < MAX_BYTES, "{bytes} bytes for nothing");
    journal.close().await;
}
