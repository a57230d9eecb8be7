//! The shutdown's order, its deadlines, and what it says about where everything is.

mod before_its_time;
mod bench;
mod requests;

use self::bench::{AT_ONCE, LONG, NEVER, bench};
use super::plan::COLLECT;
use super::*;

#[tokio::test(start_paused = true)]
async fn everything_happens_once_and_in_order() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    assert!(bench.shutdown.request("SIGTERM", LONG));
    assert!(!bench.shutdown.request("SIGINT", LONG), "once");
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let instantly = Summary {
        reason: "SIGTERM".to_owned(),
        players: 2,
        saved_locally: 3,
        saved: 3,
        refused: Some(0),
        not_collected: Some(0),
        left_in_journal: Some(0),
        unsaved: Some(0),
        deregistered: true,
        ..Summary::default()
    };
    assert_eq!((summary.exit_code(), summary), (0, instantly));
    assert_eq!(
        *bench.log.lock().expect("not poisoned"),
        ["drain", "seal", "flush_local", "flush", "seal", "release", "deregister"]
    );
    {
        let phases = bench.phases.lock().expect("not poisoned");
        assert!(
            matches!(
                &phases[..],
                [
                    Phase::Draining(reason, LONG),
                    Phase::Collecting,
                    Phase::Journalling,
                    Phase::Sending,
                    Phase::Releasing,
                    Phase::Completed(_)
                ] if reason == "SIGTERM"
            ),
            "{phases:?}"
        );
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(bench.exits.lock().expect("not poisoned").is_empty(), "the main thread leaves by itself");
}

#[tokio::test(start_paused = true)]
async fn each_phase_is_timed() {
    let seconds = |count| Some(Duration::from_secs(count));
    let bench = bench(&[(1, seconds(3), seconds(4))], seconds(5));
    bench.shutdown.request("SIGTERM", LONG);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let phases = [summary.collect, summary.journal, summary.send, summary.release, summary.total];
    assert_eq!(phases.map(|phase| phase.as_secs()), [1, 3, 4, 5, 13]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_main_thread_holds_up_nothing() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    let summary = bench.summary().await;
    assert_eq!((summary.collect.as_secs(), summary.saved, summary.unsaved), (COLLECT.as_secs(), 3, None));
    assert_eq!((summary.not_collected, summary.left_in_journal), (Some(2), Some(0)));
    while bench.exits.lock().expect("not poisoned").is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What the game did not hand in is not known.
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(EXIT_UNSAVED, summary)]);
}

