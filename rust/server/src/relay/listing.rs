//! Keeping a room listed while it lives: what a game server does by heartbeats, the relay does for each of its rooms.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::registration::{Heartbeat, MAX_USED_TICKETS, RegisterServer};
use backend_protocol::relay::CloseReason;
use tokio::time::{Instant, sleep};

use super::room::Room;
use crate::registration;
use crate::state::AppState;

/// Changes within this time are stored together.
const GATHERING_TIME: Duration = Duration::from_millis(200);
/// A host who has not connected for so long does not come: the ticket is past its time.
const HOST_TIMEOUT: Duration = Duration::from_secs(75);

/// A room's entry.
pub struct Listing {
    pub key_hash: String,
    /// For entering it again, when it was lost while the database was away.
    pub entry: RegisterServer,
    pub room: Arc<Room>,
}

/// Keeps the room listed until it is over, and takes it off the list.
pub async fn keep(state: AppState, listing: Listing) {
    let room = Arc::clone(&listing.room);
    let host_due = Instant::now() + HOST_TIMEOUT;
    let (mut sequence, mut revocations_after) = (0, None);
    let mut was_away = false;
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = room.ended.cancelled() => break,
            () = room.changed.notified() => sleep(GATHERING_TIME).await,
            () = sleep(pause) => {}
        }
        if !room.has_host() && Instant::now() >= host_due {
            room.end(CloseReason::HostAbsent);
            break;
        }
        let (players, used_tickets) = room.report(MAX_USED_TICKETS);
        sequence += 1;
        let beat = Heartbeat { sequence, players, used_tickets, revocations_after, ..Heartbeat::default() };
        match registration::renew(&state, &listing.key_hash, &room.id, &beat).await {
            Ok(reply) => {
                was_away = false;
                revocations_after = (reply.revocations_as_of > 0).then_some(reply.revocations_as_of);
                room.revoke(reply.revocations);
                if reply.drain {
                    room.end(CloseReason::RoomEnded);
                    break;
                }
                pause = Duration::from_secs(
                    reply.heartbeat_seconds.min(state.config.holder_heartbeat_seconds).into(),
                );
            }
            // The operator has ended it; or its lease has, while nobody could renew it.
            Err(error) if error.0.code == Code::ServerUnknown => {
                if !was_away || enter_again(&state, &listing, players).await.is_err() {
                    room.end(CloseReason::RoomEnded);
                    break;
                }
                room.report_again(beat.used_tickets);
                (was_away, pause) = (false, Duration::ZERO);
            }
            Err(_) => {
                // The room goes on without being listed.
                room.report_again(beat.used_tickets);
                (was_away, pause) = (true, Duration::from_secs(2));
            }
        }
    }
    if let Some(relay) = &state.relay {
        relay.rooms().remove(&room.id);
    }
    if let Err(error) = registration::remove(&state, &listing.key_hash, &room.id).await {
        tracing::warn!(
            room_id = room.id,
            "a room that is over leaves the list with its lease: {}",
            error.0.detail
        );
    }
}

async fn enter_again(state: &AppState, listing: &Listing, players: u32) -> crate::http::ApiResult<()> {
    let entry = RegisterServer { players, ..listing.entry.clone() };
    registration::enter(state, &listing.key_hash, None, entry).await.map(drop)
}
