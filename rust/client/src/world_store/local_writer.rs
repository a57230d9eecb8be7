//! The task that makes changes durable on local disk, in groups, and acknowledges them.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::index::{Index, IndexError};
use super::index_format::{Change, Object, Session};
use super::object_cache::{self, Packed};
use super::state::Incoming;
use super::{Event, Inner, on_disk, storage};
use crate::error::{ClientError, Fault};

/// Most changes in one group: the more, the fewer waits for the disk; the fewer, the sooner the first is acknowledged.
const GROUP: usize = 32;
/// Raw bytes after which a group is full.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Changes of a group compressed and written at a time.
const AT_A_TIME: usize = 4;

type Acks = Vec<oneshot::Sender<Result<(), ClientError>>>;

/// A change whose object is on disk, or needs none.
struct Kept {
    name: String,
    /// `None`: the chunk has this content already.
    change: Option<Change>,
    acks: Acks,
}

pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        let group = inner.take_group();
        if group.is_empty() {
            inner.wake_keeper.notified().await;
            continue;
        }
        inner.keep(group).await;
        inner.progressed();
        inner.wake_sender.notify_one();
    }
}

impl Inner {
    fn take_group(&self) -> Vec<(String, Incoming)> {
        let mut state = self.lock();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Some((name, incoming)) = state.incoming.pop() else { break };
            bytes += incoming.bytes();
            state.incoming_bytes -= incoming.bytes();
            state.keeping.insert(name.clone(), (incoming.data.clone(), incoming.since));
            group.push((name, incoming));
        }
        group
    }

    async fn keep(self: &Arc<Self>, group: Vec<(String, Incoming)>) {
        let mut writing = Vec::with_capacity(group.len());
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        for (name, incoming) in group {
            let (inner, places, own_name) = (Arc::clone(self), Arc::clone(&places), name.clone());
            let work = async move {
                let _place = places.acquire_owned().await;
                inner.keep_object(&own_name, incoming.data, incoming.since).await
            };
            writing.push((name, incoming.acks, tokio::spawn(work)));
        }
        // In the order in which the changes came.
        let mut kept = Vec::with_capacity(writing.len());
        for (name, acks, work) in writing {
            let written = work.await.unwrap_or_else(|error| {
                Err(ClientError::new(Fault::Internal, format!("a worker failed: {error}")))
            });
            match written {
                Ok(change) => kept.push(Kept { name, change, acks }),
                Err(error) => self.not_kept(&name, acks, &error),
            }
        }
        let changes: Vec<Change> = kept.iter().filter_map(|kept| kept.change.clone()).collect();
        let mut index = self.index.lock().await;
        let noted =
            if changes.is_empty() { Ok(()) } else { self.write(&mut index, Write::Note(&changes)).await };
        if let Err(error) = noted {
            drop(index);
            for Kept { name, change, acks } in kept {
                if let Some(object) = change.and_then(|change| change.object) {
                    self.unrefer(&object.hash);
                }
                self.not_kept(&name, acks, &error);
            }
            return;
        }
        for kept in kept {
            self.acknowledge(kept);
        }
        drop(index);
    }

    /// Writes the object of a change. Gives the change, or `None` if it changes nothing.
    async fn keep_object(
        self: &Arc<Self>,
        name: &str,
        data: Option<Arc<Vec<u8>>>,
        since: u64,
    ) -> Result<Option<Change>, ClientError> {
        let Some(data) = data else {
            let state = self.lock();
            let there = match state.change(name) {
                Some(change) => change.object.is_some(),
                None => state.committed.contains_key(name),
            };
            return Ok(there.then(|| Change { name: name.to_owned(), object: None, since }));
        };
        let bytes = data.len() as u64;
        let packed = on_disk(move || object_cache::pack(&data)).await?;
        let unchanged = {
            let mut state = self.lock();
            let unchanged = match state.change(name) {
                Some(change) => change.object.as_ref().is_some_and(|object| object.hash == packed.hash),
                None => state.committed.get(name).is_some_and(|committed| committed.hash == packed.hash),
            };
            if !unchanged {
                // From here on nobody takes the file away.
                state.refer_to(&packed.hash);
            }
            unchanged
        };
        if unchanged {
            return Ok(None);
        }
        let Packed { hash, stored } = &packed;
        let object = Object { hash: hash.clone(), bytes, stored_bytes: stored.len() as u64 };
        let object_cache = self.object_cache.clone();
        match on_disk(move || object_cache.write(&packed)).await {
            Ok(()) => Ok(Some(Change { name: name.to_owned(), object: Some(object), since })),
            Err(error) => {
                self.unrefer(&object.hash);
                Err(error)
            }
        }
    }

    /// With the index locked: the change is durable.
    fn acknowledge(&self, kept: Kept) {
        let Kept { name, change, acks } = kept;
        let mut state = self.lock();
        state.keeping.remove(&name);
        let unchanged_since = match change {
            Some(mut change) => {
                if let Some(before) = state.waiting.get(&name) {
                    change.since = change.since.min(before.since);
                }
                if let Some(before) = state.waiting.push(&name, change)
                    && let Some(object) = before.object
                    && state.forget(&object.hash)
                {
                    self.object_cache.remove(&object.hash);
                }
                None
            }
            None if state.change(&name).is_some() => None,
            None => Some(state.committed.get(&name).map_or(state.version, |chunk| chunk.version)),
        };
        drop(state);
        for ack in acks {
            // Whoever does not wait any more does not need it.
            let _nobody_waits = ack.send(Ok(()));
        }
        self.tell(Event::SavedLocally { name: name.clone() });
        if let Some(version) = unchanged_since {
            self.tell(Event::Saved { name, version });
        }
    }

    fn not_kept(&self, name: &str, acks: Acks, error: &ClientError) {
        {
            let mut state = self.lock();
            state.keeping.remove(name);
            state.failed += 1;
        }
        for ack in acks {
            let _nobody_waits = ack.send(Err(error.clone()));
        }
        self.tell(Event::SaveFailed { name: name.to_owned(), error: error.clone() });
    }

    /// One reference fewer to an object; the last one takes the file with it.
    pub(super) fn unrefer(&self, hash: &str) {
        let mut state = self.lock();
        if state.forget(hash) {
            // Under the lock: a change that needs the same object waits, and writes it again.
            self.object_cache.remove(hash);
        }
    }

    /// Writes to the index, and opens it anew first if the last write failed.
    pub(super) async fn write(
        &self,
        kept: &mut super::KeptIndex,
        write: Write<'_>,
    ) -> Result<(), ClientError> {
        let closed = || ClientError::new(Fault::Cancelled, "the world is closed");
        let index = kept.index.as_mut().ok_or_else(closed)?;
        let place = index.place();
        let named = |error: IndexError| storage(format!("{place}: {error}"));
        if kept.failed {
            let (session, outgoing, waiting) = {
                let state = self.lock();
                let waiting: Vec<Change> = state.waiting.iter().map(|(_, change)| change.clone()).collect();
                (state.session.clone(), state.outgoing.clone(), waiting)
            };
            index.reopen(&session, &outgoing, &waiting).await.map_err(named)?;
            kept.failed = false;
        }
        let done = write.to(index).await;
        kept.failed = done.is_err();
        done.map_err(named)
    }
}

/// One durable step.
#[derive(Clone, Copy)]
pub(super) enum Write<'a> {
    Note(&'a [Change]),
    Assign(i64, &'a [Change]),
    /// A commit's number, and the version of the world after it.
    Settle(i64, i64),
    Begin(&'a Session),
    Clear,
}

impl Write<'_> {
    async fn to(self, index: &mut Index) -> Result<(), IndexError> {
        match self {
            Self::Note(changes) => index.note(changes).await,
            Self::Assign(sequence, changes) => index.assign(sequence, changes).await,
            Self::Settle(sequence, version) => index.settle(sequence, version).await,
            Self::Begin(session) => index.begin_session(session).await,
            Self::Clear => index.clear().await,
        }
    }
}
