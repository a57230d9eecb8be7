//! Where a world is on local disk, and who counts what is there: the node's store, a store that is still sending, or a shutdown.

use std::path::PathBuf;
use std::sync::Arc;

use backend_client::shutdown::Store;
use backend_client::world_store::{Flushed, UnopenedWorld, WorldStore};
use godot::prelude::*;

use super::DROP_FLUSH_TIMEOUT;
use crate::runtime::background_tasks;
use crate::shutdown::registry;

/// Where a world is on local disk.
#[derive(Clone)]
pub(super) struct WorldLocation {
    /// Id of the node, which may have been freed.
    pub(super) node: InstanceId,
    pub(super) folder: PathBuf,
    pub(super) world_id: String,
}

impl WorldLocation {
    fn path(&self) -> PathBuf {
        self.folder.join(&self.world_id)
    }

    fn unopened(&self) -> Option<(PathBuf, Arc<dyn Store>)> {
        let world = UnopenedWorld::new(&self.folder, &self.world_id)?;
        Some((self.path(), Arc::new(world)))
    }

    /// Any thread. For a shutdown: what an earlier run left of the world, as long as it is not open.
    pub(super) fn count_unopened(&self) {
        if let Some((path, unopened)) = self.unopened() {
            registry::add_unopened(path, unopened);
        }
    }

    /// Any thread. The local copy is open: `store` counts what is in it.
    pub(super) fn count(&self, store: Arc<dyn Store>) {
        registry::add_store(self.node, store);
        registry::remove_unopened(&self.path());
    }

    /// Worker. The node is freed: sends what it left.
    pub(super) async fn close_freed(self, store: WorldStore) {
        let flushed = store.close(DROP_FLUSH_TIMEOUT).await;
        report(flushed);
        drop(store);
        registry::remove_freed(self.node, (flushed.unsaved > 0).then(|| self.unopened()).flatten());
    }
}

/// An opened world on its way to its node. Without a node, it is released.
pub(super) struct OpenedWorld {
    pub(super) store: Option<WorldStore>,
    pub(super) location: WorldLocation,
}

impl Drop for OpenedWorld {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            registry::add_freed(self.location.node, Arc::new(store.clone()));
            background_tasks::spawn_flush(self.location.clone().close_freed(store));
        }
    }
}

/// Any thread. What a freed node could not do any more.
pub(super) fn report(Flushed { unsaved, local, .. }: Flushed) {
    if unsaved > local {
        tracing::error!(unsaved, local, "chunks of a freed world store are lost");
    } else if unsaved > 0 {
        tracing::warn!(unsaved, "chunks of a freed world store wait on local disk for the next one");
    }
}
