//! What is counted where nothing was opened.

use super::*;
use crate::journal::{Changes, JournalFolder, Record};
use crate::player_store::RawJson;

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
