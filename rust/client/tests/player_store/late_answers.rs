//! Answers from before a database went back, or before the server was listed under another id.

use std::sync::atomic::Ordering;

use backend_simulation::Trouble;

use super::rollback::{is_there, save};
use super::*;

/// Saves these numbers one after the other, each of them confirmed.
async fn confirm(server: &Server, numbers: std::ops::RangeInclusive<i64>) {
    for number in numbers {
        save(server, "progress", number);
        server.store.flush(None, LONG).await;
    }
}

/// Waits for two heartbeats: the server knows what it was told.
async fn heartbeats(backend: &SimulatedBackend) {
    let beats = || backend.state.lock().expect("not poisoned").heartbeats.len();
    let before = beats();
    until(|| beats() > before + 1).await;
}

/// A load whose reply takes so long; it is executed at once.
async fn load_late(
    backend: &SimulatedBackend,
    server: &Server,
    late: Duration,
) -> tokio::task::JoinHandle<Result<HashMap<String, Snapshot>, ClientError>> {
    backend.state.lock().expect("not poisoned").troubles.push_back(Some(Trouble::LateReply(late)));
    let calls = || backend.calls.load(Ordering::SeqCst);
    let before = calls();
    let store = server.store.clone();
    let load = tokio::spawn(async move { store.load("ada", LONG).await });
    until(|| calls() > before).await;
    load
}

#[tokio::test(start_paused = true)]
async fn a_load_from_before_the_rollback_takes_the_place_of_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    confirm(&server, 1..=1).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    confirm(&server, 2..=9).await;
    heartbeats(&backend).await;
    let load = load_late(&backend, &server, Duration::from_secs(300)).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    until(|| server.heard(|event| matches!(event, Event::RollbackDetected))).await;
    until(|| server.store.pending_count() == 0).await;
    confirm(&server, 10..=10).await;
    let loaded = load.await.expect("no panic").expect("loaded");
    assert_eq!(number_of(&loaded, "progress"), Some(10));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(10)));
}

#[tokio::test(start_paused = true)]
async fn a_load_from_another_copy_takes_the_place_of_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    confirm(&server, 1..=1).await;
    let older = backend.state.lock().expect("not poisoned").back_up();
    confirm(&server, 2..=9).await;
    let newer = backend.state.lock().expect("not poisoned").back_up();
    heartbeats(&backend).await;
    backend.state.lock().expect("not poisoned").restore(older);
    until(|| server.heard(|event| matches!(event, Event::RollbackDetected))).await;
    until(|| server.store.pending_count() == 0).await;
    confirm(&server, 10..=10).await;
    backend.state.lock().expect("not poisoned").restore(newer);
    let loaded = server.load("ada").await;
    assert_eq!(number_of(&loaded, "progress"), Some(10), "a higher version of the same document is older");
    until(|| stored(&backend, "ada", "progress") == Some(content(10))).await;
}

/// The copies have the same version of the document, of different saves.
#[tokio::test(start_paused = true)]
async fn a_load_from_another_copy_with_the_same_version_takes_the_place_of_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    confirm(&server, 1..=1).await;
    let older = backend.state.lock().expect("not poisoned").back_up();
    confirm(&server, 2..=2).await;
    let newer = backend.state.lock().expect("not poisoned").back_up();
    backend.state.lock().expect("not poisoned").restore(older);
    confirm(&server, 10..=10).await;
    until(|| server.store.pending_count() == 0).await;
    backend.state.lock().expect("not poisoned").restore(newer);
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(2)));
    let loaded = server.load("ada").await;
    assert_eq!(number_of(&loaded, "progress"), Some(10));
    until(|| stored(&backend, "ada", "progress") == Some(content(10))).await;
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_from_before_the_player_was_given_anew_is_not_believed() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    server.load("ada").await;
    save(&server, "progress", 1);
    assert_eq!(server.store.flush_local(LONG).await, 0);
    let late = Trouble::LateReply(Duration::from_secs(5));
    backend.state.lock().expect("not poisoned").troubles.push_back(Some(late));
    let store = server.store.clone();
    let flush = tokio::spawn(async move { store.flush(None, LONG).await });
    until(|| is_there(&backend, "progress", &content(1))).await;
    // The copy knows nothing of the lease: the player is given once more, under another one.
    backend.state.lock().expect("not poisoned").restore(backup);
    server.load("ada").await;
    flush.await.expect("no panic");
    until(|| is_there(&backend, "progress", &content(1))).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_waits_follows_its_server_to_another_id() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    let before = server.registration.server_id();
    server.load("ada").await;
    confirm(&server, 1..=1).await;
    backend.state.lock().expect("not poisoned").lost_call = Some("release");
    server.store.release("ada", Duration::from_secs(1)).await;
    let store = server.store.clone();
    let load = tokio::spawn(async move { store.load("ada", LONG).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    {
        let mut state = backend.state.lock().expect("not poisoned");
        state.servers.clear();
        state.lost_call = None;
    }
    let loaded = load.await.expect("no panic").expect("loaded under the id of today");
    assert_eq!(number_of(&loaded, "progress"), Some(1));
    assert_ne!(server.registration.server_id(), before);
}
