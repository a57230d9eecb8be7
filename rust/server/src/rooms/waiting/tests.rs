//! Who looks again, and when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::WaitingRequests;
use crate::allocation::Allocation;

const NEVER: fn() -> bool = || false;

#[tokio::test]
async fn of_a_players_requests_the_newest_looks_again() {
    let (waiting, allocation) = (WaitingRequests::default(), Allocation::default());
    let (older, other) = (waiting.enter("ada"), waiting.enter("bob"));
    let newer = waiting.enter("ada");
    let looks_again = async |request: &super::WaitingRequest| {
        let until = Instant::now() + Duration::from_millis(50);
        request.is_to_look_again(&allocation, &mut allocation.changes(), None, until, NEVER).await
    };
    assert!(!looks_again(&older).await);
    assert!(looks_again(&newer).await && looks_again(&other).await);
    // Whoever was replaced stays so.
    drop(newer);
    assert!(!looks_again(&older).await);
    drop((older, other));
    assert!(waiting.newest().by_player.is_empty());
}

/// The first of the two that completes.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    tokio::select! { biased; value = one => value, value = other => value }
}

#[tokio::test]
async fn only_those_that_wait_for_an_allocation_are_woken() {
    let (waiting, allocation) = (WaitingRequests::default(), Allocation::default());
    allocation.note_pending("pond");
    let (searching, pending) = (waiting.enter("ada"), waiting.enter("bob"));
    // Replaced by another one, and still woken by its own room.
    let _newer = waiting.enter("bob");
    let until = Instant::now() + Duration::from_secs(600);
    let (mut one, mut other) = (allocation.changes(), allocation.changes());
    let searches = async {
        searching.is_to_look_again(&allocation, &mut one, None, until, NEVER).await;
        "searching"
    };
    let waits = async {
        assert!(pending.is_to_look_again(&allocation, &mut other, Some("pond"), until, NEVER).await);
        "pending"
    };
    allocation.note_settled("pond");
    assert_eq!(first(searches, waits).await, "pending");
}

#[tokio::test]
async fn all_end_when_the_process_stops() {
    let (waiting, allocation) = (WaitingRequests::default(), Allocation::default());
    allocation.note_pending("pond");
    let until = Instant::now() + Duration::from_secs(600);
    let is_stopping = AtomicBool::new(false);
    let stops = || is_stopping.load(Ordering::Relaxed);
    let (searching, pending) = (waiting.enter("ada"), waiting.enter("bob"));
    let (mut one, mut other) = (allocation.changes(), allocation.changes());
    let ends = async {
        is_stopping.store(true, Ordering::Relaxed);
        allocation.notify();
    };
    let (searches, waits, ()) = tokio::join!(
        searching.is_to_look_again(&allocation, &mut one, None, until, stops),
        pending.is_to_look_again(&allocation, &mut other, Some("pond"), until, stops),
        ends,
    );
    assert!(!searches && !waits);
}
