//! Hosting a room.

use backend_protocol::relay::HostRoom;
use backend_protocol::rooms::JoinTicket;

use crate::api::backend::Backend;
use crate::error::ClientError;
use crate::session::Session;

/// Creates a room at the backend's relay, and returns the host's ticket for it.
pub async fn host_room(
    backend: &dyn Backend,
    session: &Session,
    wanted: &HostRoom,
) -> Result<JoinTicket, ClientError> {
    session.authorized(|token| async move { backend.host_relay_room(&token, wanted).await }).await
}
