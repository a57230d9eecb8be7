//! What a world store has in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backend_protocol::world_store::MAX_CHANGES;
use tokio::sync::oneshot;

use super::index_format::{Change, Object, Session};
use super::queue::Queue;
use crate::error::ClientError;
use crate::player_store::refusals::Refusals;

/// A change on its way to local disk.
pub struct Incoming {
    /// `None`: the chunk is removed.
    pub data: Option<Arc<Vec<u8>>>,
    /// The oldest change that it covers.
    pub since: u64,
    /// Whoever waits for it to be durable.
    pub acks: Vec<oneshot::Sender<Result<(), ClientError>>>,
}

impl Incoming {
    pub fn bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }
}

/// A chunk as the backend has it.
#[derive(Clone)]
pub struct Committed {
    pub hash: String,
    pub bytes: u64,
    pub version: i64,
}

/// Where the newest content of a chunk is.
pub enum Found {
    /// Not on disk yet.
    InMemory(Arc<Vec<u8>>),
    /// Durable here, not at the backend yet.
    Local(Object),
    /// At the backend, and perhaps here.
    Committed(Committed),
}

/// A chunk that is being written to disk, or its removal, with the oldest change that it covers.
pub type BeingKept = (Option<Arc<Vec<u8>>>, u64);

pub struct State {
    pub session: Session,
    pub committed: BTreeMap<String, Committed>,
    /// Of the world, after the last commit.
    pub version: i64,
    /// The last commit of this lease that the backend has confirmed, 0 before the first one; `None` until the world is open.
    pub saved_sequence: Option<i64>,
    pub incoming: Queue<Incoming>,
    pub incoming_bytes: usize,
    /// Being written to disk, by name.
    pub keeping: HashMap<String, BeingKept>,
    /// Counts changes.
    pub changes: u64,
    /// The final state is in, because the process ends.
    pub sealed: bool,
    /// By world and chunk.
    pub refusals: Refusals,
    /// Durable here, without a commit yet.
    pub waiting: Queue<Change>,
    /// The commit `session.sequence`, on its way.
    pub outgoing: Vec<Change>,
    /// How many chunks and changes refer to an object. Without any, it leaves the local copy.
    references: HashMap<String, usize>,
    pub lost: bool,
    /// The backend has answered to the release.
    pub released: bool,
    /// The backend went back, and what it lacks is not among the changes yet.
    pub must_compare: bool,
    /// Changes that were put aside so far.
    pub aside: usize,
    /// Changes that could not be made or kept durable so far.
    pub failed: usize,
    pub closing: bool,
    /// Flushes in progress: while there are any, everything is due.
    pub flushing: usize,
}

impl State {
    pub fn new(session: Session, outgoing: Vec<Change>, waiting: Vec<Change>) -> Self {
        let mut state = Self {
            session,
            committed: BTreeMap::new(),
            version: 0,
            saved_sequence: None,
            incoming: Queue::default(),
            incoming_bytes: 0,
            keeping: HashMap::new(),
            changes: 0,
            sealed: false,
            refusals: Refusals::default(),
            waiting: Queue::default(),
            outgoing: Vec::new(),
            references: HashMap::new(),
            lost: false,
            released: false,
            must_compare: false,
            aside: 0,
            failed: 0,
            closing: false,
            flushing: 0,
        };
        for change in &outgoing {
            state.refer(change);
        }
        state.outgoing = outgoing;
        for change in waiting {
            state.refer(&change);
            let name = change.name.clone();
            state.waiting.push(&name, change);
        }
        state
    }

    /// The newest content of a chunk; `None` if there is no such chunk (any more).
    pub fn find(&self, name: &str) -> Option<Found> {
        if let Some(incoming) = self.incoming.get(name) {
            return incoming.data.clone().map(Found::InMemory);
        }
        if let Some((data, _)) = self.keeping.get(name) {
            return data.clone().map(Found::InMemory);
        }
        if let Some(change) = self.change(name) {
            return change.object.clone().map(Found::Local);
        }
        self.committed.get(name).cloned().map(Found::Committed)
    }

    /// The newest durable change of a chunk that is not committed.
    pub fn change(&self, name: &str) -> Option<&Change> {
        self.waiting.get(name).or_else(|| self.outgoing.iter().find(|change| change.name == name))
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: BTreeSet<&str> = self.committed.keys().map(String::as_str).collect();
        let mut set = |name, exists| if exists { names.insert(name) } else { names.remove(name) };
        for change in self.outgoing.iter().chain(self.waiting.iter().map(|(_, change)| change)) {
            set(&change.name, change.object.is_some());
        }
        for (name, (data, _)) in &self.keeping {
            set(name, data.is_some());
        }
        for (name, incoming) in self.incoming.iter() {
            set(name, incoming.data.is_some());
        }
        names.into_iter().map(str::to_owned).collect()
    }

