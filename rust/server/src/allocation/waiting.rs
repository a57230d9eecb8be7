//! Requests for rooms that wait: of each player, the newest one of this replica looks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Allocation;

/// Who has no room yet, and is not waiting for one that starts, looks again this often.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Who waits for a room that starts looks again this often, in case that the notice of it was missed.
const PENDING_INTERVAL: Duration = Duration::from_secs(2);

/// The newest waiting request of each player. Cheap to clone.
#[derive(Clone, Default)]
pub struct WaitingRequests(Arc<Mutex<Newest>>);

#[derive(Default)]
struct Newest {
    by_player: HashMap<String, u64>,
    last: u64,
}

/// A request that waits, until it is dropped.
pub struct WaitingRequest {
    all: WaitingRequests,
    player_id: String,
    number: u64,
}

impl WaitingRequests {
    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request. Those of the same player that wait already look again only when their own rooms are ready: to end them at once
    /// would make two clients of a player replace each other without a pause.
    pub fn enter(&self, player_id: &str) -> WaitingRequest {
        let mut newest = self.newest();
        newest.last += 1;
        let number = newest.last;
        newest.by_player.insert(player_id.to_owned(), number);
        WaitingRequest { all: self.clone(), player_id: player_id.to_owned(), number }
    }
}

impl WaitingRequest {
    fn is_newest(&self) -> bool {
        self.all.newest().by_player.get(&self.player_id) == Some(&self.number)
    }

    /// Waits until it is time to look again: at once when the allocation is pending no more, else after an interval, which only
    /// the newest request of a player has. Returns false when the reply is due at `until`, or the process stops.
    pub async fn is_to_look_again(
        &self,
        allocation: &Allocation,
        changes: &mut watch::Receiver<u64>,
        allocation_id: Option<&str>,
        until: Instant,
        is_stopping: impl Fn() -> bool,
    ) -> bool {
        let interval = if allocation_id.is_some() { PENDING_INTERVAL } else { SEARCH_INTERVAL };
        loop {
            let next = (Instant::now() + interval).min(until);
            loop {
                if is_stopping() || Instant::now() >= until {
                    return false;
                }
                let is_over = timeout_at(next, changes.changed()).await.is_err();
                // Whoever waits for any seat learns nothing from rooms that became ready: those are for others.
                if allocation_id.is_some_and(|allocation_id| !allocation.is_pending(allocation_id)) {
                    return true;
                }
                if is_over {
                    break;
                }
            }
            if self.is_newest() {
                return true;
            }
        }
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        let mut newest = self.all.newest();
        if newest.by_player.get(&self.player_id) == Some(&self.number) {
            newest.by_player.remove(&self.player_id);
        }
    }
}

#[cfg(test)]
mod tests;
