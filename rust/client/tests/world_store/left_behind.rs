//! Local copies of worlds that are not what they seem: of another backend, copied, removed, of an earlier version.

use super::*;

/// A process that dies with a change that was not sent.
async fn killed_with_a_change(backend: &Arc<SimulatedWorlds>, folder: &Path, data: &[u8]) {
    let (store, _news) = open(backend, folder).await;
    backend.outage(true);
    put(&store, "terrain/0,0", data).await;
    drop(store);
    backend.outage(false);
}

/// The files as they are while a process has them open.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test]
async fn changes_for_another_backend_stay_for_a_server_of_that_one() {
    let (right, other, folder) = (SimulatedWorlds::new(), SimulatedWorlds::new(), folder());
    killed_with_a_change(&right, folder.path(), b"ours").await;
    right.released();
    for _ in 0..2 {
        let (mut setup, _news) = setup(&other, folder.path()).await;
        setup.registration = {
            let backend = SimulatedBackend::new();
            backend.state.lock().expect("not poisoned").backend_id = Some("another".to_owned());
            registered(&backend).await
        };
        let foreign = WorldStore::open(setup, "overworld", TIMEOUT).await.expect("opened beside it");
        put(&foreign, "elsewhere", b"theirs").await;
        assert_eq!(foreign.close(TIMEOUT).await.unsaved, 0);
    }
    assert_eq!(other.content("terrain/0,0"), None, "nothing of the right backend's was sent");
    let (store, _news) = open(&right, folder.path()).await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(right.content("terrain/0,0"), Some(b"ours".to_vec()));
    assert_eq!(right.content("elsewhere"), None);
}

#[tokio::test]
async fn a_copy_neither_ends_the_running_server_nor_takes_its_numbers() {
    let (backend, original, copied) = (SimulatedWorlds::new(), folder(), folder());
    let (running, _news) = open(&backend, original.path()).await;
    backend.outage(true);
    put(&running, "terrain/0,0", b"first").await;
    copy(original.path(), copied.path());
    backend.outage(false);
    put(&running, "terrain/0,0", b"second").await;
    assert_eq!(running.flush(TIMEOUT).await.unsaved, 0);
    let (mut setup, _news) = setup(&backend, copied.path()).await;
    // Of another id than the running one.
    let registrations = SimulatedBackend::new();
    registered(&registrations).await;
    setup.registration = registered(&registrations).await;
    let held = WorldStore::open(setup, "overworld", Duration::from_millis(600)).await;
    assert_eq!(held.map(drop).expect_err("it is held").code(), "world_held");
    assert_eq!(backend.content("terrain/0,0"), Some(b"second".to_vec()));
    put(&running, "terrain/0,0", b"third").await;
    assert_eq!(running.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("terrain/0,0"), Some(b"third".to_vec()));
    assert_eq!(running.close(TIMEOUT).await.unsaved, 0);
    // Now the copy can have the world; what it has is older than that.
    let (store, news) = open(&backend, copied.path()).await;
    assert_eq!(read(&store, "terrain/0,0").await, b"third");
    assert!(news.lock().expect("not poisoned").iter().any(|event| matches!(event, Event::PutAside { .. })));
}

#[tokio::test]
async fn a_copy_of_a_dead_servers_is_committed_when_its_lease_is_over() {
    let (backend, original, moved) = (SimulatedWorlds::new(), folder(), folder());
    killed_with_a_change(&backend, original.path(), b"the last").await;
    copy(original.path(), moved.path());
    backend.released();
    let (store, _news) = open(&backend, moved.path()).await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("terrain/0,0"), Some(b"the last".to_vec()));
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_acknowledged_in_a_folder_that_was_removed() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    backend.outage(true);
    put(&store, "terrain/0,0", b"first").await;
    fs::remove_dir_all(folder.path().join("overworld")).expect("removed");
    let ack = store.put("terrain/0,0", b"second".to_vec()).expect("taken").done().await;
    assert!(ack.is_err(), "acknowledged in a file that is gone");
    put(&store, "terrain/0,0", b"third").await;
    drop(store);
    backend.outage(false);
    let (next, _news) = open(&backend, folder.path()).await;
    assert_eq!(next.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("terrain/0,0"), Some(b"third".to_vec()));
}
