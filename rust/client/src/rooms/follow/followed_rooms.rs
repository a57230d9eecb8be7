//! The list as a follower knows it, and what the game has not been told of it yet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backend_protocol::rooms::{Room, RoomQuery};

use crate::error::ClientError;
use crate::rooms::filter::order;

/// Rooms that are taken over at a time: whoever takes updates does not wait longer.
const CHUNK: usize = 32;

/// How up to date the list is.
#[derive(Debug, Clone, PartialEq)]
pub enum FollowState {
    /// The list has not arrived yet.
    Loading,
    /// The backend sends each change.
    Live,
    /// The list is read again from time to time, because no events arrive: a proxy keeps them back, or the backend has too many
    /// followers.
    Polling,
    /// The backend cannot be reached. The list is as it was.
    Reconnecting,
    /// It ended with this error.
    Failed(ClientError),
}

/// A change of the list.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomUpdate {
    /// A room is on the list.
    Added(Arc<Room>),
    /// A room looks different.
    Changed(Arc<Room>),
    /// A room is not on the list any more: as it was last.
    Removed(Arc<Room>),
}

/// A followed list, shared by the task that follows and by those who are told. Cheap to clone.
#[derive(Clone)]
pub struct FollowedRooms(Arc<Shared>);

struct Shared {
    list: Mutex<List>,
    on_update: Box<dyn Fn() + Send + Sync>,
}

struct List {
    query: RoomQuery,
    by_id: HashMap<String, Arc<Room>>,
    /// The same rooms in the order of the query.
    in_order: Vec<Arc<Room>>,
    state: FollowState,
    /// Rooms whose updates were not taken yet, each with the room as it was then. Several updates of one become one.
    pending: HashMap<String, Option<Arc<Room>>>,
    /// Their ids, the oldest first.
    queue: VecDeque<String>,
}

impl List {
    fn replace(&mut self, room_id: &str, new: Option<Room>) {
        let Self { query, by_id, in_order, pending, queue, .. } = self;
        let old = by_id.get(room_id).cloned();
        if old.as_deref() == new.as_ref() {
            return;
        }
        if let Some(old) = &old
            && let Ok(index) = in_order.binary_search_by(|room| order(query, room, old))
        {
            in_order.remove(index);
        }
        match new {
            Some(new) => {
                let new = Arc::new(new);
                if let Err(index) = in_order.binary_search_by(|room| order(query, room, &new)) {
                    in_order.insert(index, Arc::clone(&new));
                }
                by_id.insert(room_id.to_owned(), new);
            }
            None => {
                by_id.remove(room_id);
            }
        }
        if !pending.contains_key(room_id) {
            pending.insert(room_id.to_owned(), old);
            queue.push_back(room_id.to_owned());
        }
    }
}

impl FollowedRooms {
    /// An empty list. `on_update` is called, on any thread, whenever there is something to take.
    pub fn new(query: RoomQuery, on_update: impl Fn() + Send + Sync + 'static) -> Self {
        let list = List {
            query,
            by_id: HashMap::new(),
            in_order: Vec::new(),
            state: FollowState::Loading,
            pending: HashMap::new(),
            queue: VecDeque::new(),
        };
        Self(Arc::new(Shared { list: Mutex::new(list), on_update: Box::new(on_update) }))
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How up to date the list is.
    pub fn state(&self) -> FollowState {
        self.lock().state.clone()
    }

    /// The rooms now, in the order of the query.
    pub fn rooms(&self) -> Vec<Arc<Room>> {
        self.lock().in_order.clone()
    }

    /// Number of rooms now.
    pub(super) fn len(&self) -> usize {
        self.lock().in_order.len()
    }

    /// Takes the updates of at most `most` rooms, the oldest first, and returns whether there are more. Taken one after the
    /// other, they lead from the list as it was to the list as it is. A room that is as it was has no update, but is counted:
    /// what a call costs is limited.
    pub fn take_updates(&self, most: usize) -> (Vec<RoomUpdate>, bool) {
        let mut list = self.lock();
        let most = most.min(list.queue.len());
        let mut updates = Vec::with_capacity(most);
        for _ in 0..most {
            let Some(room_id) = list.queue.pop_front() else { break };
            let before = list.pending.remove(&room_id).flatten();
            let now = list.by_id.get(&room_id).cloned();
            match (before, now) {
                (None, Some(now)) => updates.push(RoomUpdate::Added(now)),
                (Some(before), Some(now)) if before != now => updates.push(RoomUpdate::Changed(now)),
                (Some(before), None) => updates.push(RoomUpdate::Removed(before)),
                // It has changed back, or has come and gone.
                _ => {}
            }
        }
        (updates, !list.queue.is_empty())
    }

    /// The ids of all rooms.
    pub(super) fn ids(&self) -> HashSet<String> {
        // The ids are cloned outside of the lock.
        self.rooms().iter().map(|room| room.room_id.clone()).collect()
    }

    /// Takes over rooms as they are now, and removes others.
    pub(super) fn apply(&self, rooms: Vec<Room>, removed: impl IntoIterator<Item = String>) {
        let rooms = rooms.into_iter().map(|room| (room.room_id.clone(), Some(room)));
        let mut replaced = rooms.chain(removed.into_iter().map(|room_id| (room_id, None))).peekable();
        while replaced.peek().is_some() {
            let mut list = self.lock();
            for (room_id, room) in replaced.by_ref().take(CHUNK) {
                list.replace(&room_id, room);
            }
        }
        if !self.lock().queue.is_empty() {
            (self.0.on_update)();
        }
    }

    /// Takes over the whole list.
    pub(super) fn replace_all(&self, rooms: Vec<Room>) {
        let mut gone = self.ids();
        for room in &rooms {
            gone.remove(&room.room_id);
        }
        self.apply(rooms, gone);
    }

    /// Says how up to date the list is.
    pub fn enter(&self, state: FollowState) {
        let mut list = self.lock();
        if list.state == state {
            return;
        }
        list.state = state;
        drop(list);
        (self.0.on_update)();
    }
}

#[cfg(test)]
mod tests;
