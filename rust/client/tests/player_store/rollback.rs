//! A backend whose database goes back: what was announced as saved is there afterwards, or kept as a conflict.

use std::sync::atomic::Ordering;

use backend_simulation::{Backup, Fact, Trouble};

use super::*;

fn object(value: Value) -> Content {
    value.as_object().expect("object").clone()
}

/// Whether the backend has this, as the document or as a conflict that waits to be merged.
pub fn is_there(backend: &SimulatedBackend, key: &str, content: &Content) -> bool {
    let state = backend.state.lock().expect("not poisoned");
    let document = state.documents.get(&("ada".to_owned(), key.to_owned()));
    document.is_some_and(|stored| stored.document.value == *content)
        || state.open_conflicts("ada").any(|conflict| conflict.key == key && conflict.value == *content)
}

pub fn save(server: &Server, key: &str, number: i64) {
    server.store.save("ada", key, content(number)).expect("taken");
}

fn detections(server: &Server) -> usize {
    server.news().iter().filter(|event| matches!(event, Event::RollbackDetected)).count()
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_lease_that_is_older_than_the_backup_is_saved_again() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    save(&server, "inventory", 1);
    save(&server, "untouched", 1);
    assert_eq!(server.store.flush(None, LONG).await.saved, 3);
    let backup = backend.state.lock().expect("not poisoned").back_up();
    for number in 2..=4 {
        save(&server, "progress", number);
        assert_eq!(server.store.flush(None, LONG).await.saved, 1);
    }
    save(&server, "inventory", 2);
    assert_eq!(server.store.flush(None, LONG).await.saved, 1);
    backend.state.lock().expect("not poisoned").restore(backup);
    assert!(!is_there(&backend, "inventory", &content(2)), "gone");
    // One save of one document is enough to notice.
    save(&server, "progress", 5);
    server.store.flush(None, LONG).await;
    until(|| server.store.pending_count() == 0).await;
    assert_eq!(detections(&server), 1);
    for (key, number) in [("progress", 5), ("inventory", 2), ("untouched", 1)] {
        assert!(is_there(&backend, key, &content(number)), "{key}");
    }
    assert!(server.store.is_holding("ada"));
    assert_eq!(server.disk.saves(), []);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_went_back_by_a_single_version_is_noticed() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    save(&server, "inventory", 1);
    server.store.flush(None, LONG).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    save(&server, "progress", 2);
    save(&server, "inventory", 2);
    server.store.flush(None, LONG).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    save(&server, "progress", 3);
    server.store.flush(None, LONG).await;
    until(|| server.store.pending_count() == 0).await;
    assert_eq!(detections(&server), 1);
    assert!(is_there(&backend, "inventory", &content(2)));
}

