//! A world under faults: what was acknowledged is at the backend, here, or put aside; once, whatever happens.

mod contradictions;
mod damage;
mod left_behind;
mod random_faults;
mod rollback;
mod simulated;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::platform::clock::{Clock, SystemClock};
use backend_client::registration::{Registration, ServerDescription};
use backend_client::test_util::held_worlds;
use backend_client::world_store::*;
use backend_protocol::world_store::{MAX_CHANGES, MAX_CHUNK_BYTES};
use backend_simulation::{SimulatedBackend, server_key};
use tempfile::TempDir;

use self::simulated::{SimulatedWorlds, Trouble, raw_of};

const TIMEOUT: Duration = Duration::from_secs(30);

type News = Arc<Mutex<Vec<Event>>>;

/// A registered server. Every call is another process: another server id.
async fn registration() -> Registration {
    registered(&SimulatedBackend::new()).await
}

/// A server that is registered there.
async fn registered(backend: &Arc<SimulatedBackend>) -> Registration {
    let registration = listed(backend).await;
    registration.stop();
    registration
}

/// A server that is registered there and sends heartbeats.
async fn listed(backend: &Arc<SimulatedBackend>) -> Registration {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stall = Duration::from_secs(10);
    let registration = Registration::new(backend.clone(), clock, server_key(), stall, Arc::new(|_| {}));
    let description = ServerDescription {
        name: "Pond".into(),
        address: "127.0.0.1".into(),
        port: 1,
        max_players: 2,
        ..ServerDescription::default()
    };
    registration.register(description).await.expect("registered");
    registration
}

async fn setup(backend: &Arc<SimulatedWorlds>, folder: &Path) -> (Setup, News) {
    let news = News::default();
    let heard = Arc::clone(&news);
    let setup = Setup {
        backend: backend.clone(),
        clock: Arc::new(SystemClock),
        registration: registration().await,
        folder: folder.to_owned(),
        former_folders: Vec::new(),
        delay: Duration::from_millis(5),
        on_event: Arc::new(move |event| heard.lock().expect("not poisoned").push(event)),
    };
    (setup, news)
}

async fn open(backend: &Arc<SimulatedWorlds>, folder: &Path) -> (WorldStore, News) {
    let (setup, news) = setup(backend, folder).await;
    (WorldStore::open(setup, "overworld", TIMEOUT).await.expect("opened"), news)
}

async fn put(store: &WorldStore, name: &str, data: &[u8]) {
    store.put(name, data.to_vec()).expect("taken").done().await.expect("durable");
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(TIMEOUT, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it never came to be");
}

async fn read(store: &WorldStore, name: &str) -> Vec<u8> {
    store.get(name).await.expect("read").data.to_vec()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("folder")
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn objects_in(folder: &Path) -> Vec<PathBuf> {
    objects_below(&folder.join("overworld"))
}

fn objects_below(world: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for prefix in fs::read_dir(world.join("objects")).expect("objects") {
        for entry in fs::read_dir(prefix.expect("entry").path()).expect("prefix") {
            found.push(entry.expect("entry").path());
        }
    }
    found
}

#[tokio::test]
async fn what_is_put_is_durable_here_and_then_at_the_backend() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, news) = open(&backend, folder.path()).await;
    let terrain = b"grass ".repeat(10_000);
    put(&store, "terrain/0,0", &terrain).await;
    assert_eq!(read(&store, "terrain/0,0").await, terrain);
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("terrain/0,0"), Some(terrain.clone()));
    let name = || "terrain/0,0".to_owned();
    let told = news.lock().expect("not poisoned").clone();
    assert_eq!(told, [Event::SavedLocally { name: name() }, Event::Saved { name: name(), version: 1 }]);
    store.remove("terrain/0,0").expect("taken").done().await.expect("durable");
    assert_eq!(store.get("terrain/0,0").await.expect_err("gone").code(), "chunk_not_found");
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!((backend.content("terrain/0,0"), store.names()), (None, Vec::new()));
    assert_eq!(objects_in(folder.path()), Vec::<PathBuf>::new(), "nothing refers to it any more");
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    for index in 0..20 {
        put(&store, &format!("chunk-{index}"), &noise(1000, index)).await;
    }
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.calls("send_object"), 20);
    let commits = backend.calls("commit_world");
    for index in 0..20 {
        put(&store, &format!("chunk-{index}"), &noise(1000, index)).await;
    }
    assert_eq!(store.flush(TIMEOUT).await, Flushed::default());
    assert_eq!((backend.calls("send_object"), backend.calls("commit_world")), (20, commits));
    // The same content under another name is an object the backend has.
    put(&store, "copy", &noise(1000, 3)).await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.calls("send_object"), 20);
    assert_eq!(backend.content("copy"), Some(noise(1000, 3)));
}