    pub fn unkept_count(&self) -> usize {
        self.incoming.len() + self.keeping.keys().filter(|name| !self.incoming.contains(name)).count()
    }

    /// The backend has this version, and what it lacked of the `confirmed` one is becoming a change, under this lock.
    pub fn compared(&mut self, confirmed: i64, version: i64) {
        self.must_compare = false;
        // Unless a commit has arrived meanwhile.
        if self.version == confirmed {
            self.version = version;
            self.saved_sequence = Some(0);
        }
    }

    pub fn pending_count(&self) -> usize {
        let unkept = |name: &str| self.incoming.contains(name) || self.keeping.contains_key(name);
        let waiting = self.waiting.iter().filter(|(name, _)| !unkept(name)).count();
        let outgoing = self
            .outgoing
            .iter()
            .filter(|change| !unkept(&change.name) && !self.waiting.contains(&change.name));
        self.unkept_count() + waiting + outgoing.count()
    }

    /// The oldest of all changes of a chunk that is not durable on local disk.
    pub fn unkept_since(&self, name: &str) -> Option<u64> {
        let incoming = self.incoming.get(name).map(|incoming| incoming.since);
        let keeping = self.keeping.get(name).map(|(_, since)| *since);
        incoming.into_iter().chain(keeping).min()
    }

    /// The oldest of all changes of a chunk that is not committed.
    pub fn pending_since(&self, name: &str) -> Option<u64> {
        let outgoing = self.outgoing.iter().filter(|change| change.name == name);
        let durable = outgoing.chain(self.waiting.get(name)).map(|change| change.since);
        durable.chain(self.unkept_since(name)).min()
    }

    /// What is to be waited for by somebody who flushes now.
    pub fn targets(&self) -> Targets {
        let durable = self.outgoing.iter().map(|change| &change.name);
        let durable = durable.chain(self.waiting.iter().map(|(_, change)| &change.name));
        let unkept =
            self.keeping.keys().map(String::as_str).chain(self.incoming.iter().map(|(name, _)| name));
        let names: BTreeSet<&str> = durable.map(String::as_str).chain(unkept).collect();
        let names = names.into_iter().map(str::to_owned).collect();
        Targets { names, newest: self.changes, done: AtomicUsize::new(0) }
    }

    /// Durable changes without a commit, older ones of the same chunk included.
    pub fn change_count(&self) -> usize {
        self.outgoing.len() + self.waiting.len()
    }

    pub fn has_changes(&self) -> bool {
        !self.outgoing.is_empty() || !self.waiting.is_empty()
    }

    /// Whether something is to be done at the backend.
    pub fn has_work(&self) -> bool {
        self.has_changes() || self.must_compare && !self.lost
    }

    /// Whether there is nothing to wait for: the next commit is made, or full.
    pub fn has_full_commit(&self) -> bool {
        !self.outgoing.is_empty() || self.waiting.len() >= MAX_CHANGES
    }

    /// Notes that something refers to an object.
    pub fn refer(&mut self, change: &Change) {
        if let Some(object) = &change.object {
            self.refer_to(&object.hash);
        }
    }

    pub fn refer_to(&mut self, hash: &str) {
        *self.references.entry(hash.to_owned()).or_default() += 1;
    }

    /// One reference fewer. Gives whether it was the last.
    #[must_use]
    pub fn forget(&mut self, hash: &str) -> bool {
        let Some(count) = self.references.get_mut(hash) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.references.remove(hash);
        }
        last
    }

    pub fn referred(&self) -> impl Iterator<Item = &String> {
        self.references.keys()
    }
}

/// Chunks with changes that were unsaved at one moment. What is changed later is of no concern.
pub struct Targets {
    pub names: Vec<String>,
    newest: u64,
    /// So many from the beginning are where they should be, and will not come back.
    done: AtomicUsize,
}

impl Targets {
    pub fn is_unkept(&self, state: &State, name: &str) -> bool {
        state.unkept_since(name).is_some_and(|since| since <= self.newest)
    }

    pub fn is_pending(&self, state: &State, name: &str) -> bool {
        state.pending_since(name).is_some_and(|since| since <= self.newest)
    }

    /// Looks on from where it has come to.
    pub fn are_all(&self, is_there: impl Fn(&str) -> bool) -> bool {
        let mut done = self.done.load(Ordering::Relaxed);
        while self.names.get(done).is_some_and(|name| is_there(name)) {
            done += 1;
        }
        self.done.store(done, Ordering::Relaxed);
        done == self.names.len()
    }
}
