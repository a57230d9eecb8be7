//! Whose saves a journal has, and whose death is known.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

fn record(sequence: i64) -> Record {
    let value = json!({ "n": sequence }).as_object().cloned().expect("an object");
    Record {
        player_id: "ada".into(),
        key: "progress".into(),
        epoch: 1,
        sequence,
        value: RawJson::from(&value),
        loaded_version: None,
    }
}

/// A process that saved this for `backend` and died.
async fn left(folder: &Path, backend: Option<&str>, sequence: i64, server_id: &str) {
    let (mut journal, _) = JournalFolder::new(folder).open(backend).await.expect("opens");
    let changes = Changes {
        saves: vec![record(sequence)],
        server_id: Some(server_id.to_owned()),
        ..Changes::default()
    };
    journal.write(&changes).await.expect("written");
    journal.close().await;
}

/// What a process of `backend` finds.
async fn found(folder: &Path, backend: Option<&str>) -> Recovered {
    let (journal, found) = JournalFolder::new(folder).open(backend).await.expect("opens");
    journal.close().await;
    found
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

fn told(found: &Recovered, words: &str) -> bool {
    found.warnings.iter().any(|warning| warning.contains(words))
}

#[tokio::test]
async fn saves_for_another_backend_are_kept_for_a_server_of_that_one() {
    let folder = tempfile::tempdir().expect("folder");
    left(folder.path(), Some("a"), 1, "of a").await;
    let (mut other, nothing) = JournalFolder::new(folder.path()).open(Some("b")).await.expect("opens");
    assert_eq!((&nothing.saves[..], &nothing.server_ids[..]), (&[][..], &[][..]));
    let file = folder.path().join("journal-0.db").display().to_string();
    let words = format!("{file} has 1 saves for another backend (a)");
    assert!(told(&nothing, &words), "{:?}", nothing.warnings);
    other.write(&Changes { saves: vec![record(7)], ..Changes::default() }).await.expect("written");
    let mut later = Recovered::default();
    other.adopt(&mut later).await.expect("looked");
    assert_eq!(later.saves, []);
    // While the other one runs, the right one comes.
    let right = found(folder.path(), Some("a")).await;
    assert_eq!((&right.saves[..], &right.server_ids[..]), (&[record(1)][..], &["of a".to_owned()][..]));
    other.close().await;
    assert_eq!(found(folder.path(), Some("b")).await.saves, [record(7)]);
    assert_eq!(found(folder.path(), Some("a")).await.saves, [record(1)]);
}

#[tokio::test]
async fn a_backend_that_does_not_tell_gets_what_nobody_claims() {
    let folder = tempfile::tempdir().expect("folder");
    left(folder.path(), None, 1, "untold").await;
    assert_eq!(found(folder.path(), None).await.saves, [record(1)]);
    // A backend that tells was an earlier version that did not: from then on the saves are its own.
    assert_eq!(found(folder.path(), Some("a")).await.saves, [record(1)]);
    assert_eq!(found(folder.path(), None).await.saves, []);
    assert_eq!(found(folder.path(), Some("b")).await.saves, []);
    assert_eq!(found(folder.path(), Some("a")).await.saves, [record(1)]);
}

#[tokio::test]
async fn files_in_which_all_is_settled_are_for_any_backend() {
    let folder = tempfile::tempdir().expect("folder");
    left(folder.path(), Some("a"), 1, "of a").await;
    let (mut journal, _) = JournalFolder::new(folder.path()).open(Some("a")).await.expect("opens");
    journal.clear().await.expect("cleared");
    journal.close().await;
    left(folder.path(), Some("b"), 2, "of b").await;
    assert!(!folder.path().join("journal-1.db").exists(), "the empty file was taken");
    assert_eq!(found(folder.path(), Some("b")).await.saves, [record(2)]);
}

#[tokio::test]
async fn what_is_left_is_counted_before_it_is_known_whose_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    let source = JournalFolder::new(folder.path().join("made later"));
    assert_eq!(source.count_unsent().await, Ok(0));
    assert!(!folder.path().join("made later").exists());
    left(folder.path(), Some("a"), 1, "of a").await;
    let source = JournalFolder::new(folder.path());
    let (mut running, _) = source.open(Some("b")).await.expect("opens");
    running.write(&Changes { saves: vec![record(9)], ..Changes::default() }).await.expect("written");
    assert_eq!(source.count_unsent().await, Ok(1), "not what a running process has");
    running.close().await;
    assert_eq!(source.count_unsent().await, Ok(2));
}

#[tokio::test]
async fn what_a_copy_has_is_sent_but_its_servers_may_be_running() {
    let (original, copied) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let (mut running, _) = JournalFolder::new(original.path()).open(Some("a")).await.expect("opens");
    let changes = Changes { saves: vec![record(1)], server_id: Some("running".into()), ..Changes::default() };
    running.write(&changes).await.expect("written");
    copy(original.path(), copied.path());
    for _ in 0..2 {
        let found = found(copied.path(), Some("a")).await;
        assert_eq!((&found.saves[..], &found.server_ids[..]), (&[record(1)][..], &[][..]));
    }
    // Beside a journal of its own, which the finder takes.
    let (third, fourth) = (tempfile::tempdir().expect("folder"), copied.path().join("journal-0.db"));
    let (own, _) = JournalFolder::new(third.path()).open(Some("a")).await.expect("opens");
    own.close().await;
    copy(original.path(), copied.path());
    for file in ["journal-0.db", "journal-0.db-wal"] {
        fs::copy(copied.path().join(file), third.path().join(file.replace('0', "1"))).expect("copied");
    }
    let beside = found(third.path(), Some("a")).await;
    assert_eq!((&beside.saves[..], &beside.server_ids[..]), (&[record(1)][..], &[][..]));
    assert_eq!(beside.unproven_ids, ["running"]);
    assert!(fourth.exists());
    running.close().await;
    let dead = found(original.path(), Some("a")).await;
    assert_eq!((&dead.saves[..], &dead.server_ids[..]), (&[record(1)][..], &["running".to_owned()][..]));
}

#[tokio::test]
async fn what_an_earlier_version_kept_elsewhere_is_taken_over() {
    let place = tempfile::tempdir().expect("folder");
    let former = place.path().join("127.0.0.1-8080--abc");
    left(&former, None, 1, "earlier").await;
    let absent = place.path().join("never there");
    let source = JournalFolder::new(place.path().join("127.0.0.1-8080-abc"))
        .with_former([former.clone(), absent.clone()]);
    assert_eq!(source.count_unsent().await, Ok(1));
    let (journal, found) = source.open(Some("a")).await.expect("opens");
    assert_eq!((&found.saves[..], &found.server_ids[..]), (&[record(1)][..], &["earlier".to_owned()][..]));
    journal.close().await;
    assert_eq!(JournalFolder::new(&former).count_unsent().await, Ok(0), "moved");
    assert!(!absent.exists());
}
