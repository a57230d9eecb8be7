//! Who holds a player: taking players over, and letting them go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::player_store::{LoadPlayers, LoadedPlayer};
use backend_protocol::{Code, Problem, limits};
use tokio::time::Instant;

use super::flush::{FlushGuard, Flushed};
use super::player::{Document, Player};
use super::state::JournalState;
use super::{Event, Inner, PlayerStore, Snapshot};
use crate::error::{ClientError, Fault};

/// First and longest time between two questions whether another server has let a player go.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl PlayerStore {
    /// Takes a player over and reads the documents. Waits, at most `within` in all, until what an earlier run saved of the
    /// player is with the backend, and until another server has let the player go. What is pending here stays as it is: it
    /// is newer.
    pub async fn load(
        &self,
        player_id: &str,
        within: Duration,
    ) -> Result<HashMap<String, Snapshot>, ClientError> {
        limits::identifier("player_id", player_id, 64)?;
        let inner = &self.0;
        let until = inner.clock.now() + within;
        inner.server_id()?;
        if !inner.is_at_its_backend() {
            let message =
                "the backend's address leads to another backend than the one this server's players are from";
            return Err(ClientError::new(Fault::NotRegistered, message));
        }
        let _hurry = FlushGuard::begin(inner);
        inner.wake_journal.notify_one();
        let loading = Loading::begin(inner, player_id);
        let closed = {
            let state = inner.lock();
            if state.closing > 0 {
                return Err(closing());
            }
            state.closed
        };
        let mut pause = RETRY_INTERVAL;
        loop {
            let server_id = inner.server_id()?;
            // Listed again meanwhile, under another id: the journal knows that one.
            let is_renamed = || inner.registration.server_id().as_deref() != Some(&*server_id);
            let forgotten = loading.forgotten();
            let asked = {
                let state = inner.lock();
                let versions = state.known_versions(player_id);
                let largest = state.largest_confirmed(player_id);
                Asked { versions, largest, forgotten, closed, rolled_back: state.rolled_back }
            };
            let left = until.saturating_duration_since(inner.clock.now());
            // The journal knows who takes the lease before it is taken: otherwise nobody could let it go after a crash.
            let ready = inner.wait_until(left, |state| {
                state.closed != closed
                    || is_renamed()
                    || state.journal != JournalState::Opening
                        && (state.journal == JournalState::Failed
                            || state.journal_server_id.as_deref() == Some(&*server_id))
                        && !state.has_recovered_saves(player_id)
                        // A backend that went back may have given this server an earlier id again, whose leases are just being
                        // released.
                        && state.retiring.as_deref() != Some(&*server_id)
                        && !state.releases.contains_key(player_id)
            });
            if !ready.await {
                return Err(ClientError {
                    retryable: true,
                    ..ClientError::new(
                        Fault::Journal,
                        "earlier saves of this player are still on their way to the backend",
                    )
                });
            }
            if inner.lock().closed != closed {
                return Err(closing());
            }
            if is_renamed() {
                continue;
            }
            let body = LoadPlayers { server_id: server_id.clone(), player_ids: vec![player_id.to_owned()] };
            let reply = inner.backend.load_players(inner.registration.key(), &body).await;
            if inner.lock().players.is_empty() {
                // Until a heartbeat was answered since, the next one may be half a minute away: too long for whoever waits
                // for this player. Also without an answer, for the lease may be ours.
                inner.registration.heartbeat_soon();
            }
            let reply = match reply {
                // Forgotten, for instance while the backend was away: it is listed again by the next heartbeat.
                Err(error) if error.is(Code::ServerUnknown) => {
                    let left = until.saturating_duration_since(inner.clock.now());
                    if left.is_zero() {
                        return Err(error);
                    }
                    inner.registration.heartbeat_soon();
                    inner.clock.sleep(pause.min(left)).await;
                    pause = (pause * 2).min(MAX_RETRY_INTERVAL);
                    if inner.registration.server_id().is_some_and(|now| now != server_id) {
                        return Err(error);
                    }
                    continue;
                }
                reply => reply?,
            };
            if let Some(loaded) = reply.players.into_iter().find(|player| player.player_id == player_id) {
                match inner.take(loaded, &asked)? {
                    Some(snapshots) => return Ok(snapshots),
                    // The player left while the reply was on its way, with saves that it does not know, or it is from before the
                    // backend went back: its versions say nothing beside those of today.
                    None => continue,
                }
            }
            let Some(holder) = reply.held.into_iter().find(|player| player.player_id == player_id) else {
                return Err(
                    Problem::new(Code::PlayerNotFound, "the backend does not know this player").into()
                );
            };
            let left = until.saturating_duration_since(inner.clock.now());
            if left.is_zero() {
                let detail = format!("server {} still holds the player", holder.server_id);
                let mut error = ClientError::from(Problem::new(Code::PlayerHeld, detail));
                error.retryable = true;
                return Err(error);
            }
            inner.clock.sleep(pause.min(left)).await;
            pause = (pause * 2).min(MAX_RETRY_INTERVAL);
        }
    }

    /// Flushes a player, lets the lease go and forgets the player. With something left unsaved, that happens once it is
    /// committed.
    pub async fn release(&self, player_id: &str, within: Duration) -> Flushed {
        self.flush_and_release(Some(player_id), within).await
    }

    /// [`Self::release`] for all players, at the end of the process.
    pub async fn release_all(&self, within: Duration) -> Flushed {
        self.flush_and_release(None, within).await
    }

    async fn flush_and_release(&self, player_id: Option<&str>, within: Duration) -> Flushed {
        let until = self.0.clock.now() + within;
        let _closing = player_id.is_none().then(|| Closing::begin(&self.0));
        {
            // From here on their state is final: a game that goes on saving delays nobody.
            let mut state = self.0.lock();
            let leaving: Vec<Arc<str>> = match player_id {
                Some(id) => {
                    state.players.get_key_value(id).map(|(id, _)| Arc::clone(id)).into_iter().collect()
                }
                None => state.players.keys().cloned().collect(),
            };
            state.releasing.extend(leaving);
            state.forget_released();
        }
        let flushed = self.flush(player_id, within).await;
        if player_id.is_none() {
            self.0.lock().release_unjournalled();
        }
        self.wait_released(player_id, until).await;
        flushed
    }

    async fn wait_released(&self, player_id: Option<&str>, until: Instant) {
        let _hurry = FlushGuard::begin(&self.0);
        let left = until.saturating_duration_since(self.0.clock.now());
        let gone = self.0.wait_until(left, |state| match player_id {
            Some(id) => !state.releases.contains_key(id),
            None => state.releases.is_empty() && state.loading.is_empty(),
        });
        if !gone.await {
            tracing::warn!("leases were not released in time; they expire by themselves");
        }
    }
}

