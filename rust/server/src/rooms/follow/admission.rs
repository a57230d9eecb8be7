//! Who follows: how many there are, and what they share with the task that reads.

use std::collections::HashMap;
use std::net::IpAddr;
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
    /// Number of the position up to which the index has read; None while there is none.
    read_up_to: watch::Sender<Option<i64>>,
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
            read_up_to: watch::Sender::new(None),
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

    /// Begins a stream once the rooms are read, as far as the follower has seen them.
    pub(super) async fn join(&self, key: GroupKey, resumed: Option<Position>) -> ApiResult<EventStream> {
        let mut read_up_to = self.0.read_up_to.subscribe();
        let mut key = Some(key);
        // Another replica may have read further. If this one has still not read as far after its next reading, the database is
        // another one, or older.
        let mut readings = 0;
        loop {
            let read = *read_up_to.borrow_and_update();
            let is_behind = |read: i64| resumed.as_ref().is_some_and(|resumed| resumed.number > read);
            if let Some(read) = read
                && (readings > 1 || !is_behind(read))
                && let Some(follower) = self.follow(&mut key, resumed.as_ref())
            {
                let follower = follower?;
                let begun = tokio::task::spawn_blocking(move || follower.begin()).await;
                return begun.map_err(anyhow::Error::from)?;
            }
            readings += u32::from(read.is_some());
            self.0.wake.notify_one();
            let changed = read_up_to.changed().await;
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

    /// Makes the rooms available, or what was read since.
    pub(super) fn publish_position(&self) {
        let number = self.index().as_ref().map(|index| index.position().number);
        self.0.read_up_to.send_replace(number);
    }

    /// Forgets the rooms unless somebody follows them. Returns whether it did.
    pub(super) fn forget_if_unfollowed(&self) -> bool {
        // Whoever is let in from now on waits for the rooms.
        let mut index = self.index();
        if self.is_followed() {
            return false;
        }
        *index = None;
        self.0.read_up_to.send_replace(None);
        true
    }

    /// Ends all streams, and lets nobody in any more.
    pub fn close(&self) {
        self.open().closed = true;
        *self.index() = None;
        self.0.read_up_to.send_replace(None);
        self.0.wake.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open().closed
    }
}
