//! Followers of the same query.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use backend_protocol::rooms::{MAX_FOLLOWED_ROOMS, Room, RoomFilter, RoomQuery, RoomSort};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::event_text::{EventName, Events};
use super::indexed_room::IndexedRoom;
use crate::http::ApiResult;
use crate::rooms::columns::folded;

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
        let mut query = RoomQuery {
            sort: RoomSort::default(),
            descending: false,
            cursor: None,
            limit: None,
            ..query.clone()
        };
        let fields = query.fields.is_some().then(|| {
            let mut fields: Vec<String> = query.field_list().map(str::to_owned).collect();
            fields.sort_unstable();
            fields.dedup();
            fields
        });
        query.fields = fields.as_ref().map(|fields| fields.join(","));
        Ok(Self {
            text: serde_json::to_string(&query).map_err(anyhow::Error::from)?,
            filter: RoomFilter::new(&query, folded)?,
            fields,
        })
    }

    pub fn keeps(&self, room: &Room) -> bool {
        self.filter.keeps(room)
    }

    /// The room as this query's followers see it.
    pub fn json(&self, room: &IndexedRoom) -> Bytes {
        let Some(fields) = &self.fields else { return room.json.clone() };
        let mut value = serde_json::to_value(&room.room).unwrap_or_default();
        if let Some(room) = value.as_object_mut() {
            room.retain(|name, _| name == "room_id" || fields.contains(name));
        }
        value.to_string().into()
    }
}

/// How a room has changed.
pub struct Replaced {
    pub old: Option<Arc<IndexedRoom>>,
    pub new: Option<Arc<IndexedRoom>>,
}

/// The followers of a query.
pub struct Group {
    pub key: Arc<GroupKey>,
    followers: Vec<Sender<Bytes>>,
    /// How many rooms were on the list when the first follower came, once they are counted.
    count: Arc<OnceLock<usize>>,
    /// By how many there are more or fewer since.
    growth: isize,
}

impl Group {
    pub fn new(key: GroupKey) -> Self {
        Self { key: Arc::new(key), followers: Vec::new(), count: Arc::default(), growth: 0 }
    }

    /// Where the first follower puts the count.
    pub fn count(&self) -> Arc<OnceLock<usize>> {
        Arc::clone(&self.count)
    }

    pub fn is_too_long(&self) -> bool {
        let count = self.count.get().and_then(|count| count.checked_add_signed(self.growth));
        count.is_some_and(|count| count > MAX_FOLLOWED_ROOMS)
    }

    /// Adds a follower, and returns what it will be sent.
    pub fn add_follower(&mut self) -> Receiver<Bytes> {
        let (sender, receiver) = channel(MAX_WAITING);
        self.followers.push(sender);
        receiver
    }

    /// Sends what of `changes` concerns this list.
    pub fn publish(&mut self, changes: &[Replaced], id: &str) {
        let (mut rooms, mut removed) = (Vec::new(), Vec::new());
        for Replaced { old, new } in changes {
            let old = old.as_ref().filter(|room| self.key.keeps(&room.room));
            let new = new.as_ref().filter(|room| self.key.keeps(&room.room));
            match (old, new) {
                (None, None) => {}
                (None, Some(new)) => {
                    self.growth += 1;
                    rooms.push(self.key.json(new));
                }
                (Some(old), Some(new)) => {
                    let json = self.key.json(new);
                    if json != self.key.json(old) {
                        rooms.push(json);
                    }
                }
                (Some(old), None) => {
                    self.growth -= 1;
                    removed.push(old.room.room_id.clone());
                }
            }
        }
        if rooms.is_empty() && removed.is_empty() {
            return;
        }
        let events: Vec<Bytes> =
            Events::new(EventName::Change, rooms.into_iter(), removed, id.to_owned()).collect();
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