#[tokio::test(start_paused = true)]
async fn everything_of_a_lease_that_the_backend_never_heard_of_is_kept_as_a_conflict() {
    let backend = SimulatedBackend::new();
    let other = Server::start(&backend, &disk()).await;
    let server = Server::start(&backend, &disk()).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    // Saved by another server, and only loaded by this one.
    other.load("ada").await;
    other.store.save("ada", "loaded", content(7)).expect("taken");
    other.store.release("ada", LONG).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    save(&server, "inventory", 1);
    assert_eq!(server.store.flush(None, LONG).await.saved, 2);
    backend.state.lock().expect("not poisoned").restore(backup);
    save(&server, "progress", 2);
    until(|| server.heard(|event| matches!(event, Event::LeaseLost { .. }))).await;
    until(|| server.store.pending_count() == 0).await;
    assert_eq!(detections(&server), 1);
    for (key, number) in [("progress", 2), ("inventory", 1), ("loaded", 7)] {
        assert!(is_there(&backend, key, &content(number)), "{key}");
    }
    // Whoever loads the player next finds them.
    other.load("ada").await;
    until(|| {
        other.heard(|event| matches!(event, Event::ConflictFound(conflict) if conflict.key == "loaded"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_forgot_the_server_gets_everything_without_another_save() {
    let backend = SimulatedBackend::new();
    let empty = backend.state.lock().expect("not poisoned").back_up();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    assert_eq!(server.store.flush(None, LONG).await.saved, 1);
    backend.state.lock().expect("not poisoned").restore(empty);
    until(|| is_there(&backend, "progress", &content(1))).await;
    until(|| detections(&server) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_shows_older_documents_overwrites_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    server.store.flush(None, LONG).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    save(&server, "progress", 2);
    server.store.flush(None, LONG).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    // The player reconnects.
    assert_eq!(number_of(&server.load("ada").await, "progress"), Some(2));
    until(|| is_there(&backend, "progress", &content(2))).await;
    assert_eq!(detections(&server), 1);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_superseded_is_not_saved_but_sent_again() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    server.store.flush(None, LONG).await;
    {
        let mut state = backend.state.lock().expect("not poisoned");
        let stored = state.documents.get_mut(&("ada".to_owned(), "progress".to_owned())).expect("there");
        stored.document.value = object(json!({"by": "somebody else"}));
        stored.last.insert(1, 50);
    }
    save(&server, "progress", 2);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(1));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(2)), "announced, and there");
    let told = |event: &Event| matches!(event, Event::Saved { sequence, .. } if *sequence > 50);
    assert!(server.heard(told), "{:?}", server.news());
    assert!(!server.heard(|event| matches!(event, Event::Saved { sequence: 2, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_away_for_longer_than_its_lease_asks_again_and_conflicts_with_nobody() {
    let backend = SimulatedBackend::new();
    let one = Server::start(&backend, &disk()).await;
    let other = Server::start(&backend, &disk()).await;
    one.load("ada").await;
    save(&one, "progress", 1);
    save(&one, "inventory", 1);
    one.store.flush(None, LONG).await;
    one.power.freeze();
    other.load("ada").await;
    other.store.save("ada", "progress", content(2)).expect("taken");
    other.store.flush(None, LONG).await;
    one.power.resume();
    // Listed again, it sends what it had saved: the backend has it all.
    tokio::time::sleep(Duration::from_secs(60)).await;
    until(|| one.store.pending_count() == 0).await;
    assert_eq!((detections(&one), detections(&other)), (0, 0));
    assert_eq!(backend.state.lock().expect("not poisoned").open_conflicts("ada").count(), 0);
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(2)));
}

#[tokio::test(start_paused = true)]
async fn a_number_stands_for_one_save_when_the_same_lease_is_given_again() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    for number in 1..=2 {
        save(&server, "progress", number);
        server.store.flush(None, LONG).await;
    }
    server.store.release("ada", LONG).await;
    // The backup knows the server as the holder.
    backend.state.lock().expect("not poisoned").restore(backup);
    server.load("ada").await;
    save(&server, "progress", 3);
    server.store.flush(None, LONG).await;
    let number = |event: &Event| match event {
        Event::Saved { epoch, sequence, .. } => Some((*epoch, *sequence)),
        _ => None,
    };
    let numbers: Vec<(i64, i64)> = server.news().iter().filter_map(number).collect();
    assert_eq!(numbers, [(1, 1), (1, 2), (1, 3)]);
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(3)));
}

#[tokio::test(start_paused = true)]
async fn a_release_does_not_lose_what_was_confirmed_since_the_backup() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "untouched", 1);
    server.store.flush(None, LONG).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    save(&server, "progress", 1);
    save(&server, "inventory", 1);
    server.store.flush(None, LONG).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    // Nothing is saved any more: the player only leaves.
    server.store.release("ada", LONG).await;
    assert_eq!(detections(&server), 1);
    for key in ["untouched", "progress", "inventory"] {
        assert!(is_there(&backend, key, &content(1)), "{key}");
    }
    assert!(!server.store.is_holding("ada"));
    assert_eq!(server.disk.saves(), []);
    let state = backend.state.lock().expect("not poisoned");
    assert_eq!(state.leases.get("ada").and_then(|lease| lease.holder.clone()), None, "released");
}

#[tokio::test(start_paused = true)]
async fn a_release_under_a_lease_that_is_lost_keeps_everything_as_conflicts() {
    let backend = SimulatedBackend::new();
    let other = Server::start(&backend, &disk()).await;
    let server = Server::start(&backend, &disk()).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    other.load("ada").await;
    other.store.save("ada", "loaded", content(7)).expect("taken");
    other.store.release("ada", LONG).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    server.store.flush(None, LONG).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    server.store.release("ada", LONG).await;
    assert_eq!(detections(&server), 1);
    for (key, number) in [("progress", 1), ("loaded", 7)] {
        assert!(is_there(&backend, key, &content(number)), "{key}");
    }
}

/// A server whose heartbeats and save of `progress` the backend has confirmed since the backup.
async fn confirmed_since_the_backup() -> (Arc<SimulatedBackend>, Server, Backup) {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    save(&server, "progress", 1);
    server.store.flush(None, LONG).await;
    let beats = || backend.state.lock().expect("not poisoned").heartbeats.len();
    let before = beats();
    until(|| beats() > before + 1).await;
    (backend, server, backup)
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_notices_without_another_save() {
    let (backend, server, backup) = confirmed_since_the_backup().await;
    backend.state.lock().expect("not poisoned").restore(backup);
    assert!(!is_there(&backend, "progress", &content(1)), "gone");
    until(|| is_there(&backend, "progress", &content(1))).await;
    assert_eq!(detections(&server), 1);
    assert!(server.store.is_holding("ada"));
}

#[tokio::test(start_paused = true)]
async fn a_release_notices_a_document_that_went_back_though_another_one_was_saved_since() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let mut number = 0;
    let mut save_one = async |key: &str| {
        number += 1;
        save(&server, key, number);
        server.store.flush(None, LONG).await;
        number
    };
    save_one("progress").await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    let inventory = save_one("inventory").await;
    backend.state.lock().expect("not poisoned").restore(backup);
    // Of a document that the backup has in its last version: nothing shows that it went back.
    let progress = save_one("progress").await;
    server.store.release("ada", LONG).await;
    for (key, number) in [("progress", progress), ("inventory", inventory)] {
        assert!(is_there(&backend, key, &content(number)), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_stands_for_one_save_when_a_lease_before_the_last_is_given_again() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    save(&server, "progress", 1);
    server.store.release("ada", LONG).await;
    server.load("ada").await;
    save(&server, "progress", 2);
    server.store.release("ada", LONG).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    server.load("ada").await;
    save(&server, "progress", 3);
    server.store.flush(None, LONG).await;
    let number = |event: &Event| match event {
        Event::Saved { epoch, sequence, .. } => Some((*epoch, *sequence)),
        _ => None,
    };
    let numbers: Vec<(i64, i64)> = server.news().iter().filter_map(number).collect();
    assert_eq!(numbers, [(1, 1), (2, 1), (1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_only_loaded_of_a_player_who_is_leaving_is_kept_too() {
    let backend = SimulatedBackend::new();
    let other = Server::start(&backend, &disk()).await;
    let server = Server::start(&backend, &disk()).await;
    let backup = backend.state.lock().expect("not poisoned").back_up();
    other.load("ada").await;
    other.store.save("ada", "loaded", content(7)).expect("taken");
    other.store.release("ada", LONG).await;
    server.load("ada").await;
    backend.state.lock().expect("not poisoned").restore(backup);
    save(&server, "progress", 1);
    // The last save tells that the lease is lost, and then the player is forgotten.
    server.store.release("ada", LONG).await;
    until(|| server.store.pending_count() == 0).await;
    for (key, number) in [("progress", 1), ("loaded", 7)] {
        assert!(is_there(&backend, key, &content(number)), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_notices_while_the_release_gets_no_answer() {
    let (backend, server, backup) = confirmed_since_the_backup().await;
    backend.state.lock().expect("not poisoned").lost_call = Some("release");
    server.store.release("ada", Duration::from_secs(2)).await;
    backend.state.lock().expect("not poisoned").restore(backup);
    until(|| detections(&server) == 1).await;
    // A server that ends now owes it, and says so.
    assert!(server.store.pending_count() > 0 || is_there(&backend, "progress", &content(1)));
    until(|| is_there(&backend, "progress", &content(1))).await;
    backend.state.lock().expect("not poisoned").lost_call = None;
    let holder = || {
        let state = backend.state.lock().expect("not poisoned");
        state.leases.get("ada").and_then(|lease| lease.holder.clone())
    };
    until(|| holder().is_none()).await;
    assert_eq!(server.disk.saves(), []);
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_a_backend_that_does_not_know_the_server_any_more() {
    let backend = SimulatedBackend::new();
    let before_the_server = backend.state.lock().expect("not poisoned").back_up();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    save(&server, "progress", 1);
    server.store.flush(None, LONG).await;
    backend.state.lock().expect("not poisoned").restore(before_the_server);
    // The first that reaches the backend is the release, which is answered `server_unknown`.
    server.store.release("ada", LONG).await;
    until(|| is_there(&backend, "progress", &content(1))).await;
    assert!(!server.store.is_holding("ada"));
    until(|| server.disk.saves().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_is_answered_too_late_does_not_drop_a_release_without_an_answer() {
    let (backend, server, backup) = confirmed_since_the_backup().await;
    {
        let mut state = backend.state.lock().expect("not poisoned");
        state.troubles.push_back(Some(Trouble::LateReply(Duration::from_secs(1))));
        state.lost_call = Some("release");
    }
    let calls = || backend.calls.load(Ordering::SeqCst);
    let before = calls();
    let store = server.store.clone();
    let load = tokio::spawn(async move { store.load("ada", LONG).await });
    until(|| calls() > before).await;
    server.store.release_all(Duration::from_millis(500)).await;
    let loaded = load.await.expect("no panic");
    assert!(loaded.is_err(), "all players are being released");
    assert!(server.store.awaits_release(), "what was confirmed is not known any more");
    {
        let mut state = backend.state.lock().expect("not poisoned");
        state.restore(backup);
        state.lost_call = None;
    }
    until(|| is_there(&backend, "progress", &content(1))).await;
}

/// The journal keeps that it was only loaded: the next process does not take it for a save.
#[tokio::test(start_paused = true)]
async fn what_was_only_loaded_is_no_save_of_a_process_that_died() {
    let backend = SimulatedBackend::new();
    let state = || backend.state.lock().expect("not poisoned");
    let other = Server::start(&backend, &disk()).await;
    other.load("ada").await;
    other.store.save("ada", "loaded", content(7)).expect("taken");
    other.store.release("ada", LONG).await;
    let backup = state().back_up();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    state().restore(backup);
    state().refuses_saves = true;
    until(|| server.heard(|event| matches!(event, Event::RollbackDetected))).await;
    assert_eq!(server.store.pending_count(), 1);
    until(|| server.store.unjournalled_count() == 0).await;
    let disk = server.disk.clone();
    server.crash();
    state().refuses_saves = false;
    let arrives = |fact: &&Fact| matches!(fact, Fact::Received { key, .. } if key == "loaded");
    let arrived = || state().facts.iter().filter(arrives).count();
    let before = arrived();
    other.load("ada").await;
    other.store.save("ada", "loaded", content(8)).expect("taken");
    other.store.flush(None, LONG).await;
    assert_eq!(arrived(), before + 1);
    let next = Server::start(&backend, &disk).await;
    until(|| arrived() == before + 2 && next.store.pending_count() == 0).await;
    assert_eq!(stored(&backend, "ada", "loaded"), Some(content(8)));
    assert!(state().conflicts.is_empty(), "it was no save");
}
