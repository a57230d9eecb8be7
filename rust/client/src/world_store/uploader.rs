//! The task that sends: objects the backend lacks, then the commit that names them, one commit after the other.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::world_store::{ChunkChange, CommitWorld, MAX_CHANGES, RequestUploads, Upload};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::index_format::{Change, Object};
use super::local_writer::Write;
use super::rollback::Doubt;
use super::state::Committed;
use super::{Event, IN_FLIGHT_KIB, Inner, on_disk, storage};
use crate::api::retry;
use crate::error::{ClientError, Fault};

/// Longest pause between attempts while somebody waits for a flush.
const FLUSH_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Attempts to send one object before everything is looked at anew.
const OBJECT_ATTEMPTS: u32 = 3;

/// What became of an attempt.
pub(super) enum Delivery {
    /// A commit was applied, or there was none to send.
    Done,
    /// Another server has taken the world; what was left is put aside.
    Lost,
}

/// Objects that went to a signed address, by hash, with the upload that has to be named in the commit.
pub(super) type Sent = HashMap<String, Option<String>>;

pub(super) async fn run(inner: Arc<Inner>) {
    let mut failures: u32 = 0;
    let mut told: Option<&'static str> = None;
    let mut sent = Sent::new();
    let mut loss_told = false;
    loop {
        let has_work = inner.lock().has_work();
        if !has_work {
            inner.wake_sender.notified().await;
            continue;
        }
        inner.wait_for_company(failures).await;
        match inner.deliver(&mut sent).await {
            Ok(Delivery::Done) => {
                (failures, told) = (0, None);
                sent.clear();
            }
            Ok(Delivery::Lost) => (failures, told) = (0, None),
            Err(error) => {
                tracing::debug!(
                    code = error.code(),
                    failures,
                    "the world's changes stay here for now: {error}"
                );
                failures = failures.saturating_add(1);
                // An outage passes by itself, and so does the lease of a server that is gone. A refusal, be it by the object
                // store, is told once, for somebody has to do something.
                let refused = error.http_status.is_some_and(|status| (400..500).contains(&status));
                let held = error.is(Code::WorldHeld);
                if !held && (refused || !error.is_unanswered()) && told != Some(error.code()) {
                    told = Some(error.code());
                    inner.tell_refused(&error);
                }
            }
        }
        if inner.lock().lost && !std::mem::replace(&mut loss_told, true) {
            inner.tell(Event::LeaseLost);
        }
        inner.progressed();
    }
}

impl Inner {
    /// Until the next attempt is due: at once while somebody flushes, after a pause otherwise.
    async fn wait_for_company(&self, failures: u32) {
        if failures == 0 && self.lock().has_full_commit() {
            return;
        }
        let pause = if failures == 0 { self.setup.delay } else { retry::backoff(failures + 1) };
        let until = self.setup.clock.now() + pause;
        let soonest =
            self.setup.clock.now() + if failures == 0 { Duration::ZERO } else { FLUSH_RETRY_INTERVAL };
        loop {
            let end = if self.lock().flushing > 0 { soonest.min(until) } else { until };
            let left = end.saturating_duration_since(self.setup.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.wake_sender.notified() => {}
                () = self.setup.clock.sleep(left) => {}
            }
        }
    }

    /// Sends the next commit: the one on its way, or one made of what waits.
    pub(super) async fn deliver(self: &Arc<Self>, sent: &mut Sent) -> Result<Delivery, ClientError> {
        if self.lock().lost {
            self.put_aside().await?;
            return Ok(Delivery::Lost);
        }
        if self.lock().must_compare {
            self.commit_again(Doubt::Certain).await?;
        }
        let (sequence, changes) = self.next_commit().await?;
        if changes.is_empty() {
            return Ok(Delivery::Done);
        }
        self.send_objects(&changes, sent).await?;
        let epoch = self.lock().session.epoch;
        let mut commit = CommitWorld {
            server_id: self.server_id()?,
            epoch,
            sequence,
            chunks: Vec::new(),
            removed: Vec::new(),
        };
        for change in &changes {
            match &change.object {
                Some(object) => commit.chunks.push(ChunkChange {
                    name: change.name.clone(),
                    hash: object.hash.clone(),
                    bytes: object.bytes,
                    stored_bytes: object.stored_bytes,
                    upload: sent.get(&object.hash).cloned().flatten(),
                }),
                None => commit.removed.push(change.name.clone()),
            }
        }
        match self.setup.backend.commit_world(self.setup.registration.key(), &self.world_id, &commit).await {
            Ok(committed) => {
                {
                    let mut state = self.lock();
                    // Nobody else commits under this lease, so each commit makes the next version, a repeated one included. Another
                    // version shows a database that went back, and once it is noted, nothing else shows it. What a dead process left
                    // is committed before the list is read: there is nothing to compare with.
                    let is_next = committed.version == state.version + 1;
                    state.must_compare |= state.saved_sequence.is_some() && !is_next;
                }
                self.settle(sequence, changes, committed.version).await;
                if self.lock().must_compare {
                    self.commit_again(Doubt::Certain).await?;
                }
                Ok(Delivery::Done)
            }
            Err(error) if error.is(Code::LeaseLost) => {
                self.lock().lost = true;
                self.put_aside().await?;
                Ok(Delivery::Lost)
            }
            Err(error) => {
                if error.is(Code::ObjectMissing) {
                    // Swept, or gone from the store: sent again with the next attempt.
                    sent.clear();
                }
                Err(error)
            }
        }
    }