/// While this lives, all players are being let go: nobody is loaded, and loads under way are too late.
struct Closing<'a>(&'a Inner);

impl<'a> Closing<'a> {
    fn begin(inner: &'a Inner) -> Self {
        {
            let mut state = inner.lock();
            state.closing += 1;
            state.closed += 1;
        }
        inner.progressed();
        Self(inner)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.lock().closing -= 1;
    }
}

fn closing() -> ClientError {
    ClientError::new(Fault::Cancelled, "all players are being released")
}

/// While this lives, a notice that somebody waits for the player is for later.
struct Loading<'a>(&'a Inner, Arc<str>);

impl<'a> Loading<'a> {
    fn begin(inner: &'a Inner, player_id: &str) -> Self {
        let id: Arc<str> = player_id.into();
        inner.lock().loading.entry(Arc::clone(&id)).or_default().running += 1;
        Self(inner, id)
    }

    /// How often the player was forgotten since loads are under way.
    fn forgotten(&self) -> u64 {
        self.0.lock().loading.get(&self.1).map_or(0, |loads| loads.forgotten)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(loads) = state.loading.get_mut(&self.1) {
            loads.running -= 1;
            if loads.running == 0 {
                state.loading.remove(&self.1);
            }
        }
        drop(state);
        self.0.progressed();
    }
}

