//! Files that are not what was written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::*;
use backend_simulation::Rng;

pub(super) const BACKEND: Option<&str> = Some("a");

pub(super) fn record(player: u64, sequence: i64) -> Record {
    let value =
        json!({ "n": sequence, "name": format!("the name of player {player}"), "ballast": "x".repeat(300) });
    let value = RawJson::from(value.as_object().expect("an object"));
    Record {
        player_id: format!("player-{player}"),
        key: "progress".into(),
        epoch: 3,
        sequence,
        value,
        loaded_version: None,
    }
}

pub(super) async fn open(folder: &Path) -> (Box<dyn Journal>, Recovered) {
    JournalFolder::new(folder).open(BACKEND).await.expect("opens")
}

/// A folder for what has to be done thousands of times: in memory, where there is such a place.
pub(super) fn passing_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("folder")
}

/// What a process found that is gone again.
pub(super) async fn found(folder: &Path) -> Recovered {
    let (journal, found) = open(folder).await;
    journal.close().await;
    found
}

/// Writes as a process that is killed then: the files as they are while it runs, in a folder of their own. `rest`: after a
/// quiet moment, in which the log is taken in.
pub(super) async fn killed(commits: i64, rest: bool) -> tempfile::TempDir {
    let (place, after) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let (mut journal, _) = open(place.path()).await;
    for number in 1..=commits {
        let saves = vec![record(number.unsigned_abs() % 20, number)];
        journal.write(&Changes { saves, ..Changes::default() }).await.expect("written");
        if rest && number == commits / 2 {
            journal.rest().await.expect("rests");
        }
    }
    for entry in fs::read_dir(place.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), after.path().join(entry.file_name())).expect("copied");
    }
    journal.close().await;
    after
}

pub(super) fn warned(found: &Recovered, words: &str) -> bool {
    found.warnings.iter().any(|warning| warning.contains(words))
}

/// A warning that names the file, folder and all.
pub(super) fn warned_of(found: &Recovered, file: &Path, words: &str) -> bool {
    let file = file.display().to_string();
    found.warnings.iter().any(|warning| warning.contains(&file) && warning.contains(words))
}

pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("damaged");
}

/// Flips a bit wherever `words` are: pages have copies of rows that were moved.
fn flip_in(path: &Path, words: &str) {
    let mut bytes = fs::read(path).expect("a file");
    let places: Vec<usize> = bytes
        .windows(words.len())
        .enumerate()
        .filter_map(|(at, found)| (found == words.as_bytes()).then_some(at))
        .collect();
    assert!(!places.is_empty(), "it is not there");
    for at in places {
        bytes[at + words.len() / 2] ^= 0x10;
    }
    fs::write(path, bytes).expect("damaged");
}

/// The same change of one file, by SQL.
pub(super) async fn execute(path: &Path, sql: &str) {
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let mut connection = options.connect().await.expect("opens");
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("executed");
    connection.close().await.expect("closes");
}

/// What SQLite passes on of a damaged schema is no text, at which sqlx's thread panics.
#[tokio::test]
async fn a_schema_that_is_no_text_stops_nothing() {
    let folder = killed(20, true).await;
    for file in ["journal-0.db", "journal-0.db-wal"] {
        let path = folder.path().join(file);
        let mut bytes = fs::read(&path).expect("a file");
        for at in 0..bytes.len().saturating_sub(4) {
            if bytes[at..].starts_with(b"TEXT") {
                bytes[at + 1] = 0xff;
            }
        }
        fs::write(path, bytes).expect("damaged");
    }
    let (mut journal, found) = open(folder.path()).await;
    assert!(warned(&found, "damaged"), "{:?}", found.warnings);
    let save = record(1, 21);
    journal.write(&Changes { saves: vec![save.clone()], ..Changes::default() }).await.expect("written");
    journal.close().await;
    let later = self::found(folder.path()).await;
    assert!(later.saves.contains(&save), "{:?}", later.saves);
}