#[tokio::test]
async fn a_lost_reply_applies_a_commit_once() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, news) = open(&backend, folder.path()).await;
    backend.trouble("commit_world", &[Trouble::LostReply, Trouble::LostReply, Trouble::LostRequest]);
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!((backend.applied(), backend.calls("commit_world")), (vec![(1, 1)], 4));
    assert!(news.lock().expect("not poisoned").contains(&Event::Saved { name: "a".into(), version: 1 }));
}

#[tokio::test]
async fn what_a_dead_process_left_is_committed_under_its_epoch() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (first, _news) = open(&backend, folder.path()).await;
    put(&first, "kept", b"before").await;
    assert_eq!(first.flush(TIMEOUT).await.unsaved, 0);
    // The commit is executed, its reply never comes, and the process dies; more is waiting behind it.
    backend.trouble("commit_world", &[Trouble::LostReply]);
    put(&first, "a", b"one").await;
    while backend.calls("commit_world") < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    backend.outage(true);
    put(&first, "b", b"two").await;
    first.remove("kept").expect("taken").done().await.expect("durable");
    drop(first);
    backend.outage(false);

    let (second, _news) = open(&backend, folder.path()).await;
    assert_eq!(backend.epoch(), 2);
    assert!(backend.applied().iter().all(|(epoch, _)| *epoch == 1), "{:?}", backend.applied());
    assert_eq!((backend.content("a"), backend.content("b")), (Some(b"one".to_vec()), Some(b"two".to_vec())));
    assert_eq!(second.names(), ["a", "b"]);
    assert_eq!(second.pending_count(), 0);
    assert_eq!(second.close(TIMEOUT).await.unsaved, 0);
    let (third, _news) = open(&backend, folder.path()).await;
    assert_eq!((backend.epoch(), read(&third, "b").await), (3, b"two".to_vec()));
}

#[tokio::test]
async fn what_cannot_be_committed_any_more_is_put_aside() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (first, _news) = open(&backend, folder.path()).await;
    backend.outage(true);
    put(&first, "a", b"one").await;
    first.remove("b").expect("taken").done().await.expect("durable");
    drop(first);
    backend.outage(false);
    backend.taken_by("another");
    let (setup, news) = setup(&backend, folder.path()).await;
    let held = WorldStore::open(setup, "overworld", Duration::from_secs(1)).await.err().expect("held");
    assert_eq!(held.code(), "world_held");
    assert_eq!(backend.content("a"), None);
    let news = news.lock().expect("not poisoned").clone();
    let [Event::PutAside { folder: aside, names }] = &news[..] else { panic!("{news:?}") };
    assert_eq!(names, &["a"]);
    let list = fs::read_to_string(aside.join("changes.json")).expect("list");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let hash = list["changes"][0]["hash"].as_str().expect("hash");
    let stored = fs::read(aside.join(format!("{hash}.zst"))).expect("object");
    assert_eq!(raw_of(&stored), b"one");
    backend.released();
    let (second, _news) = open(&backend, folder.path()).await;
    assert_eq!((second.names(), second.pending_count()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_world_lost_while_it_is_played_is_told_and_overwrites_nothing() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.taken_by("another");
    put(&store, "a", b"two").await;
    let flushed = store.flush(TIMEOUT).await;
    assert_eq!(flushed, Flushed { unsaved: 1, local: 1, ..Flushed::default() });
    assert_eq!(backend.content("a"), Some(b"one".to_vec()));
    assert!(store.is_lost());
    assert_eq!(store.put("a", Vec::new()).err().map(|error| error.code()), Some("lease_lost"));
    let news = news.lock().expect("not poisoned").clone();
    assert!(matches!(&news[3..], [Event::PutAside { .. }, Event::LeaseLost]), "{news:?}");
}

#[tokio::test]
async fn the_lease_is_kept_while_the_world_is_open_or_changes_are_left() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (setup, _news) = setup(&backend, folder.path()).await;
    let registration = setup.registration.clone();
    let open = || WorldStore::open(setup.clone(), "overworld", TIMEOUT);
    let store = open().await.expect("opened");
    put(&store, "a", b"one").await;
    backend.outage(true);
    assert_eq!(store.close(Duration::from_millis(50)).await.unsaved, 1);
    assert_eq!(held_worlds(&registration), ["overworld"], "what is left is still to be committed");
    backend.outage(false);
    let store = open().await.expect("opened again");
    backend.trouble("release_world", &[Trouble::LostRequest; 100]);
    assert_eq!(store.close(Duration::from_millis(50)).await.unsaved, 0);
    assert_eq!(held_worlds(&registration), Vec::<String>::new(), "released or not");
    backend.taken_by("another");
    let setup = Setup { registration: registration.clone(), ..setup.clone() };
    assert!(WorldStore::open(setup, "overworld", Duration::from_millis(50)).await.is_err());
    assert_eq!(held_worlds(&registration), Vec::<String>::new(), "never had it");
}

