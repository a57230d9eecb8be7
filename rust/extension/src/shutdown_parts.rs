//! What a shutdown brings in order, reachable from worker threads: the main thread may be stuck by then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backend_client::player_store::PlayerStore;
use backend_client::registration::Registration;
use backend_client::shutdown::{Participants, Store};
use godot::obj::InstanceId;

use crate::supervision;

/// Everything in this process that a shutdown may have to bring in order, from the moment it is made.
static LIVE: LazyLock<Mutex<Live>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Live {
    stores: HashMap<InstanceId, PlayerStore>,
    /// Stores of something else than players. They take part in every shutdown.
    others: HashMap<InstanceId, Arc<dyn Store>>,
    registrations: HashMap<InstanceId, Registration>,
    /// Nodes that went during a shutdown, which still has to do with what they made.
    gone: Option<HashSet<InstanceId>>,
}

impl Live {
    fn remove(&mut self, node: InstanceId) -> impl Sized + use<> {
        (self.stores.remove(&node), self.others.remove(&node), self.registrations.remove(&node))
    }
}

/// Main thread. A node has made its store.
pub fn store_made(node: InstanceId, store: PlayerStore) {
    live().stores.insert(node, store);
}

/// Main thread. A node has made a store of something else than players.
pub fn other_store_made(node: InstanceId, store: Arc<dyn Store>) {
    live().others.insert(node, store);
}

/// Main thread. A node has made its registration.
pub fn registration_made(node: InstanceId, registration: Registration) {
    live().registrations.insert(node, registration);
    supervision::begin();
}

/// Main thread. A node is gone, or has let go of what it made.
pub fn gone(node: InstanceId) {
    let mut live = live();
    if let Some(gone) = &mut live.gone {
        gone.insert(node);
        return;
    }
    let removed = live.remove(node);
    drop(live);
    drop(removed);
}

/// Any thread. A shutdown begins: what nodes made is kept when they go.
pub fn keep() {
    live().gone.get_or_insert_default();
}

/// Main thread. The shutdown is over and the process goes on.
pub fn keep_no_more() {
    let mut live = live();
    let gone = live.gone.take().unwrap_or_default();
    let removed: Vec<_> = gone.into_iter().map(|node| live.remove(node)).collect();
    drop(live);
    drop(removed);
}

/// Any thread. Whether a server of this process is listed under this id.
pub fn is_listed(server_id: &str) -> bool {
    live().registrations.values().any(|registration| registration.server_id().as_deref() == Some(server_id))
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

    fn registrations(&self) -> Vec<Registration> {
        chosen(&live().registrations, self.chosen().registration).cloned().collect()
    }

    fn chosen(&self) -> Only {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chosen<T>(all: &HashMap<InstanceId, T>, only: Option<InstanceId>) -> impl Iterator<Item = &T> {
    all.iter().filter(move |(id, _)| only.is_none_or(|only| only == **id)).map(|(_, part)| part)
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Participants for Parts {
    fn drain(&self) {
        self.registrations().iter().for_each(|registration| registration.set_draining(true));
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        let only = self.chosen().store;
        let live = live();
        let players = chosen(&live.stores, only).map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        players.chain(live.others.values().cloned()).collect()
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