#[tokio::test]
async fn one_flipped_bit_costs_one_save_and_is_told() {
    let folder = killed(20, true).await;
    let all = found(folder.path()).await.saves;
    assert_eq!(all.len(), 20);
    let file = folder.path().join("journal-0.db");
    flip_in(&file, "the name of player 7\"");
    let rest = found(folder.path()).await;
    let without: Vec<Record> = all.into_iter().filter(|record| record.player_id != "player-7").collect();
    assert_eq!(sorted(rest.saves.clone()), sorted(without.clone()));
    assert!(warned_of(&rest, &file, "1 saves in /"), "{:?}", rest.warnings);
    // The next one has nothing to tell of it; a person finds it.
    let next = found(folder.path()).await;
    assert_eq!(sorted(next.saves.clone()), sorted(without));
    assert!(!warned(&next, "damaged"), "{:?}", next.warnings);
    let options = SqliteConnectOptions::new().filename(&file);
    let mut connection = options.connect().await.expect("opens");
    let kept: String = sqlx::query_scalar("SELECT CAST(player_id AS TEXT) FROM damaged")
        .fetch_one(&mut connection)
        .await
        .expect("a row");
    assert_eq!(kept, "player-7");
}

pub(super) fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|one, other| one.player_id.cmp(&other.player_id));
    records
}

#[tokio::test]
async fn a_damaged_file_is_kept_aside_and_what_it_has_is_sent() {
    let folder = killed(20, true).await;
    let all = found(folder.path()).await.saves;
    let file = folder.path().join("journal-0.db");
    // A page of the index.
    let options = SqliteConnectOptions::new().filename(&file);
    let mut connection = options.connect().await.expect("opens");
    let page: i64 =
        sqlx::query_scalar("SELECT rootpage FROM sqlite_master WHERE name LIKE 'sqlite_autoindex_saves%'")
            .fetch_one(&mut connection)
            .await
            .expect("an index");
    connection.close().await.expect("closes");
    let mut bytes = fs::read(&file).expect("a file");
    let from = usize::try_from(page - 1).expect("small") * 4_096;
    bytes[from..from + 64].fill(0);
    fs::write(&file, bytes).expect("damaged");
    let rest = found(folder.path()).await;
    assert_eq!(sorted(rest.saves.clone()), sorted(all));
    assert!(warned_of(&rest, &file, "is damaged"), "{:?}", rest.warnings);
    let names: Vec<PathBuf> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-")))
        .collect();
    assert!(!names.is_empty(), "the file is not kept");
    let next = found(folder.path()).await;
    assert_eq!(sorted(next.saves.clone()), sorted(rest.saves));
    assert!(!warned(&next, "damaged"), "{:?}", next.warnings);
}

/// Does something to a file.
type Spoil = fn(&Path);

#[tokio::test]
async fn a_log_that_was_cut_or_damaged_is_told() {
    for rest in [false, true] {
        let cases: [(&str, Spoil); 6] = [
            ("gone", |log| fs::remove_file(log).expect("removed")),
            ("empty", |log| fs::write(log, "").expect("emptied")),
            ("cut at its end", |log| cut(log, 99)),
            ("cut in the middle", |log| cut(log, 50)),
            ("damaged at its end", |log| damage(log, 97)),
            ("damaged in the middle", |log| damage(log, 50)),
        ];
        for (case, spoil) in cases {
            let folder = killed(40, rest).await;
            spoil(&folder.path().join("journal-0.db-wal"));
            let after = found(folder.path()).await;
            let file = folder.path().join("journal-0.db");
            assert!(warned_of(&after, &file, "commits are missing at the end of"), "{case}: {after:?}");
            assert!(!warned(&found(folder.path()).await, "missing"), "{case}: told once");
        }
    }
    let sound = killed(40, true).await;
    assert!(!warned(&found(sound.path()).await, "missing"));
}

fn cut(log: &Path, percent: u64) {
    let file = fs::File::options().write(true).open(log).expect("a log");
    let length = file.metadata().expect("its length").len();
    file.set_len(length * percent / 100).expect("cut");
}

