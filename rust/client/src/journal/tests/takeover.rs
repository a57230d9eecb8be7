//! Real files: who takes over what the dead left, and when.

use std::fs::File;

use serde_json::json;

use super::*;

fn record(sequence: i64) -> Record {
    let value = json!({ "n": sequence }).as_object().cloned().unwrap_or_default();
    Record {
        player_id: "ada".into(),
        key: "progress".into(),
        epoch: 1,
        sequence,
        value: RawJson::from(&value),
        loaded_version: None,
    }
}

fn saved(sequence: i64, server_id: &str) -> Changes {
    Changes { saves: vec![record(sequence)], server_id: Some(server_id.to_owned()), ..Changes::default() }
}

/// What `open` recovers, with the journal that it opened.
async fn open(folder: &JournalFolder) -> (Box<dyn Journal>, Recovered) {
    folder.open(None).await.expect("opens")
}

#[tokio::test]
async fn all_that_a_process_left_goes_to_one_other() {
    let place = tempfile::tempdir().expect("folder");
    let folder = JournalFolder::new(place.path());
    // A process whose first journal failed has two; the second is the newer.
    let (mut failed, _) = open(&folder).await;
    failed.write(&saved(1, "old")).await.expect("written");
    let (mut second, _) = open(&folder).await;
    second.write(&saved(2, "old")).await.expect("written");
    failed.close().await;
    second.close().await;

    let (one, other) = tokio::join!(folder.open(None), folder.open(None));
    let ((one, first), (other, last)) = (one.expect("opens"), other.expect("opens"));
    let (all, nothing) = if first.server_ids.is_empty() { (last, first) } else { (first, last) };
    assert_eq!(all.server_ids, ["old"]);
    assert_eq!(all.saves.iter().map(|save| save.sequence).max(), Some(2));
    assert_eq!(nothing, Recovered { warnings: nothing.warnings.clone(), ..Recovered::default() });
    one.close().await;
    other.close().await;

    let (again, kept) = open(&folder).await;
    assert_eq!((kept.saves, kept.server_ids), (vec![record(2)], vec!["old".to_owned()]));
    again.close().await;
}

#[tokio::test]
async fn what_somebody_left_who_died_later_is_taken_over_later() {
    let place = tempfile::tempdir().expect("folder");
    let folder = JournalFolder::new(place.path());
    let (mut dying, _) = open(&folder).await;
    dying.write(&saved(1, "dying")).await.expect("written");
    let (mut living, found) = open(&folder).await;
    assert_eq!(found.saves, []);
    living.write(&saved(7, "living")).await.expect("written");

    let mut found = Recovered::default();
    living.adopt(&mut found).await.expect("nobody has died");
    assert_eq!(found.saves, []);
    dying.close().await;
    living.adopt(&mut found).await.expect("taken over");
    assert_eq!(found.saves, [record(1)]);
    assert!(found.server_ids.contains(&"dying".to_owned()), "{found:?}");
    living.clear().await.expect("cleared");
    living.close().await;
    let (empty, found) = open(&folder).await;
    assert_eq!((found.saves, found.server_ids), (vec![], vec![]));
    empty.close().await;
}

#[tokio::test]
async fn while_somebody_else_takes_over_nothing_is_taken() {
    let place = tempfile::tempdir().expect("folder");
    let folder = JournalFolder::new(place.path());
    let (mut dead, _) = open(&folder).await;
    dead.write(&saved(1, "dead")).await.expect("written");
    dead.close().await;
    // A process that was stopped in the middle keeps the lock.
    let stopped = File::create(place.path().join("journals.lock")).expect("lock file");
    stopped.lock().expect("locked");

    let (mut own, found) = open(&folder).await;
    assert_eq!((found.saves, found.server_ids), (vec![], vec![]));
    own.write(&saved(2, "own")).await.expect("saves go on");
    let mut found = Recovered::default();
    own.adopt(&mut found).await.expect("later");
    assert_eq!(found, Recovered::default());
    stopped.unlock().expect("goes on");
    own.adopt(&mut found).await.expect("now");
    assert_eq!(found.saves, [record(1)]);
    own.close().await;
}
