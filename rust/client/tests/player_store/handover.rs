//! Several servers: one player at a time on one of them, and nothing lost on the way.

use backend_simulation::Trouble;
use tokio::time::Instant;

use super::*;

async fn two_servers() -> (Arc<SimulatedBackend>, Server, Server) {
    let backend = SimulatedBackend::new();
    backend.state.lock().expect("not poisoned").heartbeat_seconds = 5;
    let one = Server::start(&backend, &disk()).await;
    let other = Server::start(&backend, &disk()).await;
    (backend, one, other)
}

/// `one` is cut off until its lease has run out and `other` has taken the player; then it speaks again.
async fn fenced() -> (Arc<SimulatedBackend>, Server, Server) {
    let (backend, one, other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    one.store.flush(None, LONG).await;
    one.save("ada", 2);
    one.store.flush_local(LONG).await;
    one.power.freeze();
    assert_eq!(number_of(&other.load("ada").await, "progress"), Some(1));
    one.power.resume();
    (backend, one, other)
}

#[tokio::test(start_paused = true)]
async fn a_player_who_moves_finds_the_last_save() {
    let (_backend, one, other) = two_servers().await;
    one.load("ada").await;
    for round in 1..=10 {
        let (from, to) = if round % 2 == 1 { (&one, &other) } else { (&other, &one) };
        from.save("ada", round);
        let (flushed, loaded) = tokio::join!(from.store.release("ada", LONG), to.load("ada"));
        assert_eq!(flushed.unsaved, 0);
        assert_eq!(number_of(&loaded, "progress"), Some(round));
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_let_go_while_coming_back_stays() {
    let (backend, one, _other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    one.store.flush(None, LONG).await;
    // The load is on its way when the release of the visit before is done.
    let (loaded, flushed) = tokio::join!(one.load("ada"), one.store.release("ada", LONG));
    assert_eq!((number_of(&loaded, "progress"), flushed.unsaved), (Some(1), 0));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let holder = backend.state.lock().expect("not poisoned").leases["ada"].holder.clone();
    assert_eq!((one.store.is_holding("ada"), holder), (true, one.registration.server_id()));
}

#[tokio::test(start_paused = true)]
async fn who_is_let_go_while_coming_back_in_vain_is_gone() {
    let (backend, one, other) = two_servers().await;
    one.load("ada").await;
    let lost = Some(Trouble::LostRequest);
    backend.state.lock().expect("not poisoned").troubles.extend([lost]);
    let (loaded, _) = tokio::join!(one.store.load("ada", LONG), one.store.release("ada", LONG));
    loaded.expect_err("lost");
    until(|| backend.state.lock().expect("not poisoned").leases["ada"].holder.is_none()).await;
    other.load("ada").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_told_lets_a_wanted_player_go() {
    let (_backend, one, other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    let (loaded, ()) = tokio::join!(other.load("ada"), async {
        until(|| one.heard(|event| matches!(event, Event::PlayerWanted { .. }))).await;
        one.save("ada", 2);
    });
    assert_eq!(number_of(&loaded, "progress"), Some(2), "with the final state");
    assert_eq!(one.store.player_count(), 0);
    assert_eq!(one.store.save("ada", "progress", content(3)).expect_err("gone").code(), "not_loaded");
}

/// Servers that had no players until now, a moment after a heartbeat: the next one would be due in half a minute.
async fn two_idle_servers() -> (Arc<SimulatedBackend>, Server, Server) {
    let backend = SimulatedBackend::new();
    backend.state.lock().expect("not poisoned").holder_heartbeat_seconds = 5;
    let one = Server::start(&backend, &disk()).await;
    until(|| backend.state.lock().expect("not poisoned").heartbeats.len() == 1).await;
    let other = Server::start(&backend, &disk()).await;
    (backend, one, other)
}

#[tokio::test(start_paused = true)]
async fn from_the_first_player_on_a_hand_over_takes_the_short_interval_at_most() {
    let (_backend, one, other) = two_idle_servers().await;
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        // Whoever has let the player go has the long interval again.
        tokio::time::sleep(Duration::from_secs(31)).await;
        let (from, to) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        if round == 0 {
            from.load("ada").await;
        }
        let begun = Instant::now();
        let (_, ()) = tokio::join!(to.load("ada"), async {
            // The game answers at once.
            let wanted = |event: &Event| matches!(event, Event::PlayerWanted { .. });
            until(|| from.heard(wanted)).await;
            from.news.lock().expect("not poisoned").clear();
            from.store.release("ada", LONG).await;
        });
        longest = longest.max(begun.elapsed());
    }
    // The interval, and then the pause between two questions of the one who waits.
    assert!(longest <= Duration::from_secs(6), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_a_load_that_was_not_answered_is_let_go_as_soon() {
    let (backend, one, other) = two_idle_servers().await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    backend.state.lock().expect("not poisoned").troubles.extend([Some(Trouble::LostReply)]);
    one.store.load("ada", LONG).await.expect_err("no answer");
    let begun = Instant::now();
    other.load("ada").await;
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_a_player_is_told_why() {
    let (_backend, one, other) = two_servers().await;
    one.load("ada").await;
    one.power.freeze();
    let error = other.store.load("ada", Duration::from_secs(5)).await.expect_err("held");
    assert_eq!((error.code(), error.retryable), ("player_held", true));
}

#[tokio::test(start_paused = true)]
async fn a_save_that_comes_too_late_is_kept_and_both_are_told() {
    let (backend, one, other) = fenced().await;
    until(|| one.heard(|event| matches!(event, Event::Conflicted { epoch: 1, sequence: 2, .. }))).await;
    assert!(one.heard(|event| matches!(event, Event::LeaseLost { .. })));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)), "nothing was overwritten");
    assert_eq!(one.store.save("ada", "progress", content(3)).expect_err("lost").code(), "lease_lost");
    assert_eq!((one.store.pending_count(), one.store.backlog().bytes), (0, 0));
    until(|| {
        other.heard(|event| matches!(event, Event::ConflictFound(conflict) if conflict.value == content(2)))
    })
    .await;
    assert_eq!(other.store.conflicts("ada").await.expect("read").len(), 1);
    assert_eq!(one.disk.saves(), []);
}

/// What ada's document is after the conflict between 1 (+ what `other` made of it) and 2 was resolved.
async fn resolved(resolution: Resolution) -> Content {
    let (backend, _one, other) = fenced().await;
    other.store.save("ada", "progress", json!({"m": 7}).as_object().expect("object").clone()).expect("taken");
    until(|| other.heard(|event| matches!(event, Event::ConflictFound(_)))).await;
    let conflicts = other.store.conflicts("ada").await.expect("read");
    other.store.resolve(&conflicts[0], resolution).await.expect("resolved");
    assert_eq!(other.store.conflicts("ada").await.expect("read"), []);
    other.store.flush(None, LONG).await;
    stored(&backend, "ada", "progress").expect("there")
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_resolved_as_the_game_says() {
    let object = |value: Value| value.as_object().expect("object").clone();
    assert_eq!(resolved(Resolution::Ours).await, object(json!({"m": 7})));
    assert_eq!(resolved(Resolution::Theirs).await, object(json!({"n": 2})));
    assert_eq!(resolved(Resolution::MergePatch).await, object(json!({"m": 7, "n": 2})));
    assert_eq!(
        resolved(Resolution::Value(object(json!({"both": true})))).await,
        object(json!({"both": true}))
    );
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_nobody_resolved_is_told_again_at_the_next_load() {
    let (_backend, _one, other) = fenced().await;
    let found = || other.news().iter().filter(|event| matches!(event, Event::ConflictFound(_))).count();
    until(|| found() == 1).await;
    other.store.release("ada", LONG).await;
    other.load("ada").await;
    until(|| found() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn who_lost_a_player_can_take_it_again() {
    let (backend, one, other) = fenced().await;
    until(|| one.heard(|event| matches!(event, Event::LeaseLost { .. }))).await;
    other.save("ada", 5);
    other.store.release("ada", LONG).await;
    assert_eq!(number_of(&one.load("ada").await, "progress"), Some(5));
    one.save("ada", 6);
    one.store.flush(None, LONG).await;
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(6)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_without_knowing_is_let_go_when_wanted() {
    let (backend, one, other) = two_servers().await;
    // The request arrives, its answer does not, and nobody asks again.
    backend.state.lock().expect("not poisoned").troubles.extend([Some(Trouble::LostReply)]);
    one.store.load("ada", LONG).await.expect_err("no answer");
    let begun = Instant::now();
    other.load("ada").await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_player_who_was_taken_again_without_knowing_is_let_go_when_wanted() {
    let (backend, one, other) = fenced().await;
    until(|| one.heard(|event| matches!(event, Event::LeaseLost { .. }))).await;
    other.store.release("ada", LONG).await;
    let lost = Some(Trouble::LostReply);
    backend.state.lock().expect("not poisoned").troubles.extend([lost]);
    one.store.load("ada", LONG).await.expect_err("no answer");
    assert_eq!(
        backend.state.lock().expect("not poisoned").leases["ada"].holder,
        one.registration.server_id()
    );
    other.load("ada").await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_leaves_nothing_and_holds_nobody() {
    let (backend, one, other) = two_servers().await;
    for (number, player) in ["ada", "eve", "kim"].into_iter().enumerate() {
        one.load(player).await;
        one.save(player, i64::try_from(number).expect("few"));
    }
    assert_eq!(one.store.release_all(LONG).await, all_saved(3));
    assert!(backend.state.lock().expect("not poisoned").leases.values().all(|lease| lease.holder.is_none()));
    assert_eq!(number_of(&other.load("kim").await, "progress"), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_does_not_bring_back_a_player_of_the_past() {
    let (backend, one, _other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    one.store.flush(None, LONG).await;
    // The player reconnects: the backend answers at once, the answer takes long.
    backend
        .state
        .lock()
        .expect("not poisoned")
        .troubles
        .extend([Some(Trouble::LateReply(Duration::from_secs(3)))]);
    let (loaded, ()) = tokio::join!(one.load("ada"), async {
        // Meanwhile there is one more save, and the player leaves.
        tokio::time::sleep(Duration::from_secs(1)).await;
        one.save("ada", 2);
        one.store.release("ada", LONG).await;
    });
    assert_eq!(number_of(&loaded, "progress"), Some(2), "the reply was older than the save");
    one.save("ada", 3);
    assert_eq!(one.store.flush(None, LONG).await, all_saved(1));
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(3)), "superseded by an older number");
}

#[tokio::test(start_paused = true)]
async fn a_late_reply_does_not_hide_what_was_saved_since() {
    let (backend, one, _other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    one.store.flush(None, LONG).await;
    backend
        .state
        .lock()
        .expect("not poisoned")
        .troubles
        .extend([Some(Trouble::LateReply(Duration::from_secs(3)))]);
    let (loaded, ()) = tokio::join!(one.load("ada"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        one.save("ada", 2);
        one.store.flush(None, LONG).await;
    });
    assert_eq!(number_of(&loaded, "progress"), Some(2), "the reply was older than the save");
}

#[tokio::test(start_paused = true)]
async fn a_late_acknowledgement_covers_no_change_of_a_later_lease() {
    let (backend, one, other) = two_servers().await;
    one.load("ada").await;
    one.save("ada", 1);
    one.store.flush_local(LONG).await;
    backend
        .state
        .lock()
        .expect("not poisoned")
        .troubles
        .extend([Some(Trouble::LateReply(Duration::from_secs(600)))]);
    one.store.flush(None, Duration::from_millis(10)).await;
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)), "executed, but not answered");
    // The server sleeps, another one has the player meanwhile, and then this one again.
    one.power.freeze();
    other.load("ada").await;
    other.store.release("ada", LONG).await;
    one.power.resume();
    one.load("ada").await;
    let newer = one.save("ada", 2);
    let late = |event: &Event| matches!(event, Event::Saved { epoch: 1, .. });
    until(|| one.heard(late)).await;
    let told = one.news().into_iter().find(|event| late(event));
    assert!(matches!(told, Some(Event::Saved { revision, .. }) if revision < newer), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_in_while_everybody_is_let_go() {
    let backend = SimulatedBackend::new();
    let server = Server::start(&backend, &disk()).await;
    server.load("bob").await;
    // The reply is on its way when all are let go.
    let late = Trouble::LateReply(Duration::from_millis(200));
    backend.state.lock().expect("not poisoned").troubles.push_back(Some(late));
    let letting_go = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.store.release_all(LONG).await
    };
    let (loaded, flushed) = tokio::join!(server.store.load("ada", LONG), letting_go);
    assert_eq!(loaded.expect_err("too late").code(), "cancelled");
    assert_eq!(flushed.unsaved, 0);
    assert_eq!(server.store.player_count(), 0);
    // The lease that the backend gave is let go before the end.
    let other = Server::start(&backend, &disk()).await;
    other.load("ada").await;
}
