//! The store behind the node: created on first use, or when its server is registered.

use std::sync::Arc;
use std::time::Duration;

use backend_client::error::ClientError;
use backend_client::player_store::{Event, Flushed, Pace, PlayerStore, Setup};
use godot::prelude::*;

use super::BackendPlayerStore;
use super::journal_source::JournalLocation;
use crate::config;
use crate::metrics;
use crate::nodes::backend_player_store::backlog_monitors;
use crate::results::backend_error::not_configured;
use crate::results::backend_flush_result::BackendFlushResult;
use crate::results::backend_request::BackendRequest;
use crate::runtime::background_tasks;
use crate::runtime::worker_threads;
use crate::shutdown::registry;

pub(super) struct Connected {
    /// Id of the node, stored because it cannot be read while the node is being freed.
    pub node: InstanceId,
    pub store: PlayerStore,
    pub journal: JournalLocation,
}

impl BackendPlayerStore {
    /// The store, if it was used yet.
    pub fn handle(&self) -> Option<PlayerStore> {
        self.connected.borrow().as_ref().map(|connected| connected.store.clone())
    }

    pub(super) fn connected(&self) -> Result<PlayerStore, ClientError> {
        if let Some(store) = self.handle() {
            return Ok(store);
        }
        let registration =
            self.registration.as_ref().filter(|node| node.is_instance_valid()).ok_or_else(|| {
                not_configured("assign \"Registration\": players are held by a registered server")
            })?;
        let registration = registration.bind().connected()?;
        let config = config::resolve(self.config.as_ref())?;
        let journal = JournalLocation::new(config::journal_folder(self.config.as_ref(), &config)?);
        let backend = config::connect(config)?;
        let id = self.base().instance_id();
        let events = Arc::clone(&self.events);
        let on_event = Arc::new(move |event| {
            metrics::count_player_event(&event);
            events.push(id, event);
        });
        let runtime = worker_threads::handle()?;
        // The store's tasks are spawned on the runtime of the moment.
        let _entered = runtime.enter();
        let store = PlayerStore::new(Setup {
            backend,
            clock: config::clock(),
            registration,
            journal: Arc::clone(&journal.source) as _,
            pace: self.pace(),
            on_event,
        });
        background_tasks::spawn(store.ended());
        registry::remove_unopened(&journal.folder);
        registry::add_player_store(id, store.clone());
        backlog_monitors::watch(id, store.clone());
        self.connected.replace(Some(Connected { node: id, store: store.clone(), journal }));
        Ok(store)
    }

    /// Saves through the store, which counts a refused save.
    pub(super) fn saving(
        &self,
        save: impl FnOnce(&PlayerStore) -> Result<u64, ClientError>,
    ) -> Result<u64, ClientError> {
        let store = self.connected().inspect_err(|error| {
            if !self.warned.replace(true) {
                tracing::error!(code = error.code(), "all saves are refused: {error}");
            }
        })?;
        save(&store)
    }

    /// Notes a save that was refused before it reached the store.
    pub(super) fn note_refused(&self, player_id: &GString, key: &GString, error: ClientError) -> ClientError {
        match self.connected() {
            Ok(store) => store.note_refused(&player_id.to_string(), &key.to_string(), &error),
            Err(_) => tracing::warn!(code = error.code(), %player_id, %key, "a save was refused: {error}"),
        }
        error
    }

    /// The revision of the change. A refusal is emitted as a signal.
    pub(super) fn accepted(
        &self,
        player_id: &GString,
        key: &GString,
        outcome: Result<u64, ClientError>,
    ) -> i64 {
        match outcome {
            Ok(change) => i64::try_from(change).unwrap_or(i64::MAX),
            Err(error) => {
                let (id, player_id, key) =
                    (self.base().instance_id(), player_id.to_string(), key.to_string());
                let event = Event::SaveFailed { player_id, key, error };
                metrics::count_player_event(&event);
                // Later, like every other outcome: handlers need not expect to run inside this call.
                self.events.push(id, event);
                0
            }
        }
    }

    pub(super) fn flushing<W>(&self, work: impl FnOnce(PlayerStore, Duration) -> W) -> Gd<BackendRequest>
    where
        W: Future<Output = Result<Flushed, ClientError>> + Send + 'static,
    {
        let prepared = config::resolve(self.config.as_ref())
            .and_then(|config| Ok(work(self.connected()?, config.timeout)));
        self.calls.try_start(prepared, BackendFlushResult::answer)
    }

    pub(super) fn pace(&self) -> Pace {
        Pace { debounce: duration(self.debounce_seconds), max_delay: duration(self.max_delay_seconds) }
    }

    pub(super) fn pace_changed(&mut self) {
        if let Some(store) = self.handle() {
            store.set_pace(self.pace());
        }
        self.base_mut().update_configuration_warnings();
    }

    /// A server that exits before it was registered has not opened the journal, which may contain unsaved documents.
    pub(super) fn count_unopened_journal(&self) {
        if self.unopened.borrow().is_some() || self.connected.borrow().is_some() {
            return;
        }
        let folder = config::resolve(self.config.as_ref())
            .and_then(|config| config::journal_folder(self.config.as_ref(), &config));
        // Without a backend, nothing is unsaved.
        let Ok(folder) = folder else { return };
        let (folder, journal) = JournalLocation::new(folder).unopened();
        self.unopened.replace(Some(folder.clone()));
        registry::add_unopened(folder, journal);
    }

    /// What an earlier run left in the journal is sent as soon as the server is registered, without any call.
    pub(super) fn open_when_registered(&self) {
        if self.tried.get() || self.connected.borrow().is_some() {
            return;
        }
        let registration = self.registration.as_ref().filter(|node| node.is_instance_valid());
        if registration.is_some_and(|registration| registration.bind().listed_as().is_some()) {
            self.tried.set(true);
            if let Err(error) = self.connected() {
                tracing::error!(code = error.code(), "players cannot be saved: {error}");
            }
        }
    }
}

pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 3_600.0)).unwrap_or_default()
}
