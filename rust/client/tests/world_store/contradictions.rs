//! Indexes whose header, or whose row about the file itself, is not what was written; and damaged ones of another backend.

use super::damage::{NAME, execute, index, is_put_aside, killed};
use super::*;

const HEADER: usize = 100;
/// Where the header has its `user_version`.
const USER_VERSION: std::ops::Range<usize> = 60..64;
const PAGE: usize = 4_096;

/// The local copy of a process that was killed with `second` unsent, all of it in the file.
async fn left(backend: &Arc<SimulatedWorlds>) -> (TempDir, Vec<u8>) {
    let folder = killed(backend).await;
    // Opens and closes, which moves the log into the file.
    execute(&index(&folder), "SELECT 1").await;
    let bytes = fs::read(index(&folder)).expect("a file");
    (folder, bytes)
}

/// The first page of a table.
async fn page_of(file: &Path, table: &'static str) -> usize {
    use sqlx::{ConnectOptions, Connection};
    let mut connection =
        sqlx::sqlite::SqliteConnectOptions::new().filename(file).connect().await.expect("opens");
    let page: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_master WHERE name = $1")
        .bind(table)
        .fetch_one(&mut connection)
        .await
        .expect("a table");
    connection.close().await.expect("closes");
    usize::try_from(page - 1).expect("small") * PAGE
}

/// Local copies that were put aside, and what is in their indexes.
fn put_aside(folder: &TempDir) -> Vec<Vec<u8>> {
    let paths = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_aside = |path: &PathBuf| path.to_string_lossy().contains("overworld~damaged-");
    paths.filter(is_aside).map(|path| fs::read(path.join("index.db")).expect("an index")).collect()
}

/// Opens the world with an index of these bytes: the change arrives, or the copy is put aside as it is, and told, or it is
/// refused and stays as it is.
async fn check(backend: &Arc<SimulatedWorlds>, folder: &TempDir, bytes: &[u8], case: &str) {
    fs::write(index(folder), bytes).expect("written");
    let before = put_aside(folder).len();
    let (setup, news) = setup(backend, folder.path()).await;
    let store = match WorldStore::open(setup, "overworld", TIMEOUT).await {
        Ok(store) => store,
        Err(error) => {
            let place = folder.path().join("overworld").display().to_string();
            assert!(error.to_string().contains(&place), "{case}: {error}");
            let now = fs::read(index(folder)).expect("a file");
            assert_eq!(now.get(HEADER..), bytes.get(HEADER..), "{case}: {error}");
            // It cannot be written to, the only one of these that is not taken for damaged.
            assert!(case.starts_with("byte 18,"), "{case}: {error}");
            return;
        }
    };
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0, "{case}");
    let contents = backend.contents();
    assert_eq!(contents.keys().collect::<Vec<_>>(), [NAME], "{case}");
    if contents[NAME] != b"second" {
        assert_eq!(contents[NAME], b"first", "{case}");
        assert!(is_put_aside(&news), "{case}: lost without a word");
        let aside = put_aside(folder);
        assert_eq!(aside.len(), before + 1, "{case}");
        assert!(aside.iter().any(|kept| kept.get(HEADER..) == bytes.get(HEADER..)), "{case}: not kept");
        let left = count_left(folder.path(), "overworld").await;
        assert!(left.is_err(), "{case}: called nothing: {left:?}");
    }
    put(&store, NAME, b"third").await;
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0, "{case}");
}

#[tokio::test]
async fn a_header_or_a_row_about_the_file_that_was_changed_deletes_nothing() {
    let backend = SimulatedWorlds::new();
    let (folder, sound) = left(&backend).await;
    let backup = backend.back_up();
    let copy = self::folder();
    left_behind::copy(folder.path(), copy.path());
    let mut places: Vec<usize> = [18, 19, 20, 31, 47, 55, 59].into_iter().chain(USER_VERSION).collect();
    for table in ["commits", "session"] {
        let page = page_of(&index(&copy), table).await;
        let row = usize::from(u16::from_be_bytes([sound[page + 8], sound[page + 9]]));
        places.extend((page + row..page + PAGE).step_by(if table == "commits" { 1 } else { 7 }));
    }
    for at in places {
        for bit in if USER_VERSION.contains(&at) { 0..8 } else { at % 7..at % 7 + 1 } {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << bit;
            backend.restore(backup.clone());
            // In the same files, for a copy of them would be another one.
            left_behind::copy(copy.path(), folder.path());
            check(&backend, &folder, &bytes, &format!("byte {at}, bit {bit}")).await;
        }
    }
}