fn damage(log: &Path, percent: u64) {
    let length = fs::metadata(log).expect("a log").len();
    flip(log, usize::try_from(length * percent / 100).expect("small"));
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_acknowledged_in_a_file_that_was_removed() {
    for file in ["", "journal-0.db", "journal-0.db-wal"] {
        let place = tempfile::tempdir().expect("folder");
        let folder = place.path().join("journal");
        let (mut journal, _) = open(&folder).await;
        journal.write(&Changes { saves: vec![record(1, 1)], ..Changes::default() }).await.expect("written");
        match file {
            "" => fs::remove_dir_all(&folder).expect("removed"),
            file => fs::remove_file(folder.join(file)).expect("removed"),
        }
        let outcome = journal.write(&Changes { saves: vec![record(2, 2)], ..Changes::default() }).await;
        assert!(matches!(outcome, Err(JournalError::Removed(_))), "{file}: {outcome:?}");
        let mut recovered = Recovered::default();
        assert!(journal.adopt(&mut recovered).await.is_err(), "{file}: noticed in a quiet hour too");
        // Another one is begun at once.
        let (mut next, _) = open(&folder).await;
        next.write(&Changes { saves: vec![record(2, 2)], ..Changes::default() }).await.expect("written");
        journal.close().await;
        next.write(&Changes { saves: vec![record(3, 3)], ..Changes::default() }).await.expect("written");
        next.close().await;
    }
}

#[tokio::test]
async fn a_file_of_the_first_format_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("journal-0.db");
    fs::write(&file, "").expect("made");
    for sql in [
        "PRAGMA journal_mode = WAL",
        "CREATE TABLE saves (player_id TEXT NOT NULL, document_key TEXT NOT NULL, epoch INTEGER NOT NULL, \
         sequence INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (player_id, document_key, epoch))",
        "CREATE TABLE servers (server_id TEXT PRIMARY KEY)",
        "INSERT INTO saves VALUES ('ada', 'progress', 3, 8, '{\"n\":8}'), ('eve', 'progress', 4, 1, '{\"n\"')",
        "INSERT INTO servers VALUES ('earlier')",
        "PRAGMA user_version = 1",
    ] {
        execute(&file, sql).await;
    }
    let (mut journal, recovered) = open(folder.path()).await;
    let value = RawJson::parse("{\"n\":8}".to_owned()).expect("JSON");
    let ada = Record {
        player_id: "ada".into(),
        key: "progress".into(),
        epoch: 3,
        sequence: 8,
        value,
        loaded_version: None,
    };
    assert_eq!(recovered.saves, std::slice::from_ref(&ada));
    assert_eq!(
        (&recovered.server_ids[..], &recovered.unproven_ids[..]),
        (&[][..], &["earlier".to_owned()][..])
    );
    assert!(warned_of(&recovered, &file, "1 saves in /"), "{:?}", recovered.warnings);
    journal.write(&Changes { saves: vec![record(1, 1)], ..Changes::default() }).await.expect("written");
    journal.rest().await.expect("rests");
    journal.close().await;
    assert_eq!(sorted(found(folder.path()).await.saves), sorted(vec![ada, record(1, 1)]));
}

#[tokio::test]
async fn a_file_of_a_later_format_is_left_alone() {
    let folder = killed(3, true).await;
    let file = folder.path().join("journal-0.db");
    // It says so in its ownership, too.
    execute(&file, "PRAGMA user_version = 5").await;
    execute(&file, "UPDATE journal SET format = 5, checksum = 7").await;
    let bytes = fs::read(&file).expect("a file");
    let after = found(folder.path()).await;
    assert_eq!(after.saves, []);
    assert!(warned_of(&after, &file, "is left alone: /"), "{:?}", after.warnings);
    assert!(
        warned_of(&after, &file, "has format 5, this version of the addon reads up to 4"),
        "{:?}",
        after.warnings
    );
    assert_eq!(fs::read(&file).expect("a file"), bytes);
}

