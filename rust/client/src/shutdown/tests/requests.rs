//! Several requests: which are one, and which mean that somebody does not want to wait.

use super::super::*;
use super::before_its_time::cut_short;
use super::bench::{AT_ONCE, Bench, LONG, NEVER, bench};

async fn collected_and_sending(bench: &Bench) {
    bench.shutdown.collected();
    while !bench.has_reached(&Phase::Sending) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_request_again_within_two_seconds_changes_nothing() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    let ask = |reason| bench.shutdown.request_from_outside(reason, LONG);
    assert_eq!(ask("SIGTERM"), Response::Started);
    // GNU timeout, process groups, supervisors: the same signal, or another one, milliseconds later.
    assert_eq!([ask("SIGTERM"), ask("SIGHUP")], [Response::Joined; 2]);
    collected_and_sending(&bench).await;
    assert_eq!(ask("SIGTERM"), Response::Joined);
    tokio::time::sleep(SAME_REQUEST.saturating_sub(Duration::from_millis(100))).await;
    assert_eq!(ask("window_closed"), Response::Joined);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ask("SIGTERM"), Response::ForceExit, "counted from the first");
    bench.shutdown.abandoned();
}

#[tokio::test(start_paused = true)]
async fn the_same_request_before_the_final_state_is_in_changes_nothing() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Started);
    // The plan has no turn in between: as far as it knows, the game is still collecting.
    tokio::time::advance(SAME_REQUEST + Duration::from_secs(1)).await;
    assert!(!bench.shutdown.0.so_far().collected, "the test is about what comes before");
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
}

#[tokio::test(start_paused = true)]
async fn the_first_signal_after_a_request_of_the_game_is_no_second_one() {
    let bench = bench(&[(2, AT_ONCE, NEVER)], NEVER);
    assert!(bench.shutdown.request("drain_requested", LONG));
    collected_and_sending(&bench).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::Joined);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::ForceExit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_after_the_game_went_on_counts_what_came_since() {
    let bench = bench(&[(2, AT_ONCE, AT_ONCE)], AT_ONCE);
    bench.shutdown.request("maintenance", LONG);
    bench.shutdown.collected();
    assert_eq!(bench.summary().await.exit_code(), 0);
    let shutdown = bench.shutdown.clone();
    tokio::task::spawn_blocking(move || shutdown.stay()).await.expect("joined");
    bench.stores[0].left().documents = 5;
    assert_eq!(bench.shutdown.request_from_outside("SIGTERM", LONG), Response::ForceExit);
    let summary = cut_short(&bench).await;
    assert_eq!((summary.left_in_journal, summary.exit_code()), (Some(5), EXIT_UNSAVED));
}
