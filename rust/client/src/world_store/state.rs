//! What a world store has in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use backend_protocol::world_store::MAX_CHANGES;
use tokio::sync::oneshot;

use super::index::{Change, Object, Session};
use super::queue::Queue;
use crate::error::ClientError;

/// A change on its way to local disk.
pub struct Incoming {
    /// `None`: the chunk is removed.
    pub data: Option<Arc<Vec<u8>>>,
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

pub struct State {
    pub session: Session,
    pub committed: BTreeMap<String, Committed>,
    /// Of the world, after the last commit.
    pub version: i64,
    pub incoming: Queue<Incoming>,
    pub incoming_bytes: usize,
    /// Being written to disk.
    pub keeping: HashMap<String, Option<Arc<Vec<u8>>>>,
    /// Durable here, without a commit yet.
    pub waiting: Queue<Change>,
    /// The commit `session.sequence`, on its way.
    pub outgoing: Vec<Change>,
    /// How many chunks and changes refer to an object. Without any, it leaves the local copy.
    references: HashMap<String, usize>,
    pub lost: bool,
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
            incoming: Queue::default(),
            incoming_bytes: 0,
            keeping: HashMap::new(),
            waiting: Queue::default(),
            outgoing: Vec::new(),
            references: HashMap::new(),
            lost: false,
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
        if let Some(data) = self.keeping.get(name) {
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
        for (name, data) in &self.keeping {
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

    pub fn dirty_count(&self) -> usize {
        let unkept = |name: &str| self.incoming.contains(name) || self.keeping.contains_key(name);
        let waiting = self.waiting.iter().filter(|(name, _)| !unkept(name)).count();
        let outgoing = self
            .outgoing
            .iter()
            .filter(|change| !unkept(&change.name) && !self.waiting.contains(&change.name));
        self.unkept_count() + waiting + outgoing.count()
    }

    pub fn has_changes(&self) -> bool {
        !self.outgoing.is_empty() || !self.waiting.is_empty()
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
