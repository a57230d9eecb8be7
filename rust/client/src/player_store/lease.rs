//! Who holds a player: taking players over, letting them go, and what becomes of saves that came too late.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backend_protocol::player_store::{Conflict, LoadPlayers, LoadedPlayer, ResolveConflicts};
use backend_protocol::{Code, Problem, limits};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::flush::{FlushGuard, Flushed};
use super::player::Player;
use super::state::{JournalState, Release};
use super::{Event, Inner, PlayerStore, Resolution, Snapshot};
use crate::error::{ClientError, Fault};
use crate::registration::Notice;

/// First and longest time between two questions whether another server has let a player go.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Time the game has to save the final state of a player that another server waits for.
const FINAL_SAVE_DELAY: Duration = Duration::from_secs(2);
/// Longest time such a player is flushed before the attempt is given up; the lease is let go when it succeeds later.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time a merged document may take to reach the backend.
const MERGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Conflicts remembered as announced.
const MAX_ANNOUNCED: usize = 10_000;

impl PlayerStore {
    /// Takes a player over and reads the documents. Waits, at most `within` in all, until what an earlier run saved of the
    /// player is with the backend, and until another server has let the player go. What is dirty here stays as it is: it
    /// is newer.
    pub async fn load(
        &self,
        player_id: &str,
        within: Duration,
    ) -> Result<HashMap<String, Snapshot>, ClientError> {
        limits::identifier("player_id", player_id, 64)?;
        let inner = &self.0;
        let until = inner.clock.now() + within;
        let server_id = inner.server_id()?;
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
            let forgotten = loading.forgotten();
            let known = inner.lock().known_versions(player_id);
            let left = until.saturating_duration_since(inner.clock.now());
            // The journal knows who takes the lease before it is taken: otherwise nobody could let it go after a crash.
            let ready = inner.wait_until(left, |state| {
                state.closed != closed
                    || state.journal != JournalState::Opening
                        && (state.journal == JournalState::Failed
                            || state.journal_server_id.as_deref() == Some(&*server_id))
                        && !state.has_recovered_saves(player_id)
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
                match inner.take(loaded, &known, forgotten, closed)? {
                    Some(snapshots) => return Ok(snapshots),
                    // The player left while the reply was on its way, with saves that it does not know.
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

    /// Saves of this player that came too late and wait to be merged.
    pub async fn conflicts(&self, player_id: &str) -> Result<Vec<Conflict>, ClientError> {
        let reply = self.0.backend.player_conflicts(self.0.registration.key(), player_id).await?;
        Ok(reply.conflicts)
    }

    /// Makes one document of two states, and then takes the conflict off the backend's list. The player must be loaded here.
    pub async fn resolve(&self, conflict: &Conflict, resolution: Resolution) -> Result<(), ClientError> {
        let merged = self.merge(conflict, resolution)?;
        self.settle(conflict, merged).await
    }

    /// The first half of [`Self::resolve`]: changes the document at once, and returns the change, if it made one. Called by
    /// the thread that saves, it cannot overwrite what that thread saves meanwhile.
    pub fn merge(&self, conflict: &Conflict, resolution: Resolution) -> Result<Option<u64>, ClientError> {
        let (player_id, key) = (conflict.player_id.as_str(), conflict.key.as_str());
        let merged = match resolution {
            Resolution::Ours => Ok(None),
            Resolution::Theirs => self.save(player_id, key, conflict.value.clone()).map(Some),
            Resolution::MergePatch => self.merge_patch(player_id, key, &conflict.value).map(Some),
            Resolution::Value(merged) => self.save(player_id, key, merged).map(Some),
        };
        merged.inspect_err(|_| self.announce_again(conflict))
    }

    /// The second half of [`Self::resolve`]: takes a conflict off the backend's list once the change that covers it is
    /// committed. When it fails, the conflict is announced again.
    pub async fn settle(&self, conflict: &Conflict, merged: Option<u64>) -> Result<(), ClientError> {
        self.settle_once(conflict, merged).await.inspect_err(|_| self.announce_again(conflict))
    }

    async fn settle_once(&self, conflict: &Conflict, merged: Option<u64>) -> Result<(), ClientError> {
        let (player_id, key) = (conflict.player_id.as_str(), conflict.key.as_str());
        if let Some(generation) = merged {
            let _hurry = FlushGuard::begin(&self.0);
            // The conflict goes only when what was made of it is committed.
            let made = |player: &Player| {
                player.documents.get(key).map_or(0, |document| document.generation) >= generation
            };
            let committed = |player: &Player| {
                player.documents.get(key).is_some_and(|document| {
                    document.committed >= generation || document.dirty.is_none() && made(player)
                })
            };
            // Loaded anew under another lease, the player has not what was made: it comes too late, and is a conflict of its own.
            let settled = self.0.wait_until(MERGE_TIMEOUT, |state| {
                state
                    .players
                    .get(player_id)
                    .is_none_or(|player| player.lost || !made(player) || committed(player))
            });
            let settled = settled.await;
            let state = self.0.lock();
            if !settled || state.players.get(player_id).is_none_or(|player| player.lost || !committed(player))
            {
                return Err(ClientError::new(
                    Fault::Timeout,
                    "the merged document is not at the backend yet",
                ));
            }
        }
        let body = ResolveConflicts {
            server_id: self.0.server_id()?,
            conflict_ids: vec![conflict.conflict_id.clone()],
        };
        self.0.backend.resolve_conflicts(self.0.registration.key(), &body).await
    }

    /// The next heartbeat tells of it again.
    fn announce_again(&self, conflict: &Conflict) {
        self.0.lock().announced_conflicts.remove(&conflict.conflict_id);
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

impl Inner {
    /// The player is ours now; `None` if the player was forgotten after this was asked for.
    fn take(
        &self,
        loaded: LoadedPlayer,
        known: &HashMap<Arc<str>, i64>,
        forgotten: u64,
        closed: u64,
    ) -> Result<Option<HashMap<String, Snapshot>>, ClientError> {
        let LoadedPlayer { player_id, epoch, sequence, documents, conflicts } = loaded;
        let mut news = Vec::new();
        let snapshots = {
            let mut state = self.lock();
            if state.closed != closed {
                // The backend has given the lease all the same.
                if !state.players.contains_key(&*player_id) {
                    state.releases.insert(player_id.into(), Release::new(epoch, None));
                }
                drop(state);
                self.wake_sender.notify_one();
                return Err(closing());
            }
            if state.loading.get(&*player_id).is_some_and(|loads| loads.forgotten != forgotten) {
                return Ok(None);
            }
            // Under another epoch, what is unsent here was made of an older state.
            let version =
                |key: &str| documents.iter().find(|fresh| fresh.key == key).map_or(0, |fresh| fresh.version);
            let went_back = known.iter().any(|(key, known)| version(key) < *known);
            if went_back && state.rolled_back(self.clock.now()) {
                news.push(Event::RollbackDetected);
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
                // A reply can be older than a save that was committed while it was on its way.
                if document.dirty.is_none() && fresh.version >= document.version {
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

    fn announce(&self, conflicts: Vec<Conflict>) {
        let fresh: Vec<Conflict> = {
            let mut state = self.lock();
            if state.announced_conflicts.len() > MAX_ANNOUNCED {
                state.announced_conflicts.clear();
            }
            let new = |conflict: &Conflict| state.announced_conflicts.insert(conflict.conflict_id.clone());
            conflicts.into_iter().filter(new).collect()
        };
        self.tell(fresh.into_iter().map(Event::ConflictFound));
    }
}

/// Follows what heartbeats ask of the store.
pub(super) async fn listen(store: Weak<Inner>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            // The next heartbeat says it again.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = store.upgrade() else { return };
        match notice {
            Notice::Wanted(players) => wanted(&inner, players),
            Notice::Listed => {
                inner.wake_journal.notify_one();
                inner.wake_sender.notify_one();
            }
            Notice::Answers => {
                inner.lock().answers = true;
                inner.wake_sender.notify_one();
            }
            Notice::RolledBack => {
                if inner.is_at_its_backend() {
                    let is_news = inner.lock().reported_rollback(inner.clock.now());
                    inner.tell(is_news.then_some(Event::RollbackDetected));
                    inner.wake_journal.notify_one();
                    inner.wake_sender.notify_one();
                }
            }
            Notice::ListedAgain(before) => {
                let is_ours = inner.is_at_its_backend();
                // A backend keeps the id of a server that holds players: it has lost it, and with it what it had confirmed.
                let has_lost = before.is_some() && is_ours && inner.lock().holds_anybody();
                let is_news = has_lost && inner.lock().reported_rollback(inner.clock.now());
                inner.tell(is_news.then_some(Event::RollbackDetected));
                {
                    let mut state = inner.lock();
                    // Its leases are of no use to anybody, once all that was saved under them has arrived.
                    state.predecessors.extend(before);
                    if is_ours {
                        state.resend_all(inner.clock.now());
                    }
                }
                inner.wake_journal.notify_one();
                inner.wake_sender.notify_one();
            }
            Notice::Conflicts(players) => {
                for player_id in players {
                    let ours = inner.lock().players.get(&*player_id).is_some_and(|player| !player.lost);
                    if !ours {
                        continue;
                    }
                    match inner.backend.player_conflicts(inner.registration.key(), &player_id).await {
                        Ok(reply) => inner.announce(reply.conflicts),
                        // The next heartbeat says it again.
                        Err(error) => tracing::debug!(code = error.code(), "conflicts not read: {error}"),
                    }
                }
            }
        }
    }
}

/// Another server waits for these players.
pub(super) fn wanted(inner: &Arc<Inner>, players: Vec<String>) {
    for player_id in players {
        let known = {
            let mut state = inner.lock();
            let on_its_way = state.loading.contains_key(&*player_id)
                || state.releases.contains_key(&*player_id)
                || state.releasing.contains(&*player_id);
            if on_its_way || !state.wanted.insert(player_id.as_str().into()) {
                continue;
            }
            state.players.get(&*player_id).is_some_and(|player| !player.lost)
        };
        let store = Arc::downgrade(inner);
        if known {
            inner.tell([Event::PlayerWanted { player_id: player_id.clone() }]);
            tokio::spawn(hand_over(store, player_id));
        } else {
            tokio::spawn(release_unknown(store, player_id));
        }
    }
}

async fn hand_over(store: Weak<Inner>, player_id: String) {
    let Some(clock) = store.upgrade().map(|inner| Arc::clone(&inner.clock)) else { return };
    clock.sleep(FINAL_SAVE_DELAY).await;
    let Some(inner) = store.upgrade() else { return };
    let still = inner.lock().wanted.contains(&*player_id);
    if still {
        PlayerStore(inner).release(&player_id, HANDOVER_TIMEOUT).await;
    }
}

/// The backend thinks that this server holds the player: the reply to a load was lost. Asking again tells the epoch.
async fn release_unknown(store: Weak<Inner>, player_id: String) {
    let Some(inner) = store.upgrade() else { return };
    let Ok(server_id) = inner.server_id() else { return };
    let body = LoadPlayers { server_id, player_ids: vec![player_id.clone()] };
    let reply = inner.backend.load_players(inner.registration.key(), &body).await;
    {
        let mut state = inner.lock();
        let found = reply
            .ok()
            .and_then(|reply| reply.players.into_iter().find(|player| player.player_id == player_id));
        // One that was lost is held under an epoch that nobody here knows of.
        let known = state.players.get(&*player_id).is_some_and(|player| !player.lost);
        let ours = known || state.loading.contains_key(&*player_id);
        match found {
            Some(found) if !ours => {
                state.releases.insert(player_id.as_str().into(), Release::new(found.epoch, None));
            }
            _ => {
                state.wanted.remove(&*player_id);
            }
        }
    }
    inner.wake_sender.notify_one();
}
