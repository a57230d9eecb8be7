//! Followers of the same query.

use std::sync::Arc;

use axum::body::Bytes;
use backend_protocol::rooms::{MAX_FOLLOWED_ROOMS, Room, RoomFilter, RoomQuery, RoomSort};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::event_text::{self, EventName};
use super::indexed_room::IndexedRoom;
use crate::http::ApiResult;
use crate::registration::folded;

/// Events that wait for a follower. One that is further behind is cut off, and comes back with the id of its last event.
const MAX_WAITING: usize = 64;

/// What followers of the same list have in common.
pub struct GroupKey {
    pub text: String,
    filter: RoomFilter,
    fields: Option<Vec<String>>,
}

impl GroupKey {
    pub fn new(query: &RoomQuery) -> ApiResult<Self> {
        let query = RoomQuery {
            sort: RoomSort::default(),
            descending: false,
            cursor: None,
            limit: None,
            ..query.clone()
        };
        Ok(Self {
            text: serde_json::to_string(&query).map_err(anyhow::Error::from)?,
            filter: RoomFilter::new(&query, folded)?,
            fields: query.fields.is_some().then(|| query.field_list().map(str::to_owned).collect()),
        })
    }
}

/// How a room has changed.
pub struct Replaced {
    pub old: Option<Arc<IndexedRoom>>,
    pub new: Option<Arc<IndexedRoom>>,
}

/// The followers of a query.
pub struct Group {
    key: GroupKey,
    followers: Vec<Sender<Bytes>>,
    /// How many rooms are on the list.
    count: usize,
    /// The whole list as events, until it changes.
    whole: Option<Arc<[Bytes]>>,
}

impl Group {
    pub fn new<'a>(key: GroupKey, rooms: impl Iterator<Item = &'a Arc<IndexedRoom>>) -> Self {
        let count = rooms.filter(|room| key.filter.keeps(&room.room)).count();
        Self { key, followers: Vec::new(), count, whole: None }
    }

    pub fn keeps(&self, room: &Room) -> bool {
        self.key.filter.keeps(room)
    }

    pub const fn is_too_long(&self) -> bool {
        self.count > MAX_FOLLOWED_ROOMS
    }

    /// Adds a follower, and returns what it will be sent.
    pub fn add_follower(&mut self) -> Receiver<Bytes> {
        let (sender, receiver) = channel(MAX_WAITING);
        self.followers.push(sender);
        receiver
    }

    /// The room as this query's followers see it.
    pub fn json(&self, room: &IndexedRoom) -> Bytes {
        let Some(fields) = &self.key.fields else { return room.json.clone() };
        let mut value = serde_json::to_value(&room.room).unwrap_or_default();
        if let Some(room) = value.as_object_mut() {
            room.retain(|name, _| name == "room_id" || fields.contains(name));
        }
        value.to_string().into()
    }

    /// The whole list as events. Those who come at the same time share it.
    pub fn whole<'a>(&mut self, rooms: impl Iterator<Item = &'a Arc<IndexedRoom>>, id: &str) -> Arc<[Bytes]> {
        if let Some(whole) = &self.whole {
            return Arc::clone(whole);
        }
        let rooms: Vec<Bytes> =
            rooms.filter(|room| self.keeps(&room.room)).map(|room| self.json(room)).collect();
        let whole: Arc<[Bytes]> = event_text::changes(EventName::Reset, &rooms, &[], id).into();
        self.whole = Some(Arc::clone(&whole));
        whole
    }

    /// Sends what of `changes` concerns this list.
    pub fn publish(&mut self, changes: &[Replaced], id: &str) {
        let (mut rooms, mut removed) = (Vec::new(), Vec::new());
        for Replaced { old, new } in changes {
            let old = old.as_ref().filter(|room| self.keeps(&room.room));
            let new = new.as_ref().filter(|room| self.keeps(&room.room));
            match (old, new) {
                (None, None) => {}
                (None, Some(new)) => {
                    self.count += 1;
                    rooms.push(self.json(new));
                }
                (Some(old), Some(new)) => {
                    let json = self.json(new);
                    if json != self.json(old) {
                        rooms.push(json);
                    }
                }
                (Some(old), None) => {
                    self.count = self.count.saturating_sub(1);
                    removed.push(old.room.room_id.as_str());
                }
            }
        }
        if rooms.is_empty() && removed.is_empty() {
            return;
        }
        self.whole = None;
        let events = event_text::changes(EventName::Change, &rooms, &removed, id);
        self.send(&events);
        if self.is_too_long() {
            // They come back, and are refused with the reason.
            self.followers.clear();
        }
    }

    /// Sends events to all followers. Those that have no room for them are cut off.
    pub fn send(&mut self, events: &[Bytes]) {
        self.followers.retain(|follower| events.iter().all(|event| follower.try_send(event.clone()).is_ok()));
    }

    /// Whether nobody follows any more.
    pub fn is_empty(&mut self) -> bool {
        self.followers.retain(|follower| !follower.is_closed());
        self.followers.is_empty()
    }
}
