//! Finding a room and getting into it.

use std::sync::Arc;

use backend_protocol::rooms::{JoinTicket, Room, RoomPage, RoomQuery};

use crate::backend::Backend;
use crate::error::ClientError;
use crate::session::Session;

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

    /// One room.
    pub async fn get(&self, room_id: &str) -> Result<Room, ClientError> {
        self.session.authorized(|token| async move { self.backend.room(&token, room_id).await }).await
    }

    /// A ticket to join one room, good once and for a minute at most.
    pub async fn ticket(&self, room_id: &str) -> Result<JoinTicket, ClientError> {
        self.session.authorized(|token| async move { self.backend.ticket(&token, room_id).await }).await
    }
}
