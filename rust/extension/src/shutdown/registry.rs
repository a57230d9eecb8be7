//! The stores and registrations that a shutdown covers, reachable from worker threads: the main thread may be stuck by then.

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

/// Time-out per store when unsaved documents are counted.
const COUNT_TIMEOUT: Duration = Duration::from_millis(500);

/// Everything in this process that a shutdown may have to save or deregister, from its creation on.
static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Registry {
    stores: HashMap<InstanceId, PlayerStore>,
    /// Stores of worlds. They take part in every shutdown.
    others: HashMap<InstanceId, Arc<dyn Store>>,
    /// What is on the local disk and not open in a store, by folder: two nodes may use the same.
    unopened: HashMap<PathBuf, Arc<dyn Store>>,
    /// Stores of freed nodes that are still sending.
    freed: HashMap<InstanceId, Arc<dyn Store>>,
    registrations: HashMap<InstanceId, Registration>,
    /// Nodes that were removed during a shutdown, which still needs their stores.
    removed: Option<HashSet<InstanceId>>,
}

impl Registry {
    fn remove(&mut self, node: InstanceId) -> impl Sized + use<> {
        (self.stores.remove(&node), self.others.remove(&node), self.registrations.remove(&node))
    }
}

/// Main thread. A node has created its store.
pub fn add_player_store(node: InstanceId, store: PlayerStore) {
    registry().stores.insert(node, store);
}

/// Any thread. This folder is not open in a store, but may contain unsaved documents.
pub fn add_unopened(folder: PathBuf, store: Arc<dyn Store>) {
    let before = registry().unopened.insert(folder, store);
    drop(before);
}

/// Any thread. A store opens this folder and counts its content from now on.
pub fn remove_unopened(folder: &Path) {
    let removed = registry().unopened.remove(folder);
    drop(removed);
}

/// Any thread. A node has opened, or is opening, a store of a world.
pub fn add_store(node: InstanceId, store: Arc<dyn Store>) {
    let before = registry().others.insert(node, store);
    drop(before);
}

/// Main thread. A node has created its registration.
pub fn add_registration(node: InstanceId, registration: Registration) {
    registry().registrations.insert(node, registration);
    host_notifier::start();
    host_notifier::tell_untold_session();
}

/// Main thread. The nodes that have created their registrations.
pub fn registration_nodes() -> Vec<InstanceId> {
    registry().registrations.keys().copied().collect()
}

/// Any thread. The open player stores. Whoever keeps one keeps it open.
pub fn player_stores() -> Vec<PlayerStore> {
    registry().stores.values().cloned().collect()
}

/// Any thread. Chunks of worlds that the backend does not have.
pub fn unsaved_chunks() -> usize {
    let worlds: Vec<_> = registry().others.values().cloned().collect();
    worlds.iter().map(|world| world.pending().documents).sum()
}

/// Any thread. Whether a server of this process is listed.
pub fn is_registered() -> bool {
    let registrations: Vec<_> = registry().registrations.values().cloned().collect();
    registrations.iter().any(|registration| registration.server_id().is_some())
}

/// Main thread. A node is freed, or has dropped its store or registration.
pub fn remove(node: InstanceId) {
    let mut registry = registry();
    if let Some(removed) = &mut registry.removed {
        removed.insert(node);
        return;
    }
    let removed = registry.remove(node);
    drop(registry);
    drop(removed);
}

/// Main thread. A node is freed whose `store` has unsaved documents: it is part of every shutdown until [`remove_freed`].
pub fn add_freed(node: InstanceId, store: Arc<dyn Store>) {
    let mut registry = registry();
    if registry.removed.is_some() {
        // The shutdown under way has it already.
        drop(registry);
        return remove(node);
    }
    let removed = registry.remove(node);
    registry.freed.insert(node, store);
    drop(registry);
    drop(removed);
}

/// Any thread. The store of a freed node has sent everything, or has given up; `left` is then on the local disk.
pub fn remove_freed(node: InstanceId, left: Option<(PathBuf, Arc<dyn Store>)>) {
    let mut registry = registry();
    let removed = registry.freed.remove(&node);
    if let Some((folder, left)) = left {
        registry.unopened.insert(folder, left);
    }
    drop(registry);
    drop(removed);
}

/// Worker. Counts what the backend does not have, of all stores.
pub async fn count_unsaved() -> Pending {
    let stores = Targets::default().stores();
    let mut flushes = JoinSet::new();
    for store in &stores {
        let store = Arc::clone(store);
        flushes.spawn(async move { store.flush_local(COUNT_TIMEOUT).await });
    }
    let all = async { while flushes.join_next().await.is_some() {} };
    // A store that did not finish in time reports that its count is unknown.
    let _late = tokio::time::timeout(COUNT_TIMEOUT * 2, all).await;
    stores.iter().map(|store| store.pending()).sum()
}

/// Any thread. A shutdown starts: stores and registrations stay when their nodes are removed.
pub fn retain_removed() {
    registry().removed.get_or_insert_default();
}

/// Main thread. The shutdown is over: drops what was retained.
pub fn discard_removed() {
    let mut registry = registry();
    let removed = registry.removed.take().unwrap_or_default();
    let removed: Vec<_> = removed.into_iter().map(|node| registry.remove(node)).collect();
    drop(registry);
    drop(removed);
}

/// Any thread. Whether a server of this process is listed under this id.
pub fn is_listed(server_id: &str) -> bool {
    registry()
        .registrations
        .values()
        .any(|registration| registration.server_id().as_deref() == Some(server_id))
}

/// What one shutdown covers: everything, or the nodes that were assigned.
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
        chosen(&registry().registrations, self.chosen().registration).cloned().collect()
    }

    fn chosen(&self) -> Filter {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn chosen<T>(all: &HashMap<InstanceId, T>, only: Option<InstanceId>) -> impl Iterator<Item = &T> {
    all.iter().filter(move |(id, _)| only.is_none_or(|only| only == **id)).map(|(_, part)| part)
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Participants for Targets {
    fn drain(&self) {
        self.registrations().iter().for_each(|registration| registration.set_draining(true));
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        let only = self.chosen().store;
        let registry = registry();
        let players = chosen(&registry.stores, only).map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        let others =
            registry.others.values().chain(registry.unopened.values()).chain(registry.freed.values());
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

    async fn leave_host(&self, owes_saves: bool) {
        host_notifier::stopped(owes_saves).await;
    }
}
