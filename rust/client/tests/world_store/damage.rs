//! Local copies of worlds whose index is not what was written.

use backend_simulation::Rng;

use super::*;

pub const NAME: &str = "terrain/0,0";

/// The local copy of a process that was killed during an outage: its files as they were then. The backend has `first`,
/// `second` is in the log alone.
pub async fn killed(backend: &Arc<SimulatedWorlds>) -> TempDir {
    let (running, copied) = (folder(), folder());
    let (store, _news) = open(backend, running.path()).await;
    put(&store, NAME, b"first").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.outage(true);
    put(&store, NAME, b"second").await;
    left_behind::copy(running.path(), copied.path());
    drop(store);
    // In the same files, for a copy of them would be another one.
    left_behind::copy(copied.path(), running.path());
    backend.outage(false);
    running
}

pub fn index(folder: &TempDir) -> PathBuf {
    folder.path().join("overworld/index.db")
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("overworld/index.db-wal")
}

pub fn is_put_aside(news: &News) -> bool {
    news.lock().expect("not poisoned").iter().any(|event| matches!(event, Event::PutAside { .. }))
}

/// Moves the log into the file, and changes the row by SQL: such a row has the checksum of another.
pub async fn execute(path: &Path, sql: &'static str) {
    use sqlx::{ConnectOptions, Connection};
    let mut connection =
        sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await.expect("opens");
    sqlx::query(sql).execute(&mut connection).await.expect("executed");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_changed_row_is_committed_nowhere_and_put_aside() {
    for change in [
        "UPDATE changes SET name = 'terrain/0,1'",
        "UPDATE changes SET sequence = sequence + 1",
        "UPDATE changes SET hash = NULL, bytes = NULL, stored_bytes = NULL",
        "UPDATE changes SET bytes = bytes + 1",
        "UPDATE changes SET checksum = NULL",
        "UPDATE changes SET hash = x'ff'",
        "UPDATE session SET epoch = epoch + 1",
        "UPDATE session SET sequence = sequence + 1",
        "UPDATE session SET version = version + 1",
        "UPDATE session SET server_id = 'another'",
        "UPDATE session SET backend = NULL",
        "DROP TABLE commits",
        "ALTER TABLE changes DROP COLUMN checksum",
    ] {
        let backend = SimulatedWorlds::new();
        let folder = killed(&backend).await;
        execute(&index(&folder), change).await;
        let (store, news) = open(&backend, folder.path()).await;
        assert!(is_put_aside(&news), "{change}");
        assert_eq!(read(&store, NAME).await, b"first", "{change}");
        assert_eq!(backend.contents(), HashMap::from([(NAME.to_owned(), b"first".to_vec())]), "{change}");
        put(&store, NAME, b"third").await;
        assert_eq!(store.flush(TIMEOUT).await.unsaved, 0, "{change}");
    }
}

/// The number of a commit that is missing here may stand for something else at the backend.
#[tokio::test]
async fn of_a_log_that_was_cut_no_number_is_given_again() {
    let (backend, running, sound) = (SimulatedWorlds::new(), folder(), folder());
    let (store, _news) = open(&backend, running.path()).await;
    put(&store, NAME, b"first").await;
    // So that an object of this content stays.
    put(&store, "other", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.trouble("commit_world", &[Trouble::Unavailable; 1_000]);
    let calls = backend.calls("commit_world");
    put(&store, NAME, b"second").await;
    until(|| backend.calls("commit_world") > calls).await;
    // These wait for the next number.
    put(&store, "waiting", b"one").await;
    put(&store, "waiting", b"two").await;
    backend.calm();
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    left_behind::copy(running.path(), sound.path());
    drop(store);
    backend.released();
    let (backup, before) = (backend.back_up(), backend.contents());
    let length = fs::metadata(log(&sound)).expect("a log").len();
    // A frame of the log is a page of 4 KiB and its header.
    for end in (0..length).step_by(4_120) {
        backend.restore(backup.clone());
        // In the same files: a copy may give no numbers in any case.
        left_behind::copy(sound.path(), running.path());
        let file = fs::File::options().write(true).open(log(&running)).expect("a log");
        file.set_len(end).expect("cut");
        let (store, _news) = open(&backend, running.path()).await;
        assert_eq!(store.flush(TIMEOUT).await.unsaved, 0, "{end}");
        assert_eq!(backend.contents(), before, "{end}: what was committed is still there");
        for (name, content) in &before {
            assert_eq!(read(&store, name).await, *content, "{end}: {name}");
        }
        assert_eq!(store.close(TIMEOUT).await.unsaved, 0, "{end}");
    }
}

#[tokio::test]
async fn whatever_is_damaged_the_world_opens_and_nothing_is_made_up() {
    let backend = SimulatedWorlds::new();
    let (folder, sound) = (killed(&backend).await, folder());
    left_behind::copy(folder.path(), sound.path());
    let backup = backend.back_up();
    let mut rng = Rng::new(14);
    for trial in 0..60 {
        backend.restore(backup.clone());
        left_behind::copy(sound.path(), folder.path());
        for _ in 0..=rng.below(4) {
            let path = if rng.below(2) == 0 { index(&folder) } else { log(&folder) };
            let mut bytes = fs::read(&path).expect("a file");
            if bytes.is_empty() {
                continue;
            }
            let at = usize::try_from(rng.below(bytes.len() as u64)).expect("small");
            if rng.below(4) == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= u8::try_from(1 + rng.below(255)).expect("a byte");
            }
            fs::write(path, bytes).expect("damaged");
        }
        let (store, _news) = open(&backend, folder.path()).await;
        assert_eq!(store.flush(TIMEOUT).await.unsaved, 0, "{trial}");
        let contents = backend.contents();
        assert_eq!(contents.keys().collect::<Vec<_>>(), [NAME], "{trial}");
        assert!([b"first".to_vec(), b"second".to_vec()].contains(&contents[NAME]), "{trial}: {contents:?}");
        put(&store, NAME, b"third").await;
        assert_eq!(store.close(TIMEOUT).await.unsaved, 0, "{trial}");
        assert_eq!(backend.content(NAME), Some(b"third".to_vec()), "{trial}");
    }
}
