//! What the store knows: players, their documents, and what of it is durable where.

mod recovered;
mod releases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::limits::MAX_DOCUMENT_BYTES;
use tokio::time::Instant;

use super::document_source::{DocumentBody, DocumentSource};
use super::ended_leases::EndedLeases;
use super::player::{Document, PendingSince, Player, RecoveredSave, Revision};
use super::refusals::Refusals;
use super::{Backlog, MAX_BACKLOG_BYTES, Pace, lease_lost};
use crate::error::{ClientError, Fault};
use crate::registration::BackendIdentity;

/// Most bytes of documents in one batch; the backend reads twice as much.
pub(super) const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Least bytes that a batch is cut down to: those of the largest document.
pub(super) const MIN_BATCH_BYTES: usize = MAX_DOCUMENT_BYTES;
/// Most replaced contents kept for the journal's task to free. While it is held up, the game's thread does it.
const MAX_OUTDATED: usize = 1_024;

/// A document: player and key.
pub(super) type Name = (Arc<str>, Arc<str>);
/// A document under an epoch.
pub(super) type Epoched = (Arc<str>, Arc<str>, i64);

// Ordered maps, so that one seed of the simulation gives one trace.
pub(super) struct StoreState {
    pub pace: Pace,
    pub players: BTreeMap<Arc<str>, Player>,
    pub ended_leases: EndedLeases,
    /// Saves without a living document: of dead processes, and of leases that were lost.
    pub recovered: BTreeMap<Epoched, RecoveredSave>,
    /// Documents the backend does not have in their newest state.
    pub unsent: BTreeSet<Name>,
    /// Documents that changed since they were numbered for the journal, in the order in which they did. Of players who are
    /// gone, some may be left, to no effect.
    pub unnumbered: Vec<Name>,
    /// Players to let go once nothing of theirs is unsent.
    pub releasing: BTreeSet<Arc<str>>,
    /// Nothing is due before this, as long as nobody leaves, waits for a flush or has left something over: found by looking
    /// through all that is unsent, which nobody needs to do again until then.
    pub next_due: Option<Instant>,
    /// Leases to release, by player.
    pub releases: BTreeMap<Arc<str>, Release>,
    /// Players being loaded.
    pub loading: BTreeMap<Arc<str>, Loads>,
    /// While this is not 0, all players are being let go, and nobody is loaded.
    pub closing: usize,
    /// How often that began. A load that was under way then is too late.
    pub closed: u64,
    /// Players that another server waits for and that are on their way out.
    pub wanted: BTreeSet<Arc<str>>,
    pub announced_conflicts: BTreeSet<String>,
    pub journal: JournalState,
    /// The journal was open once: what earlier runs left is known.
    pub has_recovered: bool,
    /// What dead processes left is being moved into the journal: until that is done, nobody knows how much it is.
    pub is_taking_over: bool,
    /// Saves of earlier runs that were counted in a journal which is not open yet.
    pub counted_unopened: Option<usize>,
    /// The backend that this store is for. Unknown before a registration.
    pub backend: Option<BackendIdentity>,
    /// Registrations reach another backend now.
    pub at_another_backend: bool,
    /// What the next transaction of the journal does beside keeping saves: up to which sequence documents are settled.
    pub settled: BTreeMap<Epoched, i64>,
    pub retired_servers: Vec<String>,
    /// Write everything unsettled again: the journal is a new one.
    pub rewrite: bool,
    /// Ids of this process.
    pub own_ids: BTreeSet<String>,
    /// The id that the journal knows this process by.
    pub journal_server_id: Option<String>,
    /// Ids of dead processes whose leases wait to be let go.
    pub predecessors: Vec<String>,
    /// The one of them whose leases are being released.
    pub retiring: Option<String>,
    /// Bytes of everything unsent.
    pub bytes: usize,
    /// The final state of everybody is in: nothing more is taken.
    pub sealed: bool,
    pub refusals: Refusals,
    /// What is sent again under the number it had, on its way to the journal.
    pub resent: Vec<(Name, i64, Revision)>,
    /// When the backend was found to have gone back.
    pub rolled_back: Option<Instant>,
    /// The document that was sent last. The next batch goes on behind it: whoever saves at each frame must not keep those
    /// with later names from being sent.
    pub sent_last: Option<Name>,
    /// Most bytes of documents in the next batch: less after one that got no answer in time.
    pub batch_bytes: usize,
    /// Documents were sent last: whatever else is to be done has its turn.
    pub was_saving: bool,
    /// Counts the changes of all documents: a number never stands for two, whoever holds the player meanwhile.
    pub changes: u64,
    /// Flushes and loads in progress: while there are any, everything pending is due.
    pub flushing: usize,
    /// The backend answers again: the pause before the next attempt is over.
    pub answers: bool,
    /// Saves that became conflicts, in all.
    pub conflicted: usize,
    pub last_flush: Duration,
    /// Contents that were replaced. Freeing them takes the game's thread as long as taking them did.
    pub outdated: Vec<DocumentBody>,
}

