//! The public rooms of this game in memory, while somebody follows them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_protocol::rooms::Room;

use super::event_stream::NewFollower;
use super::event_text::{self, Position};
use super::group::{Group, GroupKey, Replaced};
use super::indexed_room::IndexedRoom;
use super::too_many_rooms;
use crate::http::ApiResult;
use crate::rooms::changes::{Change, RETENTION_MS};

struct Known {
    room: Arc<IndexedRoom>,
    /// Number of the last change that was read.
    change: i64,
}

struct Gone {
    change: i64,
    seen: Instant,
}

/// The rooms as of a position, and the groups that follow them.
pub struct RoomIndex {
    backend_id: Arc<str>,
    position: Position,
    rooms: HashMap<String, Known>,
    /// Rooms that have left the list of all.
    gone: HashMap<String, Gone>,
    pub(super) groups: HashMap<String, Group>,
}

impl RoomIndex {
    pub fn new(backend_id: Arc<str>, position: Position) -> Self {
        let (rooms, gone, groups) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { backend_id, position, rooms, gone, groups }
    }

    pub const fn position(&self) -> &Position {
        &self.position
    }

    /// Whether this very change of a room has been read.
    pub fn has_read(&self, change: &Change) -> bool {
        let known = self.rooms.get(&change.room_id).map(|known| known.change);
        let gone = || self.gone.get(&change.room_id).map(|gone| gone.change);
        known.or_else(gone) == Some(change.number)
    }

    /// Takes over rooms as they were read after their changes: those without a room have left the list. Sends the followers what
    /// that means to them.
    pub fn apply(&mut self, changes: Vec<(Change, Option<Room>)>, position: Position) -> ApiResult<()> {
        let mut replaced = Vec::with_capacity(changes.len());
        for (Change { room_id, number }, room) in changes {
            let new = room.map(IndexedRoom::new).transpose()?.map(Arc::new);
            let old = match &new {
                Some(room) => {
                    self.gone.remove(&room_id);
                    self.rooms.insert(room_id, Known { room: Arc::clone(room), change: number })
                }
                None => {
                    let old = self.rooms.remove(&room_id);
                    self.gone.insert(room_id, Gone { change: number, seen: Instant::now() });
                    old
                }
            };
            let old = old.map(|known| known.room);
            if old.as_ref().map(|room| &room.json) != new.as_ref().map(|room| &room.json) {
                replaced.push(Replaced { old, new });
            }
        }
        self.position = position;
        let id = self.position.event_id(&self.backend_id);
        if !replaced.is_empty() {
            for group in self.groups.values_mut() {
                group.publish(&replaced, &id);
            }
        }
        Ok(())
    }

    /// Shows all followers that their streams are alive, and forgets what nobody needs any more.
    pub fn heartbeat(&mut self) {
        let event = event_text::heartbeat(&self.position.event_id(&self.backend_id));
        self.groups.retain(|_, group| {
            group.send(std::slice::from_ref(&event));
            !group.is_empty()
        });
        let retention = Duration::from_millis(RETENTION_MS.unsigned_abs());
        self.gone.retain(|_, gone| gone.seen.elapsed() < retention);
    }

    /// Lets a follower in, whose stream begins with what has changed since `resumed`, or with the whole list.
    pub fn follow(&mut self, key: GroupKey, resumed: Option<&Position>) -> ApiResult<NewFollower> {
        let Self { backend_id, position, rooms, gone, groups } = self;
        groups.retain(|_, group| !group.is_empty());
        let group = groups.entry(key.text.clone());
        let is_new = matches!(group, Entry::Vacant(_));
        let group = group.or_insert_with(|| Group::new(key));
        if group.is_too_long() {
            return Err(too_many_rooms());
        }
        let resumed =
            resumed.filter(|resumed| resumed.number <= position.number && resumed.is_recent(position));
        let known = resumed.map(|resumed| resumed.number);
        let is_new_to_them = |change: i64| known.is_none_or(|known| change >= known);
        let needed = rooms.values().filter(|room| is_new || is_new_to_them(room.change));
        let gone = gone.iter().filter(|(_, gone)| known.is_some() && is_new_to_them(gone.change));
        Ok(NewFollower {
            key: Arc::clone(&group.key),
            rooms: needed.map(|known| (Arc::clone(&known.room), known.change)).collect(),
            known,
            gone: gone.map(|(room_id, _)| room_id.clone()).collect(),
            id: position.event_id(backend_id),
            count: is_new.then(|| group.count()),
            later: group.add_follower(),
        })
    }
}