#[tokio::test]
async fn a_damaged_or_missing_copy_is_fetched_again() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    let terrain = noise(100_000, 1);
    put(&store, "a", &terrain).await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let [object] = &objects_in(folder.path())[..] else { panic!("one object") };
    let mut bytes = fs::read(object).expect("object");
    bytes[50_000] ^= 1;
    fs::write(object, bytes).expect("damaged");
    assert_eq!(read(&store, "a").await, terrain);
    assert_eq!(backend.calls("receive_object"), 1);
    assert_eq!(read(&store, "a").await, terrain);
    assert_eq!(backend.calls("receive_object"), 1, "the copy is good again");
    fs::remove_file(object).expect("removed");
    assert_eq!(read(&store, "a").await, terrain);
}

#[tokio::test]
async fn a_copy_whose_index_is_damaged_is_put_aside_as_it_is() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.outage(true);
    put(&store, "a", b"two").await;
    store.close(Duration::from_millis(50)).await;
    drop(store);
    fs::write(folder.path().join("overworld/index.db"), noise(8_192, 1)).expect("damaged");
    backend.outage(false);
    backend.released();
    let (store, news) = open(&backend, folder.path()).await;
    assert_eq!(read(&store, "a").await, b"one");
    let news = news.lock().expect("not poisoned").clone();
    let [Event::PutAside { folder: aside, names }] = &news[..] else { panic!("{news:?}") };
    assert_eq!(names, &Vec::<String>::new());
    assert!(aside.join("index.db").exists());
    let kept = objects_below(aside).into_iter().map(|object| raw_of(&fs::read(object).expect("object")));
    assert!(kept.into_iter().any(|raw| raw == b"two"));
}

#[tokio::test]
async fn an_interrupted_download_goes_on_where_it_was() {
    let (backend, first, second) = (SimulatedWorlds::new(), folder(), folder());
    let (store, _news) = open(&backend, first.path()).await;
    let terrain = noise(10 * 1024 * 1024, 1);
    put(&store, "a", &terrain).await;
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    drop(store);
    let (store, _news) = open(&backend, second.path()).await;
    backend
        .trouble("receive_object", &[Trouble::None, Trouble::LostReply, Trouble::None, Trouble::LostRequest]);
    assert!(read(&store, "a").await == terrain);
    let mib = 1024 * 1024;
    let starts: Vec<u64> = backend.ranges().iter().map(|range| range.start).collect();
    assert_eq!(starts, [0, 4 * mib, 4 * mib, 8 * mib, 8 * mib]);
}

#[tokio::test]
async fn what_the_backend_sends_is_believed_only_if_it_is_what_was_asked_for() {
    let (backend, first, second) = (SimulatedWorlds::new(), folder(), folder());
    let (store, _news) = open(&backend, first.path()).await;
    put(&store, "a", b"one").await;
    put(&store, "b", b"two").await;
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    drop(store);
    backend.replace_object("a", zstd::bulk::compress(b"other", 3).expect("compresses"));
    // Far more than the three bytes that were announced.
    backend.replace_object("b", zstd::bulk::compress(&vec![0; 1 << 30], 3).expect("compresses"));
    let (store, _news) = open(&backend, second.path()).await;
    for name in ["a", "b"] {
        assert_eq!(store.get(name).await.err().map(|error| error.code()), Some("bad_reply"), "{name}");
    }
}

