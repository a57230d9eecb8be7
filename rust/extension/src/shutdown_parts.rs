//! What a shutdown brings in order, reachable from worker threads: the main thread may be stuck by then.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backend_client::player_store::{Flushed, PlayerStore};
use backend_client::registration::Registration;
use backend_client::shutdown::Participants;
use godot::obj::InstanceId;

/// Everything in this process that a shutdown may have to bring in order, from the moment it is made.
static LIVE: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Live {
    stores: HashMap<InstanceId, PlayerStore>,
    registrations: HashMap<InstanceId, Registration>,
}

/// Main thread. A node has made its store.
pub fn store_made(node: InstanceId, store: PlayerStore) {
    live().stores.insert(node, store);
}

/// Main thread. A node has made its registration.
pub fn registration_made(node: InstanceId, registration: Registration) {
    live().registrations.insert(node, registration);
}

/// Main thread. A node is gone, or has let go of what it made.
pub fn gone(node: InstanceId) {
    let mut live = live();
    let dropped = (live.stores.remove(&node), live.registrations.remove(&node));
    drop(live);
    drop(dropped);
}

/// What one shutdown brings in order: everything, or the nodes it was given.
#[derive(Default)]
pub struct Parts(Mutex<Only>);

#[derive(Default, Clone, Copy)]
struct Only {
    store: Option<InstanceId>,
    registration: Option<InstanceId>,
}

impl Parts {
    /// Main thread. Restricts the shutdown to these nodes; `None` means all.
    pub fn only(&self, store: Option<InstanceId>, registration: Option<InstanceId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Only { store, registration };
    }

    /// Documents the backend does not have yet.
    pub fn dirty_count(&self) -> usize {
        self.stores().iter().map(PlayerStore::dirty_count).sum()
    }

    fn stores(&self) -> Vec<PlayerStore> {
        chosen(&live().stores, self.chosen().store)
    }

    fn registrations(&self) -> Vec<Registration> {
        chosen(&live().registrations, self.chosen().registration)
    }

    fn chosen(&self) -> Only {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chosen<T: Clone>(all: &HashMap<InstanceId, T>, only: Option<InstanceId>) -> Vec<T> {
    all.iter().filter(|(id, _)| only.is_none_or(|only| only == **id)).map(|(_, part)| part.clone()).collect()
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Participants for Parts {
    fn drain(&self) {
        self.registrations().iter().for_each(|registration| registration.set_draining(true));
    }

    async fn flush(&self, within: Duration) -> Flushed {
        let until = Instant::now() + within;
        let mut sum = Flushed::default();
        for store in self.stores() {
            let flushed = store.flush(None, until.saturating_duration_since(Instant::now())).await;
            sum.saved += flushed.saved;
            sum.unsaved += flushed.unsaved;
        }
        sum
    }

    async fn deregister(&self) -> bool {
        let mut done = true;
        for registration in self.registrations() {
            if let Err(error) = registration.deregister().await {
                tracing::warn!(code = error.code(), "not deregistered: {error}");
                done = false;
            }
        }
        done
    }
}
