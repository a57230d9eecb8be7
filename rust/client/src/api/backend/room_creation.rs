//! The calls that create rooms and find seats.

use async_trait::async_trait;
use backend_protocol::rooms::{CreateRoom, QuickPlay, RoomCreation};

use super::Reply;

/// A backend that creates rooms.
#[async_trait]
#[allow(
    missing_docs,
    reason = "each method is the route of the same name, documented in backend_protocol::routes"
)]
pub trait RoomCreationBackend: Send + Sync {
    async fn create_room(&self, access_token: &str, body: &CreateRoom) -> Reply<RoomCreation>;
    async fn quick_play(&self, access_token: &str, body: &QuickPlay) -> Reply<RoomCreation>;
    async fn cancel_room_request(&self, access_token: &str, request_id: &str) -> Reply<()>;
}