#[tokio::test(start_paused = true)]
async fn a_main_thread_that_left_early_is_waited_for_by_nobody() {
    let bench = bench(&[(3, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.abandoned();
    let summary = bench.summary().await;
    assert_eq!((summary.collect, summary.saved, summary.unsaved), (Duration::ZERO, 3, Some(0)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(0, summary)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_releases_got_no_answer_stays_on_the_list() {
    let bench = bench(&[(1, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.stores[0].is_unanswered.store(true, Ordering::SeqCst);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    // It has no more to send. Leaving would release its players without the question whether the backend still has all.
    assert_eq!((summary.exit_code(), summary.deregistered), (0, false));
    assert_eq!(bench.log.lock().expect("not poisoned").last(), Some(&"release"));
}

#[tokio::test(start_paused = true)]
async fn a_short_grace_gives_the_game_less_time() {
    let bench = bench(&[], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(5));
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!(summary.collect.as_millis(), 1_500);
}

#[tokio::test(start_paused = true)]
async fn with_the_backend_away_everything_is_left_in_the_journal_in_time() {
    let grace = Duration::from_secs(100);
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    bench.shutdown.request("SIGTERM", grace);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved), (2, 0));
    assert_eq!((summary.left_in_journal, summary.unsaved, summary.deregistered), (Some(2), Some(0), false));
    assert_eq!(summary.exit_code(), EXIT_UNSAVED);
    let log = bench.log.lock().expect("not poisoned");
    assert_eq!(
        log.last(),
        Some(&"release"),
        "no lease ends before what the journal has of its player is sent"
    );
    assert_eq!([summary.send, summary.release, summary.total].map(|phase| phase.as_secs()), [80, 5, 85]);
}

#[tokio::test(start_paused = true)]
async fn without_a_journal_the_backend_still_gets_everything() {
    let bench = bench(&[(2, NEVER, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved, summary.unsaved), (0, 2, Some(0)));
    assert_eq!((summary.journal.as_secs(), summary.exit_code()), (25, 0));
}

#[tokio::test(start_paused = true)]
async fn with_neither_journal_nor_backend_the_documents_are_called_lost() {
    let bench = bench(&[(2, NEVER, NEVER)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.left_in_journal, summary.unsaved), (Some(0), Some(2)));
    assert_eq!((summary.exit_code(), summary.total.as_secs()), (EXIT_UNSAVED, 85));
    assert!(summary.to_string().ends_with("(2 documents are lost)"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_takes_nothing_from_the_others() {
    let bench = bench(&[(1, NEVER, NEVER), (5, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_secs(100));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.players, summary.saved_locally, summary.saved, summary.unsaved), (4, 5, 5, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_journal_is_written_counts_as_saved() {
    let bench = bench(&[(3, Some(Duration::from_secs(2)), AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Journalling) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.stores[0].left().documents -= 1;
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    assert_eq!((summary.saved_locally, summary.saved, summary.unsaved), (3, 3, Some(0)));
}

#[test]
fn the_log_line_says_it_all() {
    let ms = Duration::from_millis;
    let summary = Summary {
        ending: Ending::Complete,
        reason: "SIGTERM".to_owned(),
        players: 5,
        saved_locally: 9,
        saved: 6,
        conflicted: 1,
        refused: Some(3),
        not_collected: Some(0),
        left_in_journal: Some(2),
        unsaved: Some(0),
        deregistered: true,
        collect: ms(1),
        journal: ms(2),
        send: ms(3),
        release: ms(4),
        total: ms(10),
    };
    assert_eq!(
        summary.to_string(),
        "shutdown complete reason=SIGTERM players=5 saved_locally=9 saved=6 conflicted=1 refused=3 not_collected=0 \
         left_in_journal=2 unsaved=0 deregistered=true collect_ms=1 journal_ms=2 send_ms=3 release_ms=4 total_ms=10 (2 documents are safe in the \
         journal and sent at the next start)"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_main_thread_that_hangs_on_its_way_out_is_ended_at_the_deadline() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("SIGTERM", Duration::from_millis(200));
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    while bench.exits.lock().expect("not poisoned").is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((summary.ending, summary.saved), (Ending::Complete, 2));
    assert_eq!(*bench.exits.lock().expect("not poisoned"), [(0, summary)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_on_has_no_deadline() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    let grace = Duration::from_millis(200);
    bench.shutdown.request("SIGTERM", grace);
    bench.shutdown.collected();
    bench.summary().await;
    let shutdown = bench.shutdown.clone();
    tokio::task::spawn_blocking(move || shutdown.stay()).await.expect("joined");
    let threads = bench.shutdown.0.alarms().len();
    assert_eq!(threads, 0);
    tokio::time::sleep(grace * 2).await;
    assert!(bench.exits.lock().expect("not poisoned").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_may_have_left_is_not_called_nothing() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.stores[0].left().may_be_more = true;
    bench.shutdown.request("SIGTERM", LONG);
    bench.shutdown.collected();
    let summary = bench.summary().await;
    bench.shutdown.leaving();
    let counts = (summary.saved, summary.left_in_journal, summary.unsaved, summary.exit_code());
    assert_eq!(counts, (2, None, Some(0), EXIT_UNSAVED));
    assert!(summary.to_string().contains(" left_in_journal=unknown unsaved=0 "), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_moves_forward_is_kept() {
    let bench = bench(&[(3, AT_ONCE, NEVER)], AT_ONCE);
    assert!(!bench.shutdown.hasten(LONG), "nothing has begun");
    bench.shutdown.request("notice", LONG);
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Sending) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!bench.shutdown.hasten(LONG * 2), "later is not sooner");
    assert!(bench.shutdown.hasten(LONG / 4));
    assert!(bench.shutdown.hasten(LONG / 8));
    assert!(!bench.shutdown.hasten(LONG / 4));
    let summary = bench.summary().await;
    assert!(summary.total <= LONG / 8, "{summary}");
    assert_eq!(summary.left_in_journal, Some(3));
    assert!(!bench.shutdown.hasten(Duration::from_secs(1)), "it is over");
    bench.shutdown.leaving();
}