#[tokio::test]
async fn one_process_at_a_time_has_the_world() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    let (other, _news) = setup(&backend, folder.path()).await;
    let refused =
        WorldStore::open(other, "overworld", Duration::from_millis(600)).await.err().expect("refused");
    assert_eq!(refused.code(), "storage");
    assert_eq!(store.close(TIMEOUT).await, Flushed::default());
    assert_eq!(store.put("a", Vec::new()).err().map(|error| error.code()), Some("cancelled"));
    drop(store);
    open(&backend, folder.path()).await;
}

/// A game that changes chunks all the time delays no flush, keeps no other chunk from being sent, and is refused when the
/// final state is in.
#[tokio::test]
async fn a_flush_waits_for_what_was_changed_before_it() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    backend.latency(Duration::from_millis(50));
    let (playing, stop) = (store.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let game = tokio::spawn(async move {
        let mut refused = 0;
        for number in 1_u32.. {
            if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            for chunk in 0..100 {
                let outcome = playing.put(&format!("{chunk:03}"), number.to_le_bytes().to_vec());
                refused += usize::from(outcome.is_err());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        refused
    });
    let wait = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(store.flush_local(TIMEOUT).await, 0);
        let flushed = store.flush(TIMEOUT).await;
        assert_eq!((flushed.saved, flushed.unsaved), (100, 0));
        assert_eq!(backend.contents().len(), 100, "also those whose names come last");
        store.seal();
        store.close(TIMEOUT).await
    };
    let closed = tokio::time::timeout(TIMEOUT, wait).await.expect("it ends although the game goes on");
    assert_eq!(closed.unsaved, 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let refused = game.await.expect("played");
    assert!(refused > 0);
    assert_eq!(store.refused_count(), refused);
    assert_eq!(store.put("000", vec![1]).map(drop).expect_err("sealed").code(), "shutting_down");
}

#[tokio::test]
async fn limits_are_told_before_anything_is_taken() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    let refused = |name: &str, size: usize| store.put(name, vec![0; size]).err().expect("refused");
    for name in ["", "/a", "../a", "a b"] {
        assert_eq!(refused(name, 1).field.as_deref(), Some("name"), "{name}");
    }
    assert_eq!(refused("a", MAX_CHUNK_BYTES + 1).field.as_deref(), Some("data"));
    // Nothing is written while the lock is held: the queue fills up.
    let locked = store.hold_index().await;
    let mut refusal = None;
    for index in 0..200 {
        if let Err(error) = store.put(&format!("chunk-{index}"), noise(1024 * 1024, index)) {
            refusal = Some(error.code());
            break;
        }
    }
    assert_eq!(refusal, Some("backlog_full"));
    drop(locked);
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
}

#[tokio::test]
async fn a_disk_that_fails_acknowledges_nothing() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let objects = folder.path().join("overworld/objects");
    fs::rename(&objects, folder.path().join("away")).expect("moved");
    let refused = store.put("a", b"two".to_vec()).expect("taken").done().await;
    assert_eq!(refused.err().map(|error| error.code()), Some("storage"));
    assert!(matches!(news.lock().expect("not poisoned").last(), Some(Event::SaveFailed { .. })));
    fs::rename(folder.path().join("away"), &objects).expect("moved back");
    assert_eq!(read(&store, "a").await, b"one");
    put(&store, "a", b"three").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("a"), Some(b"three".to_vec()));
}

#[tokio::test]
async fn an_index_that_failed_is_written_anew() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (first, _news) = open(&backend, folder.path()).await;
    backend.outage(true);
    put(&first, "a", b"one").await;
    first.fail_index().await;
    put(&first, "b", b"two").await;
    assert!(!first.index_has_failed().await);
    drop(first);
    backend.outage(false);
    let (second, _news) = open(&backend, folder.path()).await;
    assert_eq!(
        backend.contents(),
        HashMap::from([("a".into(), b"one".to_vec()), ("b".into(), b"two".to_vec())])
    );
    assert_eq!(second.pending_count(), 0);
}