/// What was so when a player was asked for.
struct Asked {
    /// Of the player's documents, as the backend had told them.
    versions: HashMap<Arc<str>, i64>,
    /// The lease under which the player was held, and the largest number that the backend had confirmed of it.
    largest: Option<(i64, i64)>,
    /// How often the player had been forgotten.
    forgotten: u64,
    /// How often all players had been let go.
    closed: u64,
    /// When the backend was last found to have gone back.
    rolled_back: Option<Instant>,
}

impl Inner {
    /// The player is ours now; `None` if the player was forgotten after this was asked for, or the backend was found to have
    /// gone back.
    fn take(
        &self,
        loaded: LoadedPlayer,
        asked: &Asked,
    ) -> Result<Option<HashMap<String, Snapshot>>, ClientError> {
        let LoadedPlayer { player_id, epoch, sequence, documents, conflicts } = loaded;
        let mut news = Vec::new();
        let snapshots = {
            let mut state = self.lock();
            if state.closed != asked.closed {
                // The backend has given the lease all the same.
                if !state.players.contains_key(&*player_id) {
                    state.release_lease(player_id, epoch);
                }
                drop(state);
                self.wake_sender.notify_one();
                return Err(closing());
            }
            if state.loading.get(&*player_id).is_some_and(|loads| loads.forgotten != asked.forgotten)
                || state.rolled_back != asked.rolled_back
            {
                return Ok(None);
            }
            // Under another epoch, what is unsent here was made of an older state.
            let version =
                |key: &str| documents.iter().find(|fresh| fresh.key == key).map_or(0, |fresh| fresh.version);
            let held = state.players.get(&*player_id).filter(|player| player.epoch == epoch && !player.lost);
            // Nobody else writes what this server has saved: a version above all that it was told is another copy's.
            let is_another = held.is_some_and(|player| {
                let is_settled =
                    |document: &Document| document.pending.is_none() && document.committed_sequence > 0;
                let mut settled = player.documents.iter().filter(|(_, document)| is_settled(document));
                settled.any(|(key, document)| version(key) > document.version)
            });
            // It lacks a save that it had confirmed, though its versions may be those of another one.
            let is_missing =
                asked.largest.is_some_and(|(lease, largest)| lease == epoch && sequence < largest);
            let went_back =
                is_another || is_missing || asked.versions.iter().any(|(key, known)| version(key) < *known);
            if went_back && state.rolled_back(self.clock.now()) {
                news.push(Event::RollbackDetected);
            } else if went_back {
                // Everything was sent again a moment ago, and the backend may have gone back since.
                state.resend(&player_id, self.clock.now());
                state.resend_loaded(&player_id, self.clock.now());
            }
            if state.players.get(&*player_id).is_some_and(|player| player.epoch != epoch || player.lost) {
                state.resend(&player_id, self.clock.now());
                state.lose(&player_id);
                state.forget(&player_id);
            }
            state.wanted.remove(&*player_id);
            state.releasing.remove(&*player_id);
            state.refusals.forget(|owner| owner == &*player_id);
            let used = state.ended_leases.next_sequence(&player_id, epoch);
            let id: Arc<str> = player_id.into();
            let player = state.players.entry(Arc::clone(&id)).or_insert_with(|| Player::new(id));
            player.epoch = epoch;
            player.next_sequence = player.next_sequence.max(sequence.saturating_add(1)).max(used);
            for fresh in documents {
                let document = player.documents.entry(fresh.key.into()).or_default();
                // A reply can be older than a save that was committed while it was on its way. What this server has saved
                // under the lease, nobody else does: another content is another copy's, whatever its version.
                let is_own = document.pending.is_some() || document.committed_sequence > 0;
                if !is_own && fresh.version >= document.version {
                    document.body = Arc::new(fresh.value).into();
                }
                document.version = document.version.max(fresh.version);
            }
            let snapshots = player.snapshots();
            // The game that has the player now has not heard of them.
            for conflict in &conflicts {
                state.announced_conflicts.remove(&conflict.conflict_id);
            }
            snapshots
        };
        self.wake_journal.notify_one();
        self.tell(news);
        self.announce(conflicts);
        Ok(Some(snapshots))
    }
}
