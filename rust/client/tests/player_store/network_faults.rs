//! One server, a backend that is hard to reach.

use std::collections::VecDeque;

use backend_simulation::Trouble;
use proptest::prelude::*;

use super::*;

#[tokio::test(start_paused = true)]
async fn changes_close_together_travel_once() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    for number in 1..=50 {
        assert_eq!(server.save("ada", number), u64::try_from(number).expect("positive"));
    }
    assert_eq!(server.store.pending_count(), 1);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(1));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(50)));
    let (player_id, key) = ("ada".to_owned(), "progress".to_owned());
    let local =
        LocalSave { player_id: player_id.clone(), key: key.clone(), revision: 50, epoch: 1, sequence: 1 };
    let saved = Event::Saved { player_id, key, version: 1, revision: 50, epoch: 1, sequence: 1 };
    assert_eq!(server.news(), [Event::Journalled(vec![local]), saved], "local first, then remote");
}

#[tokio::test(start_paused = true)]
async fn a_document_is_sent_without_being_asked_for() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.save("ada", 1);
    until(|| server.store.pending_count() == 0).await;
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_is_not_sent_again() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let first = server.save("ada", 1);
    server.store.flush(None, LONG).await;
    assert_eq!(server.save("ada", 1), first);
    assert_eq!(server.store.pending_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_applies_nothing_twice() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    backend.state.lock().expect("not poisoned").troubles = VecDeque::from([Some(Trouble::LostReply); 3]);
    server.save("ada", 1);
    assert_eq!(server.store.flush(None, LONG).await.unsaved, 0);
    let state = backend.state.lock().expect("not poisoned");
    let stored = &state.documents[&("ada".to_owned(), "progress".to_owned())];
    assert_eq!((stored.applied.len(), stored.document.version), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_everything_and_loses_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    backend.set_outage(Some(Trouble::Unavailable));
    server.save("ada", 1);
    let flushed = server.store.flush(None, Duration::from_secs(30)).await;
    assert_eq!(flushed, Flushed { saved: 0, unsaved: 1, journalled: 1, ..Flushed::default() });
    assert!(!server.heard(|event| matches!(event, Event::Saved { .. })), "nothing was claimed");
    assert!(server.heard(|event| matches!(event, Event::BacklogChanged(Backlog { documents: 1, .. }))));
    backend.set_outage(None);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(1));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
    assert_eq!(server.store.backlog().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_gets_no_answer_in_time_is_made_smaller() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    backend.state.lock().expect("not poisoned").largest_batch = Some(600_000);
    for number in 0..40 {
        let Value::Object(large) = json!({"number": number, "pad": "x".repeat(200_000)}) else {
            unreachable!()
        };
        server.store.save("ada", &format!("large-{number}"), large).expect("taken");
    }
    assert_eq!(server.store.flush(None, LONG).await, all_saved(40));
    assert_eq!(backend.state.lock().expect("not poisoned").documents.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_with_the_first_heartbeat_that_is_answered() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    let beats = || backend.state.lock().expect("not poisoned").heartbeats.len();
    for round in 1..=20 {
        backend.set_outage(Some(Trouble::Unavailable));
        server.save("ada", round);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(server.store.pending_count(), 1);
        backend.set_outage(None);
        let before = beats();
        // Tells the backend within a second.
        server.registration.set_players(u32::try_from(round).expect("positive")).expect("few");
        until(|| beats() > before).await;
        // Far less than the pause between two attempts.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.store.pending_count(), 0, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_comes_while_everything_is_let_go_is_refused_and_counted() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.save("ada", 1);
    // The first batch takes a second attempt, and the game saves once more before that.
    backend.state.lock().expect("not poisoned").troubles = VecDeque::from([Some(Trouble::LostReply)]);
    let late = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.store.save("ada", "progress", content(2)).expect_err("final").code()
    };
    let (flushed, code) = tokio::join!(server.store.release_all(LONG), late);
    assert_eq!((flushed, code), (Flushed { refused: 1, ..all_saved(1) }, "not_loaded"));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
    assert_eq!(server.store.player_count(), 0, "the player is let go");
}

#[tokio::test(start_paused = true)]
async fn bad_documents_are_refused_by_name_and_change_nothing() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    let store = &server.store;
    assert_eq!(store.save("ada", "progress", content(1)).expect_err("refused").code(), "not_loaded");
    server.load("ada").await;
    server.save("ada", 1);
    let large = json!({"text": "x".repeat(limits::MAX_DOCUMENT_BYTES)}).as_object().expect("object").clone();
    let error = store.save("ada", "progress", large).expect_err("refused");
    assert_eq!((error.code(), error.field.as_deref()), ("invalid_field", Some("value")));
    let error = store.save("ada", "a/b", content(1)).expect_err("refused");
    assert_eq!(error.field.as_deref(), Some("key"));
    assert_eq!(store.document("ada", "progress").as_deref(), Some(&content(1)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_player_is_told_from_a_held_one() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    let error = server.store.load("nobody", LONG).await.expect_err("unknown");
    assert_eq!((error.code(), error.retryable), ("player_not_found", false));
}

#[tokio::test(start_paused = true)]
async fn a_merge_patch_changes_what_it_names() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.save("ada", 1);
    let patch = json!({"n": null, "gold": 3}).as_object().expect("object").clone();
    server.store.merge_patch("ada", "progress", &patch).expect("taken");
    server.store.flush(None, LONG).await;
    assert_eq!(stored(&backend, "ada", "progress").map(Value::Object), Some(json!({"gold": 3})));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_flushed_and_then_forgotten() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    server.save("ada", 1);
    backend.set_outage(Some(Trouble::LostRequest));
    assert_eq!(server.store.release("ada", Duration::from_secs(5)).await.unsaved, 1);
    assert_eq!(server.store.player_count(), 1, "kept until it is committed");
    backend.set_outage(None);
    until(|| server.store.player_count() == 0).await;
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
    assert_eq!(
        server.store.backlog(),
        Backlog { last_flush: server.store.backlog().last_flush, ..Backlog::default() }
    );
    let let_go = || backend.state.lock().expect("not poisoned").leases["ada"].holder.is_none();
    until(let_go).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_and_comes_back_at_once_finds_the_last_state() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("ada").await;
    for round in 1..=5 {
        server.save("ada", round);
        let (flushed, loaded) = tokio::join!(server.store.release("ada", LONG), async {
            tokio::task::yield_now().await;
            server.load("ada").await
        });
        assert_eq!(flushed.unsaved, 0);
        assert_eq!(number_of(&loaded, "progress"), Some(round));
        // Depending on who was first the player is still here, or here again.
        let again = server.load("ada").await;
        assert_eq!(number_of(&again, "progress"), Some(round));
    }
}

#[tokio::test(start_paused = true)]
async fn many_players_go_in_few_batches() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    for player in 0..250 {
        let id = format!("p{player}");
        server.load(&id).await;
        server.save(&id, player);
    }
    let before = backend.calls.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(server.store.flush(None, LONG).await, all_saved(250));
    let calls = backend.calls.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(calls <= 4, "{calls} calls");
}

#[derive(Debug, Clone)]
enum Step {
    Save(u8, u8, i64),
    Wait(u16),
    Flush,
    Trouble(Trouble),
}

fn step() -> impl Strategy<Value = Step> {
    let trouble =
        prop_oneof![Just(Trouble::LostRequest), Just(Trouble::LostReply), Just(Trouble::Unavailable)];
    prop_oneof![
        4 => (0u8..3, 0u8..2, any::<i64>()).prop_map(|(player, key, number)| Step::Save(player, key, number)),
        2 => (0u16..3_000).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        3 => trouble.prop_map(Step::Trouble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Random saves over a random network: once it heals, the backend has each document's last content, and no
    /// (epoch, sequence) was applied twice or out of order.
    #[test]
    fn the_last_save_arrives_once(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let backend = SimulatedBackend::new();
            let server = Server::start(&backend, &disk()).await;
            for player in 0..3 {
                server.load(&format!("p{player}")).await;
            }
            let mut last = HashMap::new();
            for step in steps {
                match step {
                    Step::Save(player, key, number) => {
                        let (player, key) = (format!("p{player}"), format!("k{key}"));
                        server.store.save(&player, &key, content(number)).expect("taken");
                        last.insert((player, key), content(number));
                    }
                    Step::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds.into())).await,
                    Step::Flush => drop(server.store.flush(None, Duration::from_secs(2)).await),
                    Step::Trouble(trouble) => {
                        backend.state.lock().expect("not poisoned").troubles.push_back(Some(trouble));
                    }
                }
            }
            backend.state.lock().expect("not poisoned").troubles.clear();
            let flushed = server.store.flush(None, LONG).await;
            prop_assert_eq!(flushed.unsaved, 0);
            let state = backend.state.lock().expect("not poisoned");
            for (name, expected) in last {
                let stored = &state.documents[&name];
                prop_assert_eq!(&stored.document.value, &expected);
                prop_assert!(stored.applied.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", stored.applied);
                prop_assert_eq!(stored.document.version, i64::try_from(stored.applied.len()).expect("few"));
            }
            Ok(())
        })?;
    }
}
