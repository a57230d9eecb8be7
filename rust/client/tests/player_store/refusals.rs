//! What is refused is counted, and told by whoever is asked whether all is safe.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_flush_says_which_saves_were_refused() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let large = json!({"a": "x".repeat(limits::MAX_DOCUMENT_BYTES)}).as_object().expect("object").clone();
    server.store.save("ada", "progress", large).expect_err("too large");
    server.store.save("ada", "a/b", content(1)).expect_err("no key");
    server.store.save("nobody", "progress", content(1)).expect_err("not loaded");
    let error = ClientError::field("value.position", "cannot be saved: Vector3");
    server.store.note_refused("ada", "position", &error);
    assert_eq!(server.store.refused_count(), 4);
    assert_eq!(server.store.flush(None, LONG).await, Flushed { refused: 4, ..Flushed::default() });
    // Of those who are not here, it is told once.
    assert_eq!(server.store.flush(None, LONG).await.refused, 3);
    assert_eq!(server.store.save_now("ada", LONG).await.expect_err("refused"), error);
    // A later save of the same document settles it.
    server.save("ada", 2);
    assert_eq!(server.store.flush(Some("ada"), LONG).await, Flushed { refused: 2, ..all_saved(1) });
    server.store.save("ada", "position", content(1)).expect("taken");
    assert_eq!(server.store.save_now("ada", LONG).await.expect_err("a/b").code(), "invalid_field");
    server.store.release("ada", LONG).await;
    server.load("ada").await;
    assert_eq!(server.store.save_now("ada", LONG).await.expect("nothing is left"), Flushed::default());
    assert_eq!(server.store.refused_count(), 4);
}

#[tokio::test(start_paused = true)]
async fn however_much_is_refused_little_is_remembered() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    for number in 0..5_000 {
        server.store.save(&format!("p{number}"), "progress", content(1)).expect_err("not loaded");
    }
    assert_eq!(server.store.refused_count(), 5_000);
    assert_eq!(server.store.flush(None, LONG).await.refused, 1_024);
    server.store.save("p4999", "progress", content(1)).expect_err("not loaded");
    assert_eq!(server.store.save_now("p4999", LONG).await.expect_err("not loaded").code(), "not_loaded");
}

#[tokio::test(start_paused = true)]
async fn a_document_too_many_costs_nothing_but_itself() {
    let backend = SimulatedBackend::new();
    backend.state.lock().expect("not poisoned").max_documents = Some(1);
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.save("ada", 1);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(1));
    server.store.save("ada", "another", content(1)).expect("taken");
    assert_eq!(server.store.save_now("ada", LONG).await.expect_err("refused").code(), "too_many_documents");
    // The player is still held, and what there is is saved.
    server.save("ada", 2);
    assert_eq!(server.store.flush(None, LONG).await.saved, 1);
}
