//! What is counted where nothing was opened.

use std::path::Path;

use super::*;
use crate::journal::{Changes, JournalFolder, Record};
use crate::player_store::RawJson;
use crate::world_store::UnopenedWorld;

const LONG: Duration = Duration::from_secs(60);

fn journal(folder: &Path) -> UnopenedJournal {
    UnopenedJournal::new(Arc::new(JournalFolder::new(folder)))
}

async fn leave(folder: &Path, documents: i64) {
    let (mut journal, _) = JournalFolder::new(folder).open(None).await.expect("opens");
    let record = |number: i64| Record {
        player_id: "player".to_owned(),
        key: format!("key-{number}"),
        epoch: 1,
        sequence: number,
        value: RawJson::parse(r#"{"level":1}"#.to_owned()).expect("an object"),
        loaded_version: None,
    };
    let saves = (1..=documents).map(record).collect();
    journal.write(&Changes { saves, ..Changes::default() }).await.expect("written");
    journal.close().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_has_nothing_and_is_not_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("journal");
    let journal = journal(&missing);
    assert!(journal.pending().may_be_more, "before anybody looked");
    assert_eq!(journal.flush_local(LONG).await, 0);
    assert_eq!(journal.pending(), Pending::default());
    assert!(!missing.exists());
}

#[tokio::test]
async fn what_was_left_is_counted_and_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    leave(folder.path(), 4).await;
    for _again in 0..2 {
        let journal = journal(folder.path());
        journal.flush_local(LONG).await;
        assert_eq!(journal.pending(), Pending { documents: 4, journalled: 4, may_be_more: false });
        assert_eq!(journal.release(LONG).await.unsaved, 4);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_something() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("journal-0.db"), "no journal, and longer than nothing")
        .expect("written");
    let journal = journal(folder.path());
    journal.flush_local(LONG).await;
    let pending = journal.pending();
    assert!(pending.documents > 0 || pending.may_be_more, "{pending:?}");
}

/// Changes a file by SQL.
async fn execute(path: &Path, sql: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = options.connect().await.expect("opens");
    sqlx::query(sql).execute(&mut connection).await.expect("executed");
    connection.close().await.expect("closes");
}

async fn pending(folder: &Path) -> Pending {
    let journal = journal(folder);
    journal.flush_local(LONG).await;
    journal.pending()
}

fn four() -> Pending {
    Pending { documents: 4, journalled: 4, may_be_more: false }
}

/// They were acknowledged, and nobody has been told that they cannot be sent.
#[tokio::test]
async fn damaged_saves_count_until_somebody_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    leave(folder.path(), 4).await;
    let file = folder.path().join("journal-0.db");
    execute(&file, "UPDATE saves SET value = '{}'").await;
    assert_eq!(pending(folder.path()).await, four());
    let (opened, recovered) = JournalFolder::new(folder.path()).open(None).await.expect("opens");
    assert!(recovered.warnings.iter().any(|warning| warning.contains("4 saves in")), "{recovered:?}");
    opened.close().await;
    assert_eq!(pending(folder.path()).await, Pending::default());
}

#[tokio::test]
async fn saves_of_a_damaged_file_count() {
    let folder = tempfile::tempdir().expect("a folder");
    leave(folder.path(), 4).await;
    let file = folder.path().join("journal-0.db");
    execute(&file, "PRAGMA user_version = 0").await;
    assert_eq!(pending(folder.path()).await, four());
    std::fs::rename(&file, folder.path().join("damaged-1-journal-0.db")).expect("renamed");
    assert_eq!(pending(folder.path()).await, four());
}

#[tokio::test]
async fn a_log_that_was_cut_is_something() {
    let folder = tempfile::tempdir().expect("a folder");
    leave(folder.path(), 1).await;
    // As if a later commit had been lost with the log.
    let file = folder.path().join("journal-0.db");
    let (mut counter, number) = crate::journal::commit_counter::CommitCounter::open(&file);
    counter.note(number + 1);
    drop(counter);
    assert_eq!(pending(folder.path()).await.documents, 2);
}

#[tokio::test]
async fn a_world_that_was_put_aside_is_something() {
    let folder = tempfile::tempdir().expect("a folder");
    let aside = folder.path().join("overworld~damaged-1");
    std::fs::create_dir(&aside).expect("made");
    std::fs::write(aside.join("index.db"), "no index").expect("written");
    let world = UnopenedWorld::new(folder.path(), "overworld").expect("an id");
    world.flush_local(LONG).await;
    assert!(world.pending().may_be_more);
    let another = UnopenedWorld::new(folder.path(), "underworld").expect("an id");
    another.flush_local(LONG).await;
    assert_eq!(another.pending(), Pending::default());
}
