//! Damaged files of another backend, and files that somebody else kept aside.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::damage::{execute, found, killed, record, sorted, warned_of};
use super::*;

const OTHER: Option<&str> = Some("b");
const PAGE: usize = 4_096;

fn all() -> Vec<Record> {
    sorted((1..=20).map(|number| record(number % 20, number.cast_signed())).collect())
}

/// A sound journal of backend `a`.
async fn journal() -> (tempfile::TempDir, PathBuf) {
    let folder = killed(20, true).await;
    let file = folder.path().join("journal-0.db");
    assert_eq!(sorted(found(folder.path()).await.saves), all());
    (folder, file)
}

async fn wipe_first_page_of(file: &Path, name: &str) {
    change_first_page_of(file, name, |page| page[..64].fill(0)).await;
}

async fn change_first_page_of(file: &Path, name: &str, change: impl FnOnce(&mut [u8])) {
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await.expect("opens");
    let page: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_master WHERE name = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .expect("a page");
    connection.close().await.expect("closes");
    let mut bytes = fs::read(file).expect("a file");
    let from = usize::try_from(page - 1).expect("small") * PAGE;
    change(&mut bytes[from..from + PAGE]);
    fs::write(file, bytes).expect("damaged");
}

/// What a process of backend `b` finds.
async fn found_by_other(folder: &Path) -> Recovered {
    let (mut journal, found) = JournalFolder::new(folder).open(OTHER).await.expect("opens");
    let mut later = Recovered::default();
    journal.adopt(&mut later).await.expect("looked");
    assert_eq!(later.saves, []);
    journal.close().await;
    found
}

#[tokio::test]
async fn a_damaged_journal_of_another_backend_waits_for_its_own() {
    for page in ["sqlite_autoindex_saves_1", "journal", "servers"] {
        let (folder, file) = journal().await;
        wipe_first_page_of(&file, page).await;
        let bytes = fs::read(&file).expect("a file");
        for _ in 0..2 {
            let other = found_by_other(folder.path()).await;
            assert_eq!(other.saves, [], "{page}");
            assert!(warned_of(&other, &file, "for another backend"), "{page}: {:?}", other.warnings);
            assert!(warned_of(&other, &file, "is damaged"), "{page}: {:?}", other.warnings);
            assert_eq!(fs::read(&file).expect("it is there"), bytes, "{page}");
        }
        let unsent = JournalFolder::new(folder.path()).count_unsent().await;
        assert_eq!(unsent, Ok(20), "{page}: nobody has sent them");
        let own = found(folder.path()).await;
        assert_eq!(sorted(own.saves), all(), "{page}");
        assert!(warned_of(
            &Recovered { warnings: own.warnings, ..Recovered::default() },
            &file,
            "is damaged"
        ));
        assert!(fs::read(&file).map_or(true, |now| now != bytes), "{page}: it is kept aside");
    }
}

#[tokio::test]
async fn a_changed_ownership_makes_nobody_the_owner() {
    let (folder, file) = journal().await;
    // To the very name of the other one.
    execute(&file, "UPDATE journal SET backend = 'b'").await;
    let other = found_by_other(folder.path()).await;
    assert_eq!(other.saves, []);
    assert_eq!(sorted(found(folder.path()).await.saves), all());
}

/// Nobody can say whose it is: it goes out of the way, is told, and counts as unsent.
#[tokio::test]
async fn a_file_that_nobody_can_read_is_kept_aside_and_counted() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("journal-0.db");
    fs::write(&file, "no journal at all ".repeat(500)).expect("written");
    let source = JournalFolder::new(folder.path());
    assert_eq!(source.count_unsent().await, Ok(1));
    let other = found_by_other(folder.path()).await;
    assert!(warned_of(&other, &file, "nothing in it says for which backend it is"), "{:?}", other.warnings);
    for _ in 0..2 {
        assert_eq!(source.count_unsent().await, Ok(1), "somebody was told, but nobody has it");
        assert_eq!(found(folder.path()).await.warnings, [] as [String; 0]);
    }
}

/// Nobody knows what became of its saves meanwhile: a person has to look at it, and until then it counts.
#[tokio::test]
async fn what_was_kept_aside_counts_until_somebody_has_taken_it_away() {
    let (folder, file) = journal().await;
    let aside = folder.path().join("damaged-0123-journal-0.db");
    fs::rename(&file, &aside).expect("renamed");
    let source = JournalFolder::new(folder.path());
    for _ in 0..2 {
        assert_eq!(source.count_unsent().await, Ok(20));
        assert_eq!(found(folder.path()).await.saves, []);
    }
    fs::remove_file(aside).expect("removed");
    assert_eq!(source.count_unsent().await, Ok(0));
}

/// A page that says of itself that it is the last of its tree: the rows below it are gone without an error.
#[tokio::test]
async fn rows_that_are_hidden_without_an_error_still_count() {
    let (folder, file) = journal().await;
    change_first_page_of(&file, "saves", |page| page[0] = 13).await;
    let own = found(folder.path()).await;
    assert!(own.saves.len() < 20, "{}", own.saves.len());
    assert!(warned_of(&own, &file, "others cannot be read"), "{:?}", own.warnings);
    let left = JournalFolder::new(folder.path()).count_unsent().await.expect("counted");
    assert!(left > own.saves.len(), "{left} are counted");
}
