//! A backend whose database goes back while a world is open.

use super::*;

#[tokio::test]
async fn a_release_does_not_lose_what_was_committed_since_the_backup() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "kept", b"one").await;
    put(&store, "removed", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let backup = backend.back_up();
    put(&store, "changed", b"two").await;
    put(&store, "kept", b"two").await;
    store.remove("removed").expect("taken").done().await.expect("durable");
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let confirmed = backend.contents();
    backend.restore(backup);
    assert_ne!(backend.contents(), confirmed);
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.contents(), confirmed);
    assert!(backend.is_free(), "released");
}

#[tokio::test]
async fn the_next_commit_notices() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let backup = backend.back_up();
    put(&store, "b", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(backup);
    put(&store, "a", b"three").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    until(|| backend.content("b").as_deref() == Some(b"two")).await;
}

#[tokio::test]
async fn a_heartbeat_notices_without_another_commit() {
    let (worlds, folder, backend) = (SimulatedWorlds::new(), folder(), SimulatedBackend::new());
    backend.state.lock().expect("not poisoned").heartbeat_seconds = 1;
    let registration = listed(&backend).await;
    let (setup, _news) = setup(&worlds, folder.path()).await;
    let setup = Setup { registration: registration.clone(), ..setup };
    let store = WorldStore::open(setup, "overworld", TIMEOUT).await.expect("opened");
    let backups = (worlds.back_up(), backend.state.lock().expect("not poisoned").back_up());
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let beats = || backend.state.lock().expect("not poisoned").heartbeats.len();
    until(|| beats() >= 2).await;
    worlds.restore(backups.0);
    backend.state.lock().expect("not poisoned").restore(backups.1);
    until(|| worlds.content("a").as_deref() == Some(b"one")).await;
    registration.stop();
}

#[tokio::test]
async fn a_world_that_another_server_has_changed_since_is_left_alone() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    // Forgotten for longer than its lease: another server has the world, and goes on with it.
    backend.taken_by("another");
    backend.changed_by_another("a");
    store.compare().await.expect("compared");
    assert_eq!(store.pending_count(), 0);
}

#[tokio::test]
async fn a_world_that_was_opened_after_the_backup_stays_open() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let backup = backend.back_up();
    let (store, news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    put(&store, "b", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(backup);
    put(&store, "a", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    until(|| backend.content("b").as_deref() == Some(b"one")).await;
    assert_eq!(backend.content("a").as_deref(), Some(b"two".as_slice()));
    assert!(!store.is_lost(), "{news:?}");
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    assert!(backend.is_free(), "released");
}

#[tokio::test]
async fn a_world_whose_former_holder_comes_back_with_the_backup_is_waited_for() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    backend.taken_by("former");
    let backup = backend.back_up();
    backend.released();
    let (store, news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(backup);
    put(&store, "a", b"two").await;
    let asked = backend.calls("commit_world");
    until(|| backend.calls("commit_world") > asked + 1).await;
    assert!(!store.is_lost(), "{news:?}");
    assert!(
        !news.lock().expect("not poisoned").iter().any(|event| matches!(event, Event::SaveFailed { .. }))
    );
    backend.released();
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("a").as_deref(), Some(b"two".as_slice()));
}

#[tokio::test]
async fn a_world_that_was_taken_after_the_restore_is_lost() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let backup = backend.back_up();
    let (store, news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(backup);
    // Epochs never recur: that of the next holder is above all before.
    backend.taken_by("another");
    backend.taken_by("another");
    put(&store, "a", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 1);
    assert!(store.is_lost(), "{news:?}");
    assert_eq!(backend.content("a"), None);
}

#[tokio::test]
async fn a_comparison_that_fails_is_made_again_before_the_world_is_released() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "kept", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let backup = backend.back_up();
    for name in ["lost", "also-lost"] {
        put(&store, name, b"two").await;
        assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    }
    backend.restore(backup);
    // The backend is not quite up yet when it is asked what it has.
    backend.trouble("world_chunks", &[Trouble::Unavailable; 3]);
    put(&store, "kept", b"three").await;
    until(|| backend.content("kept").as_deref() == Some(b"three")).await;
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    for (name, content) in [("kept", b"three".as_slice()), ("lost", b"two"), ("also-lost", b"two")] {
        assert_eq!(backend.content(name).as_deref(), Some(content), "{name}");
    }
    assert!(backend.is_free(), "released");
}

#[tokio::test]
async fn a_world_is_compared_again_if_the_database_goes_back_once_more_before_the_release() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "kept", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.trouble("release_world", &[Trouble::None, Trouble::LostRequest]);
    let backup = backend.back_up();
    put(&store, "lost", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(backup.clone());
    let closing = tokio::spawn(async move { store.close(TIMEOUT).await });
    // Sent again, and about to be released.
    until(|| backend.calls("release_world") == 2).await;
    assert_eq!(backend.content("lost").as_deref(), Some(b"two".as_slice()));
    backend.restore(backup);
    assert_eq!(closing.await.expect("no panic").unsaved, 0);
    assert_eq!(backend.content("lost").as_deref(), Some(b"two".as_slice()));
    assert!(backend.is_free(), "released");
}

#[tokio::test]
async fn a_copy_with_a_higher_version_is_noticed_after_an_older_one() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "a", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    let early = backend.back_up();
    for content in [b"1", b"2", b"3"] {
        put(&store, "b", content).await;
        assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    }
    let late = backend.back_up();
    put(&store, "lost", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.restore(early);
    store.compare().await.expect("compared");
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    // All in one commit, so the copy has a version that is higher than the last one that was confirmed.
    backend.restore(late);
    put(&store, "a", b"two").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    for (name, content) in [("a", b"two".as_slice()), ("b", b"3"), ("lost", b"two")] {
        assert_eq!(backend.content(name).as_deref(), Some(content), "{name}");
    }
    assert!(backend.is_free(), "released");
}

#[tokio::test]
async fn what_a_dead_process_left_is_not_taken_for_the_whole_world() {
    let (backend, folder) = (SimulatedWorlds::new(), folder());
    let (store, _news) = open(&backend, folder.path()).await;
    put(&store, "kept", b"one").await;
    assert_eq!(store.flush(TIMEOUT).await.unsaved, 0);
    backend.outage(true);
    // More than one commit takes.
    for number in 0..=MAX_CHANGES {
        put(&store, &format!("left-{number:03}"), b"two").await;
    }
    drop(store);
    backend.outage(false);
    backend.latency(Duration::from_millis(20));
    let backup = backend.back_up();
    let opening = tokio::spawn({
        let (backend, path) = (Arc::clone(&backend), folder.path().to_owned());
        async move { open(&backend, &path).await }
    });
    // Between its two commits, of which the second gets a version that was given before.
    until(|| backend.applied().len() == 2).await;
    backend.restore(backup);
    let (store, _news) = opening.await.expect("opened");
    assert_eq!(read(&store, "kept").await, b"one");
    assert_eq!(store.close(TIMEOUT).await.unsaved, 0);
    assert_eq!(backend.content("kept").as_deref(), Some(b"one".as_slice()));
}
