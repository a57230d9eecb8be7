//! Who follows: how many there are, and what they share with the task that reads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend_protocol::Code;
use tokio::sync::{Notify, watch};

use super::event_stream::{EventStream, NewFollower};
use super::event_text::Position;
use super::group::GroupKey;
use super::room_index::RoomIndex;
use crate::config::Config;
use crate::http::rate_limit::counted_address;
use crate::http::{ApiError, ApiResult};

/// Seconds after which a follower that was refused tries again.
const RETRY_SECONDS: u32 = 30;

/// The followers of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Followers(Arc<Shared>);

struct Shared {
    open: Mutex<Open>,
    /// None while the rooms are not read.
    index: Mutex<Option<RoomIndex>>,
    /// How many readings of the rooms have begun.
    begun: AtomicU64,
    /// The last one that the index shows; None while there is none.
    shown: watch::Sender<Option<u64>>,
    /// There may be something to read.
    wake: Notify,
    /// This process has changed rooms.
    committed: Notify,
}

#[derive(Default)]
struct Open {
    count: u32,
    by_address: HashMap<IpAddr, u32>,
    closed: bool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            index: Mutex::default(),
            begun: AtomicU64::new(0),
            shown: watch::Sender::new(None),
            wake: Notify::new(),
            committed: Notify::new(),
        }
    }
}

/// The right of one follower to be there.
pub struct Place {
    followers: Followers,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.followers.open();
        open.count -= 1;
        metrics::gauge!("backend_room_followers").decrement(1);
        if let Some(address) = self.address
            && let Some(here) = open.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

impl Followers {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Option<RoomIndex>> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more follower in.
    pub fn admit(&self, config: &Config) -> ApiResult<Place> {
        let address = counted_address();
        let mut open = self.open();
        if open.closed {
            return Err(ApiError::later(Code::Unavailable, 1, "the backend is stopping; try again"));
        }
        if open.count >= config.max_room_followers {
            return Err(ApiError::later(
                Code::Unavailable,
                RETRY_SECONDS,
                format!("{} room lists are followed already; read the list instead", open.count),
            ));
        }
        if let Some(address) = address {
            let here = open.by_address.entry(address).or_default();
            if *here >= config.max_room_followers_per_address {
                return Err(ApiError::later(
                    Code::RateLimited,
                    RETRY_SECONDS,
                    format!(
                        "{here} room lists are followed from this address already; read the list instead"
                    ),
                ));
            }
            *here += 1;
        }
        open.count += 1;
        metrics::gauge!("backend_room_followers").increment(1);
        drop(open);
        self.0.wake.notify_one();
        Ok(Place { followers: self.clone(), address })
    }

    /// Begins a stream once the rooms are read.
    ///
    /// Who comes back has been sent what a replica had read before, also changes that are not below the position of its last event.
    /// The rooms as this one has read them may be older, whatever the positions say: it would send what is over, and nothing of a
    /// room that is as it was by the next reading. Those of a reading that begins from now on are not. If that does not reach the
    /// follower's position, the database is another one, or older.
    pub(super) async fn join(&self, key: GroupKey, resumed: Option<Position>) -> ApiResult<EventStream> {
        let mut shown = self.0.shown.subscribe();
        let needed = if resumed.is_some() { self.0.begun.load(Ordering::SeqCst) + 1 } else { 0 };
        let mut key = Some(key);
        loop {
            let is_shown = shown.borrow_and_update().is_some_and(|reading| reading >= needed);
            if is_shown && let Some(follower) = self.follow(&mut key, resumed.as_ref()) {
                let follower = follower?;
                let begun = tokio::task::spawn_blocking(move || follower.begin()).await;
                return begun.map_err(anyhow::Error::from)?;
            }
            self.0.wake.notify_one();
            let changed = shown.changed().await;
            changed.map_err(|_| ApiError::from(anyhow::anyhow!("rooms are not read any more")))?;
        }
    }

    /// None while the rooms are not read: then `key` is still there.
    fn follow(
        &self,
        key: &mut Option<GroupKey>,
        resumed: Option<&Position>,
    ) -> Option<ApiResult<NewFollower>> {
        let mut index = self.index();
        Some(index.as_mut()?.follow(key.take()?, resumed))
    }

    /// Says that a transaction of this process that changes rooms was committed.
    pub fn rooms_changed(&self) {
        self.0.wake.notify_one();
        self.0.committed.notify_one();
    }

    /// Completes when there may be something to read.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Completes when this process has changed rooms.
    pub(super) async fn committed(&self) {
        self.0.committed.notified().await;
    }

    pub(super) fn is_followed(&self) -> bool {
        self.open().count > 0
    }

    /// Counts a reading of the rooms that is about to begin. Returns its number.
    pub(super) fn begin_reading(&self) -> u64 {
        self.0.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Makes the rooms available as this reading has found them.
    pub(super) fn publish_reading(&self, reading: u64) {
        let index = self.index();
        self.0.shown.send_replace(index.is_some().then_some(reading));
    }

    /// Forgets the rooms unless somebody follows them. Returns whether it did.
    pub(super) fn forget_if_unfollowed(&self) -> bool {
        // Whoever is let in from now on waits for the rooms.
        let mut index = self.index();
        if self.is_followed() {
            return false;
        }
        *index = None;
        self.0.shown.send_replace(None);
        true
    }

    /// Ends all streams, and lets nobody in any more.
    pub fn close(&self) {
        self.open().closed = true;
        let mut index = self.index();
        *index = None;
        self.0.shown.send_replace(None);
        drop(index);
        self.0.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open().closed
    }
}