    /// The commit on its way; without one, what waits becomes one, durably, before it is sent for the first time.
    async fn next_commit(&self) -> Result<(i64, Vec<Change>), ClientError> {
        let mut index = self.index.lock().await;
        let (sequence, changes) = {
            let state = self.lock();
            if !state.outgoing.is_empty() {
                return Ok((state.session.sequence, state.outgoing.clone()));
            }
            let changes: Vec<Change> =
                state.waiting.iter().take(MAX_CHANGES).map(|(_, change)| change.clone()).collect();
            (state.session.sequence + 1, changes)
        };
        if changes.is_empty() {
            return Ok((sequence, changes));
        }
        self.write(&mut index, Write::Assign(sequence, &changes)).await?;
        let mut state = self.lock();
        for change in &changes {
            state.waiting.remove(&change.name);
        }
        state.session.sequence = sequence;
        state.outgoing.clone_from(&changes);
        drop(state);
        drop(index);
        Ok((sequence, changes))
    }

    /// Sends what the backend lacks. What it got is not sent again by a later attempt.
    async fn send_objects(self: &Arc<Self>, changes: &[Change], sent: &mut Sent) -> Result<(), ClientError> {
        let mut objects: HashMap<&str, &Object> = HashMap::new();
        for object in changes.iter().filter_map(|change| change.object.as_ref()) {
            objects.insert(&object.hash, object);
        }
        objects.retain(|hash, _| !sent.contains_key(*hash));
        if objects.is_empty() {
            return Ok(());
        }
        let body = RequestUploads { hashes: objects.keys().map(|hash| (*hash).to_owned()).collect() };
        let key = self.setup.registration.key();
        let uploads = self.setup.backend.request_uploads(key, &self.world_id, &body).await?;
        let mut sending = JoinSet::new();
        for upload in uploads.objects {
            let Some(object) = objects.get(upload.hash.as_str()) else { continue };
            if !upload.present {
                let (inner, object) = (Arc::clone(self), (*object).clone());
                sending.spawn(async move {
                    let outcome = inner.send_object(&object, &upload).await;
                    (object, upload.upload, outcome)
                });
            }
        }
        let (mut failed, mut damaged) = (None, HashSet::new());
        while let Some(done) = sending.join_next().await {
            match done {
                Ok((object, upload, Ok(true))) => drop(sent.insert(object.hash, upload)),
                Ok((object, _, Ok(false))) => drop(damaged.insert(object.hash)),
                Ok((_, _, Err(error))) => failed = Some(error),
                Err(error) => {
                    failed = Some(ClientError::new(Fault::Internal, format!("a worker failed: {error}")));
                }
            }
        }
        if !damaged.is_empty() {
            self.give_up(&damaged).await?;
            return Err(storage("an object is damaged"));
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends one object. Gives false if the local copy of it is damaged.
    async fn send_object(self: Arc<Self>, object: &Object, upload: &Upload) -> Result<bool, ClientError> {
        let kib = (object.stored_bytes / 1024 + 1).min(IN_FLIGHT_KIB as u64);
        let closing = |_| ClientError::new(Fault::Cancelled, "the world was closed");
        let _place = Arc::clone(&self.places).acquire_owned().await.map_err(closing)?;
        let _budget = Arc::clone(&self.budget).acquire_many_owned(kib as u32).await.map_err(closing)?;
        let mut attempt = 0;
        loop {
            // Read anew for each attempt: the last one has consumed it.
            let (object_cache, hash, bytes) = (self.object_cache.clone(), object.hash.clone(), object.bytes);
            let Some(stored) = on_disk(move || object_cache.read_stored(&hash, bytes)).await? else {
                return Ok(false);
            };
            let key = self.setup.registration.key();
            let sent = self.setup.backend.send_object(
                key,
                &self.world_id,
                &object.hash,
                upload.address.as_ref(),
                stored,
            );
            match sent.await {
                Ok(()) => return Ok(true),
                Err(error) if error.retryable && attempt + 1 < OBJECT_ATTEMPTS => {
                    self.setup.clock.sleep(retry::pause(error.retry_after, attempt)).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// With the commit applied: forgets its changes, and tells.
    async fn settle(&self, sequence: i64, changes: Vec<Change>, version: i64) {
        let mut index = self.index.lock().await;
        let written = self.write(&mut index, Write::Settle(sequence, version)).await;
        if let Err(error) = written {
            // It stays in the file: the next process sends it once more and gets the first result.
            tracing::warn!(code = error.code(), "a commit that was applied stays in the index: {error}");
        }
        let mut state = self.lock();
        state.outgoing.clear();
        state.version = version;
        state.session.version = version;
        state.saved_sequence = state.saved_sequence.map(|_| sequence);
        for change in &changes {
            let before = match &change.object {
                Some(Object { hash, bytes, .. }) => {
                    let committed = Committed { hash: hash.clone(), bytes: *bytes, version };
                    state.committed.insert(change.name.clone(), committed)
                }
                None => state.committed.remove(&change.name),
            };
            if let Some(before) = before
                && state.forget(&before.hash)
            {
                self.object_cache.remove(&before.hash);
            }
        }
        drop(state);
        drop(index);
        for change in changes {
            self.tell(Event::Saved { name: change.name, version });
        }
    }

    /// Takes changes whose objects are damaged on local disk out of a commit that cannot have been applied, since the
    /// backend does not have these objects. The others go under the next number.
    async fn give_up(&self, damaged: &HashSet<String>) -> Result<(), ClientError> {
        let mut index = self.index.lock().await;
        let (sequence, mut rest, gone) = {
            let state = self.lock();
            let is_damaged = |change: &&Change| {
                change.object.as_ref().is_some_and(|object| damaged.contains(&object.hash))
            };
            let gone: Vec<Change> = state.outgoing.iter().filter(is_damaged).cloned().collect();
            let rest: Vec<Change> =
                state.outgoing.iter().filter(|change| !is_damaged(change)).cloned().collect();
            (state.session.sequence, rest, gone)
        };
        // A chunk that was changed again meanwhile has its newer change in the file already.
        rest.retain(|change| !self.lock().waiting.contains(&change.name));
        let version = self.lock().session.version;
        self.write(&mut index, Write::Settle(sequence, version)).await?;
        self.write(&mut index, Write::Note(&rest)).await?;
        let mut state = self.lock();
        state.failed += gone.len();
        let before = std::mem::take(&mut state.outgoing);
        for change in before {
            let kept = rest.contains(&change);
            if let Some(object) = change.object.as_ref().filter(|_| !kept)
                && state.forget(&object.hash)
                && !damaged.contains(&object.hash)
            {
                self.object_cache.remove(&object.hash);
            }
        }
        for change in rest {
            let name = change.name.clone();
            state.waiting.push(&name, change);
        }
        drop(state);
        drop(index);
        for change in gone {
            let error = storage("the chunk's object is damaged; save it again");
            self.tell(Event::SaveFailed { name: change.name, error });
        }
        Ok(())
    }

    /// Puts what cannot be committed any more where a person, or the game, finds it.
    pub(super) async fn put_aside(&self) -> Result<(), ClientError> {
        let mut index = self.index.lock().await;
        let (session, changes) = {
            let state = self.lock();
            let waiting = state.waiting.iter().map(|(_, change)| change);
            let newer = |change: &&Change| !state.waiting.contains(&change.name);
            let changes: Vec<Change> = state.outgoing.iter().filter(newer).chain(waiting).cloned().collect();
            (state.session.clone(), changes)
        };
        let mut folder = PathBuf::new();
        if !changes.is_empty() {
            folder = self.write_aside(&session, &changes).await?;
        }
        self.write(&mut index, Write::Clear).await?;
        let mut state = self.lock();
        state.aside += changes.len();
        let mut gone = std::mem::take(&mut state.outgoing);
        while let Some((_, change)) = state.waiting.pop() {
            gone.push(change);
        }
        for object in gone.into_iter().filter_map(|change| change.object) {
            if state.forget(&object.hash) {
                self.object_cache.remove(&object.hash);
            }
        }
        drop(state);
        drop(index);
        if !changes.is_empty() {
            let names = changes.into_iter().map(|change| change.name).collect();
            self.tell(Event::PutAside { folder, names });
        }
        Ok(())
    }

    async fn write_aside(
        &self,
        session: &super::index_format::Session,
        changes: &[Change],
    ) -> Result<PathBuf, ClientError> {
        let listed: Vec<_> = changes
            .iter()
            .map(|change| match &change.object {
                Some(object) => json!({"name": change.name, "hash": object.hash, "bytes": object.bytes}),
                None => json!({"name": change.name, "removed": true}),
            })
            .collect();
        let list = json!({"world_id": self.world_id, "server_id": session.server_id, "epoch": session.epoch,
            "changes": listed});
        let list = serde_json::to_vec_pretty(&list).map_err(storage)?;
        let hashes: Vec<String> = changes
            .iter()
            .filter_map(|change| change.object.as_ref())
            .map(|object| object.hash.clone())
            .collect();
        let label = format!("epoch-{}-{}", session.epoch, Uuid::now_v7().simple());
        let object_cache = self.object_cache.clone();
        on_disk(move || object_cache.keep_aside(&label, &list, &hashes)).await
    }

    fn tell_refused(&self, error: &ClientError) {
        let names: Vec<String> = {
            let state = self.lock();
            state.outgoing.iter().map(|change| change.name.clone()).collect()
        };
        for name in names {
            self.tell(Event::SaveFailed { name, error: error.clone() });
        }
    }
}
