//! A backend whose database went back: commits that it had confirmed may be gone. What this server knows to be committed is
//! compared with the backend's list, and what differs is committed again.

use std::collections::HashMap;
use std::sync::Weak;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::index_format::{Change, Object};
use super::local_writer::Write;
use super::state::Committed;
use super::{Inner, on_disk};
use crate::api::retry;
use crate::error::ClientError;
use crate::registration::Notice;

/// Follows what heartbeats report about the backend's database.
pub(super) async fn listen(world: Weak<Inner>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        let doubt = match notices.recv().await {
            Ok(Notice::RolledBack) => Doubt::Certain,
            // Of those that were missed, one may have been one of these.
            Ok(Notice::ListedAgain(_)) | Err(RecvError::Lagged(_)) => Doubt::Possible,
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        };
        let mut failures = 0;
        loop {
            let Some(inner) = world.upgrade() else { return };
            match inner.commit_again(doubt).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(code = error.code(), "the world is not compared yet: {error}");
                    failures += 1;
                    let clock = inner.setup.clock.clone();
                    drop(inner);
                    clock.sleep(retry::backoff(failures)).await;
                }
            }
        }
    }
}

/// Whether the database went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The backend says so, or has a version that it had given before.
    Certain,
    /// The backend forgot the server. Its lease may just have run out, and another server have changed the world since.
    Possible,
}

impl Inner {
    /// Compares what the backend had confirmed with what it has, and makes changes of the difference.
    pub(super) async fn commit_again(&self, doubt: Doubt) -> Result<(), ClientError> {
        if self.lock().lost {
            return Ok(());
        }
        let confirmed = self.lock().version;
        let mut present = HashMap::new();
        let version = self.read_pages(|chunk| drop(present.insert(chunk.name, chunk.hash))).await?;
        if doubt == Doubt::Possible && version >= confirmed {
            return Ok(());
        }
        let mut index = self.index.lock().await;
        // As long as the index is locked, nothing becomes committed.
        let mut changes: Vec<Change> = {
            let state = self.lock();
            let changed = |name: &str| state.change(name).is_some();
            let missing = state
                .committed
                .iter()
                .filter(|(name, chunk)| present.get(*name) != Some(&chunk.hash) && !changed(name))
                .map(|(name, chunk)| {
                    let Committed { hash, bytes, .. } = chunk.clone();
                    let object = Object { hash, bytes, stored_bytes: bytes };
                    Change { name: name.clone(), object: Some(object), since: 0 }
                });
            let removed = present
                .keys()
                .filter(|name| !state.committed.contains_key(*name) && !changed(name))
                .map(|name| Change { name: name.clone(), object: None, since: 0 });
            missing.chain(removed).collect()
        };
        let object_cache = self.object_cache.clone();
        changes = on_disk(move || {
            for object in changes.iter_mut().filter_map(|change| change.object.as_mut()) {
                // A chunk that was never read here is not in the local copy: the backend has to have its object.
                object.stored_bytes = object_cache.stored_bytes(&object.hash)?.unwrap_or(object.bytes);
            }
            Ok(changes)
        })
        .await?;
        if changes.is_empty() {
            let mut state = self.lock();
            state.compared(confirmed, version);
            return Ok(());
        }
        tracing::warn!(
            world_id = self.world_id,
            chunks = changes.len(),
            "the backend lacks chunks that it had confirmed: its database went back; they are committed again"
        );
        self.write(&mut index, Write::Note(&changes)).await?;
        let mut state = self.lock();
        state.compared(confirmed, version);
        for change in changes {
            state.refer(&change);
            let name = change.name.clone();
            state.waiting.push(&name, change);
        }
        drop(state);
        drop(index);
        self.wake_sender.notify_one();
        self.progressed();
        Ok(())
    }
}
