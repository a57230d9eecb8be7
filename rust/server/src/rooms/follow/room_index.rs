//! The public rooms of this game in memory, while somebody follows them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend_protocol::rooms::Room;

use super::event_stream::EventStream;
use super::event_text::{self, EventName, Position};
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
    groups: HashMap<String, Group>,
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

    /// Begins a stream: with what has changed since `resumed`, or with the whole list.
    pub fn follow(&mut self, key: GroupKey, resumed: Option<&Position>) -> ApiResult<EventStream> {
        let Self { backend_id, position, rooms, gone, groups } = self;
        let all = || rooms.values().map(|known| &known.room);
        let id = position.event_id(backend_id);
        let group = groups.entry(key.text.clone()).or_insert_with(|| Group::new(key, all()));
        if group.is_too_long() {
            return Err(too_many_rooms());
        }
        let resumed =
            resumed.filter(|resumed| resumed.number <= position.number && resumed.is_recent(position));
        let first = match resumed {
            None => group.whole(all(), &id),
            Some(resumed) => {
                let (mut changed, mut removed) = (Vec::new(), Vec::new());
                for known in rooms.values().filter(|known| known.change >= resumed.number) {
                    if group.keeps(&known.room.room) {
                        changed.push(group.json(&known.room));
                    } else {
                        removed.push(known.room.room.room_id.as_str());
                    }
                }
                let left = gone.iter().filter(|(_, gone)| gone.change >= resumed.number);
                removed.extend(left.map(|(room_id, _)| room_id.as_str()));
                let mut events = event_text::changes(EventName::Change, &changed, &removed, &id);
                if events.is_empty() {
                    events.push(event_text::heartbeat(&id));
                }
                events.into()
            }
        };
        Ok(EventStream { first, later: group.add_follower() })
    }
}
