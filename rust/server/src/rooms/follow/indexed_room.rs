//! A room with what is sent of it.

use axum::body::Bytes;
use backend_protocol::rooms::Room;

use crate::http::ApiResult;

/// A room that is on the list of all.
pub struct IndexedRoom {
    pub room: Room,
    /// The room, serialized.
    pub json: Bytes,
}

impl IndexedRoom {
    pub fn new(room: Room) -> ApiResult<Self> {
        let json = serde_json::to_vec(&room).map_err(anyhow::Error::from)?.into();
        Ok(Self { room, json })
    }
}
