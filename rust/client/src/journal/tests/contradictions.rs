//! A header and an ownership that are not what was written.

use std::fs;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::super::format::FORMAT;
use super::super::ownership::FoundOwnership;
use super::damage::{execute, found, killed, passing_folder, record, sorted, warned_of};
use super::*;

/// Bytes of a SQLite file's header.
const HEADER: usize = 100;
/// Where the header has its `user_version`.
const USER_VERSION: std::ops::Range<usize> = 60..64;
const PAGE: usize = 4_096;

fn all() -> Vec<Record> {
    sorted((1..=20).map(|number| record(number % 20, number.cast_signed())).collect())
}

/// A journal of 20 documents, all in one file, and its bytes.
async fn journal() -> (tempfile::TempDir, Vec<u8>) {
    let folder = killed(20, true).await;
    assert_eq!(sorted(found(folder.path()).await.saves), all());
    let bytes = fs::read(folder.path().join("journal-0.db")).expect("a file");
    assert!(!folder.path().join("journal-0.db-wal").exists());
    (folder, bytes)
}

/// A folder with a journal that has these bytes, as the finder's own or beside it.
fn placed(bytes: &[u8], beside: bool) -> (tempfile::TempDir, PathBuf) {
    let folder = passing_folder();
    let file = folder.path().join(if beside { "journal-1.db" } else { "journal-0.db" });
    fs::write(&file, bytes).expect("written");
    (folder, file)
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).map(|path| fs::read(path).expect("a file")).collect()
}

/// Opens a folder with a damaged journal. Everything arrives, or the file is kept and told, with its name. Gives whether
/// everything arrived.
async fn is_recovered(bytes: &[u8], beside: bool, case: &str) -> bool {
    let (folder, file) = placed(bytes, beside);
    let after = found(folder.path()).await;
    for save in &after.saves {
        assert!(all().contains(save), "{case}: {save:?}");
    }
    let arrived = once(after.saves.clone()) == all();
    if !arrived {
        assert!(warned_of(&after, &file, ""), "{case}: lost without a word: {after:?}");
        let is_kept = files(folder.path()).iter().any(|kept| kept.get(HEADER..) == bytes.get(HEADER..));
        assert!(is_kept, "{case}: the file is not kept");
        let unsent = JournalFolder::new(folder.path()).count_unsent().await.expect("counted");
        assert!(
            unsent > once(after.saves.clone()).len(),
            "{case}: {unsent}, what is missing counts as nothing"
        );
    }
    // What was found is the journal of the next one.
    assert_eq!(once(found(folder.path()).await.saves), once(after.saves), "{case}: again");
    arrived
}

/// A file that cannot be emptied has what the journal of its finder has, too.
fn once(saves: Vec<Record>) -> Vec<Record> {
    let mut saves = sorted(saves);
    saves.dedup();
    saves
}

