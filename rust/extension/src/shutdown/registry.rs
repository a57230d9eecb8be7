//! What a shutdown brings in order, reachable from worker threads: the main thread may be stuck by then.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backend_client::player_store::PlayerStore;
use backend_client::registration::Registration;
use backend_client::shutdown::{Participants, Pending, Store};
use godot::obj::InstanceId;
use tokio::task::JoinSet;

use crate::shutdown::host_notifier;

/// Longest time for which a store is waited for when all are counted.
const COUNTING: Duration = Duration::from_millis(500);

/// Everything in this process that a shutdown may have to bring in order, from the moment it is made.
static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Registry {
    stores: HashMap<InstanceId, PlayerStore>,
    /// Stores of something else than players. They take part in every shutdown.
    others: HashMap<InstanceId, Arc<dyn Store>>,
    /// What is on local disk where no store has opened it, or one has let go of it with something unsent. By folder: two
    /// nodes may mean the same.
    unopened: HashMap<PathBuf, Arc<dyn Store>>,
    /// Stores of freed nodes that still send.
    freed: HashMap<InstanceId, Arc<dyn Store>>,
    registrations: HashMap<InstanceId, Registration>,
    /// Nodes that went during a shutdown, which still has to do with what they made.
    gone: Option<HashSet<InstanceId>>,
}

impl Registry {
    fn remove(&mut self, node: InstanceId) -> impl Sized + use<> {
        (self.stores.remove(&node), self.others.remove(&node), self.registrations.remove(&node))
    }
}

/// Main thread. A node has made its store.
pub fn add_player_store(node: InstanceId, store: PlayerStore) {
    live().stores.insert(node, store);
}

/// Any thread. No store has opened this folder, but something may be in it.
pub fn add_unopened(folder: PathBuf, store: Arc<dyn Store>) {
    let before = live().unopened.insert(folder, store);
    drop(before);
}

/// Any thread. A store opens this folder, and with it what was left there.
pub fn remove_unopened(folder: &Path) {
    let removed = live().unopened.remove(folder);
    drop(removed);
}

/// Any thread. A node has made, or is making, a store of something else than players.
pub fn add_store(node: InstanceId, store: Arc<dyn Store>) {
    let before = live().others.insert(node, store);
    drop(before);
}

/// Main thread. A node has made its registration.
pub fn add_registration(node: InstanceId, registration: Registration) {
    live().registrations.insert(node, registration);
    host_notifier::start();
}

/// Main thread. A node is gone, or has let go of what it made.
pub fn remove(node: InstanceId) {
    let mut live = live();
    if let Some(gone) = &mut live.gone {
        gone.insert(node);
        return;
    }
    let removed = live.remove(node);
    drop(live);
    drop(removed);
}

/// Main thread. A node is freed whose `store` still has something to send: it is part of every shutdown until
/// [`remove_freed`].
pub fn add_freed(node: InstanceId, store: Arc<dyn Store>) {
    let mut live = live();
    if live.gone.is_some() {
        // The shutdown under way has it already.
        drop(live);
        return remove(node);
    }
    let removed = live.remove(node);
    live.freed.insert(node, store);
    drop(live);
    drop(removed);
}

/// Any thread. The store of a freed node has sent everything, or stopped trying and left something on local disk.
pub fn remove_freed(node: InstanceId, left: Option<(PathBuf, Arc<dyn Store>)>) {
    let mut live = live();
    let removed = live.freed.remove(&node);
    if let Some((folder, left)) = left {
        live.unopened.insert(folder, left);
    }
    drop(live);
    drop(removed);
}

/// Worker. What of all that is live, or was left, the backend does not have.
pub async fn count_unsaved() -> Pending {
    let stores = Targets::default().stores();
    let mut looking = JoinSet::new();
    for store in &stores {
        let store = Arc::clone(store);
        looking.spawn(async move { store.flush_local(COUNTING).await });
    }
    let all = async { while looking.join_next().await.is_some() {} };
    // What did not answer in time is not known, which it says itself.
    let _late = tokio::time::timeout(COUNTING * 2, all).await;
    stores.iter().map(|store| store.pending()).sum()
}

/// Any thread. A shutdown begins: what nodes made is kept when they go.
pub fn retain_removed() {
    live().gone.get_or_insert_default();
}

/// Main thread. The shutdown is over and the process goes on.
pub fn discard_removed() {
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
pub struct Targets(Mutex<Filter>);

#[derive(Default, Clone, Copy)]
struct Filter {
    store: Option<InstanceId>,
    registration: Option<InstanceId>,
}

impl Targets {
    /// Main thread. Restricts the shutdown to these nodes; `None` means all.
    pub fn only(&self, store: Option<InstanceId>, registration: Option<InstanceId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Filter { store, registration };
    }

    fn registrations(&self) -> Vec<Registration> {
        chosen(&live().registrations, self.chosen().registration).cloned().collect()
    }

    fn chosen(&self) -> Filter {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chosen<T>(all: &HashMap<InstanceId, T>, only: Option<InstanceId>) -> impl Iterator<Item = &T> {
    all.iter().filter(move |(id, _)| only.is_none_or(|only| only == **id)).map(|(_, part)| part)
}

fn live() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Participants for Targets {
    fn drain(&self) {
        self.registrations().iter().for_each(|registration| registration.set_draining(true));
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        let only = self.chosen().store;
        let live = live();
        let players = chosen(&live.stores, only).map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        let others = live.others.values().chain(live.unopened.values()).chain(live.freed.values());
        players.chain(others.cloned()).collect()
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
