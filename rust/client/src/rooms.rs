//! Finding a room and getting into it.

mod selection;

use std::collections::HashSet;
use std::sync::Arc;

use backend_protocol::limits::MAX_PAGE;
use backend_protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery};

use crate::backend::Backend;
use crate::error::ClientError;
use crate::session::Session;

pub use selection::select;

/// Most rooms that [`Rooms::list_all`] collects.
pub const MAX_ROOMS: usize = 10_000;

/// Room queries of a logged-in player. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    backend: Arc<dyn Backend>,
    session: Session,
}

impl Rooms {
    /// Asks in the name of `session`.
    pub fn new(backend: Arc<dyn Backend>, session: Session) -> Self {
        Self { backend, session }
    }

    /// One page of rooms.
    pub async fn list(&self, query: &RoomQuery) -> Result<RoomPage, ClientError> {
        self.session.authorized(|token| async move { self.backend.rooms(&token, query).await }).await
    }

    /// All rooms, page after page, at most [`MAX_ROOMS`]; then there is a cursor. `limit` and `cursor` of the query do not
    /// count. A room that moves from page to page meanwhile is in it once.
    pub async fn list_all(&self, query: &RoomQuery) -> Result<RoomPage, ClientError> {
        let mut query = RoomQuery { limit: Some(MAX_PAGE), cursor: None, ..query.clone() };
        let mut all = RoomPage { rooms: Vec::new(), next_cursor: None };
        let mut known = HashSet::new();
        loop {
            let page = self.list(&query).await?;
            let before = all.rooms.len();
            all.rooms.extend(page.rooms.into_iter().filter(|room| known.insert(room.room_id.clone())));
            all.next_cursor = page.next_cursor;
            // A page without news that says that there is more could go on like that for ever.
            if all.next_cursor.is_none() || all.rooms.len() == before || all.rooms.len() >= MAX_ROOMS {
                return Ok(all);
            }
            query.cursor.clone_from(&all.next_cursor);
        }
    }

    /// One room.
    pub async fn get(&self, room_id: &str) -> Result<Room, ClientError> {
        self.session.authorized(|token| async move { self.backend.room(&token, room_id).await }).await
    }

    /// A ticket to join one room, good once and for a minute at most.
    pub async fn ticket(&self, room_id: &str) -> Result<JoinTicket, ClientError> {
        self.session.authorized(|token| async move { self.backend.ticket(&token, room_id).await }).await
    }
}
