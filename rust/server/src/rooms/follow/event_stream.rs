//! The events that wait for one follower.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use backend_protocol::rooms::MAX_FOLLOWED_ROOMS;
use tokio::sync::mpsc::Receiver;

use super::event_text::{EventName, Events, heartbeat};
use super::group::GroupKey;
use super::indexed_room::IndexedRoom;
use super::too_many_rooms;
use crate::http::ApiResult;

/// What a follower is sent: where it begins, then what comes.
pub struct EventStream {
    pub first: Box<dyn Iterator<Item = Bytes> + Send>,
    pub later: Receiver<Bytes>,
}

/// A follower whose stream is to begin with rooms as they were when it came.
pub struct NewFollower {
    pub key: Arc<GroupKey>,
    /// The rooms of all lists with the numbers of their last changes. Those that have changed are enough for who knows the rest of a
    /// list that is counted.
    pub rooms: Vec<(Arc<IndexedRoom>, i64)>,
    /// Number of the change up to which the follower knows the list.
    pub known: Option<i64>,
    /// Rooms that have left the list of all since.
    pub gone: Vec<String>,
    /// Id of the events.
    pub id: String,
    /// How many rooms are on the list, for the first follower of a query, who counts them.
    pub count: Option<Arc<OnceLock<usize>>>,
    pub later: Receiver<Bytes>,
}

impl NewFollower {
    /// The stream. Compares all rooms with the query, which takes milliseconds.
    pub fn begin(self) -> ApiResult<EventStream> {
        let Self { key, rooms, known, gone: mut removed, id, count, later } = self;
        let (mut shown, mut on_list) = (Vec::new(), 0);
        for (room, change) in rooms {
            let is_on_list = key.keeps(&room.room);
            on_list += usize::from(is_on_list);
            match known {
                Some(known) if change < known => {}
                _ if is_on_list => shown.push(room),
                Some(_) => removed.push(room.room.room_id.clone()),
                None => {}
            }
        }
        if let Some(count) = count {
            // Nobody else sets it.
            count.set(on_list).ok();
        }
        if on_list > MAX_FOLLOWED_ROOMS {
            return Err(too_many_rooms());
        }
        if known.is_some() && shown.is_empty() && removed.is_empty() {
            return Ok(EventStream { first: Box::new(std::iter::once(heartbeat(&id))), later });
        }
        let name = if known.is_some() { EventName::Change } else { EventName::Reset };
        let shown = shown.into_iter().map(move |room| key.json(&room));
        Ok(EventStream { first: Box::new(Events::new(name, shown, removed, id)), later })
    }
}