/// A lease to release.
pub(super) struct Release {
    pub epoch: i64,
    /// What the backend has confirmed of the player, for a backend that lacks it because it went back. `None`: nothing is
    /// known, or the backend keeps it as conflicts.
    pub player: Option<Player>,
    /// How often it was sent again.
    pub repetitions: u8,
    /// It was requested, and may be done: what is saved under the lease from now on comes too late.
    pub is_requested: bool,
}

impl Release {
    pub const fn new(epoch: i64, player: Option<Player>) -> Self {
        Self { epoch, player, repetitions: 0, is_requested: false }
    }
}

/// Loads of one player that are under way.
#[derive(Default)]
pub(super) struct Loads {
    pub running: usize,
    /// How often the player was forgotten meanwhile. A reply that was asked for before shows a player of the past.
    pub forgotten: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JournalState {
    /// What dead processes left is not known yet.
    Opening,
    Good,
    Failed,
}

impl StoreState {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            players: BTreeMap::new(),
            ended_leases: EndedLeases::default(),
            recovered: BTreeMap::new(),
            unsent: BTreeSet::new(),
            unnumbered: Vec::new(),
            releasing: BTreeSet::new(),
            next_due: None,
            releases: BTreeMap::new(),
            loading: BTreeMap::new(),
            closing: 0,
            closed: 0,
            wanted: BTreeSet::new(),
            announced_conflicts: BTreeSet::new(),
            journal: JournalState::Opening,
            has_recovered: false,
            is_taking_over: false,
            counted_unopened: None,
            batch_bytes: MAX_BATCH_BYTES,
            backend: None,
            at_another_backend: false,
            settled: BTreeMap::new(),
            retired_servers: Vec::new(),
            rewrite: false,
            own_ids: BTreeSet::new(),
            journal_server_id: None,
            predecessors: Vec::new(),
            retiring: None,
            bytes: 0,
            sealed: false,
            refusals: Refusals::default(),
            resent: Vec::new(),
            rolled_back: None,
            sent_last: None,
            was_saving: false,
            changes: 0,
            flushing: 0,
            answers: false,
            conflicted: 0,
            last_flush: Duration::ZERO,
            outdated: Vec::new(),
        }
    }

    /// Replaces a document in memory.
    pub fn save(
        &mut self,
        player_id: &str,
        key: &str,
        source: impl DocumentSource,
        bytes: usize,
        now: Instant,
    ) -> Result<u64, ClientError> {
        let Some(player) = self.players.get_mut(player_id) else {
            if self.sealed {
                return Err(shutting_down());
            }
            return Err(ClientError::new(Fault::NotLoaded, "load the player before saving"));
        };
        if player.lost {
            return Err(lease_lost());
        }
        let before = player.documents.get(key);
        // Autosave hands in everything: what is known already is neither journalled nor sent again.
        let is_known = |known: &&Document| {
            (known.revision > 0 || known.version > 0) && known.body.is_same_as_source(&source)
        };
        if let Some(known) = before.filter(is_known) {
            self.refusals.clear(player_id, key);
            return Ok(known.revision);
        }
        if self.sealed {
            return Err(shutting_down());
        }
        if self.releasing.contains(player_id) {
            let message = "the player is being released: save before, or load the player again";
            return Err(ClientError::new(Fault::NotLoaded, message));
        }
        let freed = before.filter(|document| document.pending.is_some()).map_or(0, |document| document.bytes);
        let sum = self.bytes - freed + bytes;
        if sum > MAX_BACKLOG_BYTES {
            let message = format!("more than {MAX_BACKLOG_BYTES} bytes are waiting for the backend");
            return Err(ClientError::new(Fault::BacklogFull, message));
        }
        let name: Name = match player.documents.get_key_value(key) {
            Some((known, _)) => (Arc::clone(&player.id), Arc::clone(known)),
            None => (Arc::clone(&player.id), key.into()),
        };
        let document = player.documents.entry(Arc::clone(&name.1)).or_default();
        let before = std::mem::replace(&mut document.body, DocumentBody::new(source));
        if self.outdated.len() < MAX_OUTDATED {
            self.outdated.push(before);
        }
        document.bytes = bytes;
        document.loaded_version = None;
        if !document.waits_for_number() {
            self.unnumbered.push(name.clone());
        }
        self.changes += 1;
        document.revision = self.changes;
        let first = document.pending.map_or(now, |pending| pending.first);
        document.pending = Some(PendingSince { first, last: now });
        let revision = document.revision;
        self.bytes = sum;
        self.unsent.insert(name);
        self.refusals.clear(player_id, key);
        Ok(revision)
    }

    /// Whether saves of the player are accepted.
    pub fn takes_saves_of(&self, player_id: &str) -> bool {
        let is_held = self.players.get(player_id).is_some_and(|player| !player.lost);
        is_held && !self.sealed && !self.releasing.contains(player_id)
    }

    pub fn note_refused(&mut self, player_id: &str, key: &str, error: &ClientError, now: Instant) {
        // In a shutdown, one line for each player has to do.
        let topic = if self.sealed { "" } else { key };
        self.refusals.note(player_id, key, topic, error, now);
    }

    /// Documents of one player, or of all, whose last save was refused. What concerns players who are not here is told once.
    pub fn report_refused(&mut self, player_id: Option<&str>) -> usize {
        let refused = self.refusals.count(player_id);
        if refused > 0 && player_id.is_none() {
            let players = &self.players;
            self.refusals.forget(|owner| !players.contains_key(owner));
        }
        refused
    }

    pub fn document(&self, name: &Name) -> Option<(&Player, &Document)> {
        let player = self.players.get(&name.0)?;
        Some((player, player.documents.get(&name.1)?))
    }

    /// Documents of one player or of all that the backend does not have.
    pub fn pending(&self, player_id: Option<&str>) -> usize {
        match player_id {
            None => self.unsent.len() + self.recovered.len(),
            Some(id) => {
                self.unsent.iter().filter(|name| &*name.0 == id).count()
                    + self.recovered.keys().filter(|name| &*name.0 == id).count()
            }
        }
    }

    /// Those of the pending documents that are not in the journal.
    pub fn unjournalled(&self, player_id: Option<&str>) -> usize {
        let wanted = |id: &str| player_id.is_none_or(|wanted| wanted == id);
        let durable = |name: &&Name| {
            self.document(name).is_none_or(|(_, document)| {
                document.durable.as_ref().is_some_and(|revision| revision.number == document.revision)
            })
        };
        let living = self.unsent.iter().filter(|name| wanted(&name.0)).filter(|name| !durable(name)).count();
        let left = self.recovered.iter().filter(|(name, left)| wanted(&name.0) && !left.journalled).count();
        living + left
    }

    pub fn backlog(&self, now: Instant) -> Backlog {
        let first = |name: &Name| self.document(name)?.1.pending.map(|pending| pending.first);
        let oldest = self.unsent.iter().filter_map(first).min();
        let documents = self.pending(None);
        Backlog {
            documents,
            journalled: documents - self.unjournalled(None),
            bytes: self.bytes,
            oldest: oldest.map_or(Duration::ZERO, |first| now.saturating_duration_since(first)),
            last_flush: self.last_flush,
        }
    }

    /// Gives every new change its number. Numbers are given here and nowhere else.
    pub fn number(&mut self) -> Vec<(Name, i64, Revision)> {
        let mut numbered = Vec::with_capacity(self.unnumbered.len());
        for name in std::mem::take(&mut self.unnumbered) {
            let Some(player) = self.players.get_mut(&name.0) else { continue };
            let epoch = player.epoch;
            if let Some(revision) = player.number(&name.1) {
                numbered.push((name, epoch, revision));
            }
        }
        numbered
    }

    /// Another server has the player. Saves that it does not know about are kept apart, and sent: the backend keeps them as
    /// conflicts.
    pub fn lose(&mut self, player_id: &str) {
        let Some((id, _)) = self.players.get_key_value(player_id) else { return };
        let id = Arc::clone(id);
        let Some(player) = self.players.get_mut(player_id) else { return };
        player.lost = true;
        let epoch = player.epoch;
        let keys: Vec<Arc<str>> = player.documents.keys().cloned().collect();
        for key in keys {
            player.number(&key);
            let Some(document) = player.documents.get_mut(&key) else { continue };
            let name = (Arc::clone(&id), Arc::clone(&key));
            if !self.unsent.remove(&name) {
                continue;
            }
            document.pending = None;
            self.bytes = self.bytes.saturating_sub(document.bytes);
            let Some(revision) = document.numbered.take() else { continue };
            let journalled =
                document.durable.take().is_some_and(|durable| durable.sequence == revision.sequence);
            self.bytes += revision.bytes;
            let is_repeated = revision.sequence == document.committed_sequence;
            if revision.loaded_version.is_some() {
                // What was only loaded is on its way: it is not sent under another number as well.
                document.committed_sequence = revision.sequence;
            }
            let left = RecoveredSave {
                sequence: revision.sequence,
                body: revision.body,
                bytes: revision.bytes,
                journalled,
                is_repeated,
                loaded_version: revision.loaded_version,
            };
            self.recovered.insert((Arc::clone(&id), key, epoch), left);
        }
        self.wanted.remove(player_id);
        self.forget_released();
    }

    /// Takes a player out.
    pub fn forget(&mut self, player_id: &str) -> Option<Player> {
        if let Some(loads) = self.loading.get_mut(player_id) {
            loads.forgotten += 1;
        }
        self.releasing.remove(player_id);
        let player = self.players.remove(player_id)?;
        self.ended_leases.note(&player);
        Some(player)
    }
}

fn shutting_down() -> ClientError {
    ClientError::new(Fault::ShuttingDown, "the server shuts down: collect_saves was the last moment to save")
}