#[tokio::test]
async fn a_header_that_says_another_format_than_the_tables_costs_nothing() {
    let (_place, sound) = journal().await;
    for format in [0_i32, 1, 2, 3, 5, 7, 11, 0x0100_0004, -1, i32::MIN, i32::MAX] {
        let mut bytes = sound.clone();
        bytes[USER_VERSION].copy_from_slice(&format.to_be_bytes());
        for beside in [false, true] {
            let case = format!("format {format}, beside: {beside}");
            assert!(is_recovered(&bytes, beside, &case).await, "{case}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_of_the_header_deletes_nothing() {
    let (_place, sound) = journal().await;
    for at in 0..HEADER {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << bit;
            let beside = bit % 2 == 0;
            let arrived =
                is_recovered(&bytes, beside, &format!("byte {at}, bit {bit}, beside: {beside}")).await;
            assert!(arrived || !USER_VERSION.contains(&at), "byte {at}, bit {bit}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_of_the_ownership_costs_nothing() {
    let (place, sound) = journal().await;
    let file = place.path().join("journal-0.db");
    let mut connection = SqliteConnectOptions::new().filename(&file).connect().await.expect("opens");
    let page: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_master WHERE name = 'journal'")
        .fetch_one(&mut connection)
        .await
        .expect("a table");
    connection.close().await.expect("closes");
    let page = usize::try_from(page - 1).expect("small") * PAGE;
    // One row, at the end of its page; its place is after the page's own head of 8 bytes.
    let row = usize::from(u16::from_be_bytes([sound[page + 8], sound[page + 9]]));
    assert!(row > PAGE - 200 && sound[page + row..page + PAGE].windows(1).any(|text| text == b"a"), "{row}");
    for at in (0..10).chain(row..PAGE) {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[page + at] ^= 1 << bit;
            let beside = bit % 2 == 0;
            let case = format!("byte {at} of the page, row at {row}, bit {bit}, beside: {beside}");
            assert!(is_recovered(&bytes, beside, &case).await, "{case}");
        }
    }
}

/// Whatever format the header of a sound file says, everything arrives.
async fn header_costs_nothing(file: &Path, formats: [i32; 4]) {
    let sound = fs::read(file).expect("a file");
    for format in formats {
        let mut bytes = sound.clone();
        bytes[USER_VERSION].copy_from_slice(&format.to_be_bytes());
        for beside in [false, true] {
            let case = format!("format {format}, beside: {beside}");
            assert!(is_recovered(&bytes, beside, &case).await, "{case}");
        }
    }
}

/// Makes it a file of the second format.
async fn of_format_2(file: &Path) {
    for sql in [
        "ALTER TABLE saves DROP COLUMN loaded_version",
        "ALTER TABLE journal DROP COLUMN checksum",
        "ALTER TABLE journal DROP COLUMN format",
        "PRAGMA user_version = 2",
    ] {
        execute(file, sql).await;
    }
}

#[tokio::test]
async fn a_file_of_the_second_format_is_read_and_goes_on() {
    let (folder, _) = journal().await;
    let file = folder.path().join("journal-0.db");
    of_format_2(&file).await;
    let (mut journal, recovered) = damage::open(folder.path()).await;
    assert_eq!((sorted(recovered.saves), &recovered.warnings[..]), (all(), &[][..]));
    journal.write(&Changes { saves: vec![record(1, 99)], ..Changes::default() }).await.expect("written");
    journal.close().await;
    let mut later = all();
    later[..].iter_mut().filter(|save| save.player_id == "player-1").for_each(|save| *save = record(1, 99));
    let again = found(folder.path()).await;
    assert_eq!((sorted(again.saves), &again.warnings[..]), (sorted(later), &[][..]));
}

/// Makes it a file of the third format, with an ownership that is proven.
async fn of_format_3(file: &Path) {
    let mut connection = SqliteConnectOptions::new().filename(file).connect().await.expect("opens");
    let found = FoundOwnership::read(&mut connection, FORMAT).await.expect("read").expect("a row");
    let ownership = found.sound().expect("sound");
    ownership.note_commit(&mut connection, 3).await.expect("written");
    connection.close().await.expect("closed");
    for sql in [
        "ALTER TABLE saves DROP COLUMN loaded_version",
        "UPDATE journal SET format = 3",
        "PRAGMA user_version = 3",
    ] {
        execute(file, sql).await;
    }
}

#[tokio::test]
async fn a_file_of_the_third_format_is_read_and_takes_loaded_versions() {
    let (folder, _) = journal().await;
    let file = folder.path().join("journal-0.db");
    of_format_3(&file).await;
    let counted = JournalFolder::new(folder.path()).count_unsent().await.expect("counted");
    assert_eq!(counted, all().len());
    let (mut journal, recovered) = damage::open(folder.path()).await;
    assert_eq!((sorted(recovered.saves), &recovered.warnings[..]), (all(), &[][..]));
    let loaded = Record { loaded_version: Some(7), ..record(1, 99) };
    journal.write(&Changes { saves: vec![loaded.clone()], ..Changes::default() }).await.expect("written");
    journal.close().await;
    let mut later = all();
    later[..].iter_mut().filter(|save| save.player_id == "player-1").for_each(|save| *save = loaded.clone());
    let again = found(folder.path()).await;
    assert_eq!((sorted(again.saves), &again.warnings[..]), (sorted(later), &[][..]));
}

#[tokio::test]
async fn a_damaged_file_of_the_third_format_is_told_from_others_too() {
    let (folder, _) = journal().await;
    let file = folder.path().join("journal-0.db");
    of_format_3(&file).await;
    header_costs_nothing(&file, [0, 2, 4, 6]).await;
}

#[tokio::test]
async fn a_loaded_version_that_is_not_what_was_written_is_damage() {
    for (wrong, player) in [("NULL", "player-1"), ("8", "player-1"), ("7", "player-2")] {
        let (folder, _) = journal().await;
        let file = folder.path().join("journal-0.db");
        let (mut journal, _) = damage::open(folder.path()).await;
        let loaded = Record { loaded_version: Some(7), ..record(1, 99) };
        journal.write(&Changes { saves: vec![loaded], ..Changes::default() }).await.expect("written");
        journal.rest().await.expect("rests");
        journal.close().await;
        execute(&file, &format!("UPDATE saves SET loaded_version = {wrong} WHERE player_id = '{player}'"))
            .await;
        let after = found(folder.path()).await;
        let case = format!("{wrong} of {player}");
        assert!(after.saves.iter().all(|save| save.player_id != player), "{case}");
        assert_eq!(after.saves.len(), all().len() - 1, "{case}");
        assert!(warned_of(&after, &file, ""), "{case}: {:?}", after.warnings);
    }
}

#[tokio::test]
async fn a_damaged_file_of_the_second_format_is_told_from_a_later_one_too() {
    let (folder, _) = journal().await;
    let file = folder.path().join("journal-0.db");
    of_format_2(&file).await;
    header_costs_nothing(&file, [0, 3, 4, 6]).await;
    // Nothing proves its ownership, but its rows do.
    execute(&file, "UPDATE journal SET backend = 'q'").await;
    let bytes = fs::read(&file).expect("a file");
    for beside in [false, true] {
        assert!(is_recovered(&bytes, beside, &format!("another backend, beside: {beside}")).await);
    }
}

/// Rows that a person may look at are not thrown away with a file on a full disk.
#[tokio::test]
async fn a_file_with_damaged_rows_is_not_taken_for_settled() {
    let (folder, _) = journal().await;
    let file = folder.path().join("journal-0.db");
    execute(&file, "INSERT INTO damaged (player_id) VALUES ('ada')").await;
    let mut opened = file::JournalFile::open(&file).await.expect("opens");
    opened.clear().await.expect("cleared");
    assert!(!opened.is_settled_by(&Changes::default(), None).await);
    opened.close().await;
    execute(&file, "DELETE FROM damaged").await;
    let mut opened = file::JournalFile::open(&file).await.expect("opens");
    assert!(opened.is_settled_by(&Changes::default(), None).await);
    opened.close().await;
}
