//! What requests for rooms share: statements that load them, and followers.

use std::sync::Arc;

use axum::body::Bytes;
use backend_protocol::rooms::Room;

use super::follow::Followers;
use crate::database::batch_loader::BatchLoader;
use crate::http::ApiError;
use crate::http::etag::EtaggedJson;

/// Loaders and followers of rooms. Requests for the same page, or for single rooms, share a statement.
#[derive(Default)]
pub struct RoomLoaders {
    pub page_loader: BatchLoader<String, (), EtaggedJson, ApiError>,
    pub followers: Followers,
    /// The most free seats of a room that quick play would take.
    pub free_seats_loader: BatchLoader<String, (), u32, ApiError>,
    pub room_loader: BatchLoader<(), String, Option<Arc<LiveRoom>>, ApiError>,
}

impl RoomLoaders {
    /// Says that a transaction that changes rooms was committed.
    pub fn rooms_changed(&self) {
        self.followers.rooms_changed();
    }
}

/// A room that players may join.
pub struct LiveRoom {
    pub room: Room,
    /// The room, serialized.
    pub json: Bytes,
    pub certificate: Option<String>,
    /// Whether a player hosts it through a relay.
    pub relay: bool,
    /// None for a public room.
    pub invite_code: Option<String>,
    /// argon2id; none without a password.
    pub password_hash: Option<String>,
    /// The database's time when it was read.
    pub read_at: i64,
}