/// Whatever is done to the files: the folder opens, nothing comes out that was not put in, and what is lost is told.
#[tokio::test]
async fn damage_yields_nothing_that_was_not_written() {
    let sources = [killed(30, false).await, killed(30, true).await];
    let mut rng = Rng::new(13);
    for round in 0..300 {
        let from = &sources[round % 2];
        let folder = passing_folder();
        let (mut flips, mut cut, mut counted) = (0, false, true);
        for name in ["journal-0.db", "journal-0.db-wal", "journal-0.db-count"] {
            let sound = fs::read(from.path().join(name)).expect("a file");
            let mut bytes = sound.clone();
            if rng.chance(700) {
                for _ in 0..=rng.below(4) {
                    let at = usize::try_from(rng.below(bytes.len().max(1) as u64)).expect("small");
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << rng.below(8);
                        flips += 1;
                    }
                }
            }
            if rng.chance(200) {
                bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).expect("small"));
                cut = true;
            }
            counted &= name != "journal-0.db-count" || bytes == sound;
            fs::write(folder.path().join(name), bytes).expect("written");
        }
        let (mut journal, after) = open(folder.path()).await;
        check_recovered(&after, folder.path(), counted, &format!("round {round}"));
        if flips <= 1 && !cut {
            let kept = files_kept_aside(folder.path());
            let lost = 20 - newest_in(&after);
            let logged = warned(&after, "commits are missing");
            assert!(lost <= 1 || kept == 1 || logged, "round {round}: one bit cost {lost} saves: {after:?}");
        }
        journal.write(&Changes { saves: vec![record(1, 99)], ..Changes::default() }).await.expect("goes on");
        journal.close().await;
    }
}

/// A bit of every page's head, of the log's head, and of each frame's.
#[tokio::test]
async fn one_bit_anywhere_costs_one_save_or_is_told() {
    let from = killed(30, true).await;
    for name in ["journal-0.db", "journal-0.db-wal"] {
        let length = fs::metadata(from.path().join(name)).expect("a file").len();
        for at in (0..usize::try_from(length).expect("small")).step_by(211) {
            let folder = passing_folder();
            for name in ["journal-0.db", "journal-0.db-wal", "journal-0.db-count"] {
                fs::copy(from.path().join(name), folder.path().join(name)).expect("copied");
            }
            flip(&folder.path().join(name), at);
            let after = found(folder.path()).await;
            let case = format!("{name} at {at}");
            check_recovered(&after, folder.path(), true, &case);
            let told = files_kept_aside(folder.path()) == 1 || warned(&after, "commits are missing");
            assert!(newest_in(&after) >= 19 || told, "{case}: {after:?}");
        }
    }
}

/// How many of the 20 documents came back as they were last.
fn newest_in(found: &Recovered) -> usize {
    (11..=30).filter(|number| found.saves.contains(&record(number % 20, number.cast_signed()))).count()
}

/// Those of which nobody says that everything was read.
fn files_kept_aside(folder: &Path) -> usize {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_database = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "db");
    let is_aside = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("damaged-") && !path.contains("damaged-salvaged-")
    };
    paths.filter(|path| is_database(path) && is_aside(path)).count()
}

/// Of [`killed`] with 30 commits: nothing was made up, and what is lost was told, with the file's name. A lost log is known
/// from the counter alone.
fn check_recovered(after: &Recovered, folder: &Path, counted: bool, case: &str) {
    let written: BTreeMap<String, Vec<i64>> = (1..=30).fold(BTreeMap::new(), |mut all, number: i64| {
        all.entry(record(number.unsigned_abs() % 20, number).player_id).or_insert_with(Vec::new).push(number);
        all
    });
    for save in &after.saves {
        let numbers = written.get(&save.player_id).map(Vec::as_slice).unwrap_or_default();
        assert!(numbers.contains(&save.sequence), "{case}: {save:?}");
        assert_eq!(*save, record(save.sequence.unsigned_abs() % 20, save.sequence), "{case}");
    }
    let told = warned_of(after, &folder.join("journal-0.db"), "");
    assert!(newest_in(after) == 20 || told || !counted, "{case}: lost without a word: {after:?}");
}