#[tokio::test]
async fn an_index_of_a_later_format_is_refused_as_it_is() {
    let backend = SimulatedWorlds::new();
    let (folder, _) = left(&backend).await;
    execute(&index(&folder), "UPDATE commits SET format = 5, checksum = 7").await;
    execute(&index(&folder), "PRAGMA user_version = 5").await;
    let bytes = fs::read(index(&folder)).expect("a file");
    let (setup, _news) = setup(&backend, folder.path()).await;
    let error =
        WorldStore::open(setup, "overworld", TIMEOUT).await.map(drop).expect_err("it is a later one's");
    let place = index(&folder).display().to_string();
    assert!(error.to_string().contains(&place), "{error}");
    assert!(error.to_string().contains("has format 5"), "{error}");
    assert_eq!(fs::read(index(&folder)).expect("a file"), bytes);
    assert!(count_left(folder.path(), "overworld").await.is_err());
}

#[tokio::test]
async fn an_index_of_the_format_before_is_read() {
    let backend = SimulatedWorlds::new();
    let (folder, _) = left(&backend).await;
    for sql in [
        "ALTER TABLE commits DROP COLUMN checksum",
        "ALTER TABLE commits DROP COLUMN format",
        "PRAGMA user_version = 3",
    ] {
        execute(&index(&folder), sql).await;
    }
    assert_eq!(count_left(folder.path(), "overworld").await, Ok(1));
    let (store, news) = open(&backend, folder.path()).await;
    assert!(!is_put_aside(&news));
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content(NAME), Some(b"second".to_vec()));
    put(&store, NAME, b"third").await;
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
}

/// A damaged row stays one while the file is made one of this format.
#[tokio::test]
async fn a_changed_row_of_the_format_before_does_not_become_sound() {
    let backend = SimulatedWorlds::new();
    let (folder, _) = left(&backend).await;
    for sql in [
        "ALTER TABLE commits DROP COLUMN checksum",
        "ALTER TABLE commits DROP COLUMN format",
        "UPDATE changes SET name = 'terrain/0,1'",
        "UPDATE session SET epoch = epoch + 1",
        "PRAGMA user_version = 3",
    ] {
        execute(&index(&folder), sql).await;
    }
    let (store, news) = open(&backend, folder.path()).await;
    assert!(is_put_aside(&news));
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.contents(), HashMap::from([(NAME.to_owned(), b"first".to_vec())]));
}

/// A store of a server that is registered at another backend.
async fn open_elsewhere(other: &Arc<SimulatedWorlds>, folder: &Path) -> (WorldStore, News) {
    let (mut setup, news) = setup(other, folder).await;
    let backend = SimulatedBackend::new();
    backend.state.lock().expect("not poisoned").backend_id = Some("another".to_owned());
    setup.registration = registered(&backend).await;
    (WorldStore::open(setup, "overworld", TIMEOUT).await.expect("opened beside it"), news)
}

#[tokio::test]
async fn a_damaged_copy_of_another_backend_waits_for_its_own() {
    for change in [
        "UPDATE changes SET bytes = bytes + 1",
        "UPDATE session SET epoch = epoch + 1",
        "UPDATE commits SET number = number + 1",
        "PRAGMA user_version = 0",
    ] {
        let (right, other) = (SimulatedWorlds::new(), SimulatedWorlds::new());
        let (folder, _) = left(&right).await;
        right.released();
        execute(&index(&folder), change).await;
        let bytes = fs::read(index(&folder)).expect("a file");
        for _ in 0..2 {
            let (store, news) = open_elsewhere(&other, folder.path()).await;
            assert!(!is_put_aside(&news), "{change}");
            put(&store, "elsewhere", b"theirs").await;
            assert_eq!(store.close(TIMEOUT).await.unsaved, 0, "{change}");
            assert_eq!(fs::read(index(&folder)).expect("it is there"), bytes, "{change}");
        }
        let (store, news) = open(&right, folder.path()).await;
        assert!(is_put_aside(&news), "{change}: its own backend's server puts it aside");
        assert!(put_aside(&folder).contains(&bytes), "{change}");
        assert_eq!(store.close(TIMEOUT).await.unsaved, 0, "{change}");
    }
}

/// What this server keeps beside the copy of another backend counts, too.
#[tokio::test]
async fn copies_beside_are_counted() {
    let (right, other) = (SimulatedWorlds::new(), SimulatedWorlds::new());
    let (folder, _) = left(&right).await;
    assert_eq!(count_left(folder.path(), "overworld").await, Ok(1));
    let (store, _news) = open_elsewhere(&other, folder.path()).await;
    other.outage(true);
    put(&store, "elsewhere", b"theirs").await;
    drop(store);
    until_counted(folder.path(), 2).await;
    assert_eq!(count_left(folder.path(), "over").await, Ok(0), "another world");
}

/// Whoever dropped it lets the file go in a moment.
async fn until_counted(folder: &Path, count: usize) {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while count_left(folder, "overworld").await != Ok(count) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("never counted");
}
