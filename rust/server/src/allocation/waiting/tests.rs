//! Who looks again, and when.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
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

/// What `future` gives if it is ready now.
async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn only_those_that_wait_for_an_allocation_are_woken() {
    let (waiting, allocation) = (WaitingRequests::default(), Allocation::default());
    allocation.note_pending("pond");
    allocation.note_pending("lake");
    let until = Instant::now() + Duration::from_secs(600);
    let (ada, bob, eve) = (waiting.enter("ada"), waiting.enter("bob"), waiting.enter("eve"));
    // Bob's is replaced by another one, and still woken by its own room.
    let _newer = waiting.enter("bob");
    let (mut ada_sees, mut bob_sees, mut eve_sees) =
        (allocation.changes(), allocation.changes(), allocation.changes());
    let mut searches = pin!(ada.is_to_look_again(&allocation, &mut ada_sees, None, until, NEVER));
    let mut waits = pin!(bob.is_to_look_again(&allocation, &mut bob_sees, Some("pond"), until, NEVER));
    let mut other = pin!(eve.is_to_look_again(&allocation, &mut eve_sees, Some("lake"), until, NEVER));
    assert_eq!(poll_once(waits.as_mut()).await, None);
    allocation.note_settled("pond");
    assert_eq!(poll_once(waits.as_mut()).await, Some(true));
    assert_eq!((poll_once(searches.as_mut()).await, poll_once(other.as_mut()).await), (None, None));
}

#[tokio::test]
async fn who_searches_ends_at_once_when_the_process_stops() {
    let (waiting, allocation) = (WaitingRequests::default(), Allocation::default());
    let until = Instant::now() + Duration::from_secs(600);
    let (request, is_stopping) = (waiting.enter("ada"), AtomicBool::new(false));
    let stops = || is_stopping.load(Ordering::Relaxed);
    let mut changes = allocation.changes();
    let mut searches = pin!(request.is_to_look_again(&allocation, &mut changes, None, until, stops));
    assert_eq!(poll_once(searches.as_mut()).await, None);
    is_stopping.store(true, Ordering::Relaxed);
    allocation.notify();
    assert_eq!(poll_once(searches.as_mut()).await, Some(false));
}
