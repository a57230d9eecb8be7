//! Letting a player in: an address that is proven, a ticket that verifies, a room that takes them.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::relay::{CloseReason, Control, Frame, FrameReader, MAX_FRAME, MAX_JOIN_FRAME, VERSION};
use backend_protocol::validation::Claims;
use quinn::{Connection, Incoming};
use tokio::time::{Instant, timeout_at};

use super::Relay;
use super::reading::{self, Joined, PIECE};
use super::room::Room;
use crate::auth::audit::Event;
use crate::state::AppState;

/// Longest from the first packet to a ticket.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// From so many connections on that are not admitted yet, an address is proven by another round trip before anything is kept for it.
const MAX_UNPROVEN: usize = 64;

/// The connection, if its address is proven or need not be.
pub fn proven(relay: &Relay, incoming: Incoming) -> Option<Incoming> {
    if relay.joining.count() < MAX_UNPROVEN || incoming.remote_address_validated() {
        return Some(incoming);
    }
    // Fails for addresses that are proven only.
    let _retried = incoming.retry();
    None
}

/// One connection, from its first packet to its end.
pub async fn serve(state: AppState, incoming: Incoming) {
    let Some(relay) = &state.relay else { return };
    let Some(counted) = relay.joining.begin(incoming.remote_address().ip()) else {
        incoming.refuse();
        return;
    };
    let entered = enter(&state, relay, incoming).await;
    drop(counted);
    let (connection, reason) = match entered {
        Ok((connection, joined)) => match Arc::clone(&relay.places).try_acquire_owned() {
            Ok(_place) => return reading::run(connection, joined).await,
            Err(_) => (connection, CloseReason::RelayFull),
        },
        Err(Some(refused)) => refused,
        Err(None) => return,
    };
    reading::refuse(&connection, reason);
}

/// Shakes hands and waits for a ticket. Who has shaken hands is told why not.
async fn enter(
    state: &AppState,
    relay: &Relay,
    incoming: Incoming,
) -> Result<(Connection, Joined), Option<(Connection, CloseReason)>> {
    let due = Instant::now() + JOIN_TIMEOUT;
    let connecting = incoming.accept().map_err(|_| None)?;
    let connection = timeout_at(due, connecting).await.map_err(|_| None)?.map_err(|_| None)?;
    let joined =
        timeout_at(due, join(state, relay, &connection)).await.unwrap_or(Err(CloseReason::JoinTimeout));
    match joined {
        Ok(joined) => Ok((connection, joined)),
        Err(reason) => Err(Some((connection, reason))),
    }
}

async fn join(state: &AppState, relay: &Relay, connection: &Connection) -> Result<Joined, CloseReason> {
    let (send, mut receive) = connection.accept_bi().await.map_err(|_| CloseReason::ConnectionLost)?;
    let mut reader = FrameReader::new(MAX_JOIN_FRAME);
    loop {
        let piece = receive.read_chunk(PIECE, true).await.map_err(|_| CloseReason::ConnectionLost)?;
        reader.push(&piece.ok_or(CloseReason::ProtocolError)?.bytes);
        let Some(frame) = reader.next_frame().map_err(|_| CloseReason::ProtocolError)? else { continue };
        let (room, claims) = admitted(state, relay, frame)?;
        reader.set_limit(MAX_FRAME);
        return Ok(Joined { room, claims, reader, send, receive });
    }
}

fn admitted(state: &AppState, relay: &Relay, frame: &[u8]) -> Result<(Arc<Room>, Arc<Claims>), CloseReason> {
    let Ok(Frame::Control(Control::Join { version, room_id, ticket })) = Frame::parse(frame) else {
        return Err(CloseReason::ProtocolError);
    };
    if version != VERSION {
        return Err(CloseReason::UnsupportedVersion);
    }
    let claims = state.tokens.verify_ticket_offline(ticket, room_id).map_err(|_| {
        // Of whom is not known: the name in it is not verified.
        Event::new("relay_ticket").refused("invalid");
        CloseReason::TicketInvalid
    })?;
    let room = relay.room(room_id).ok_or(CloseReason::RoomUnknown)?;
    room.use_ticket(&claims).inspect_err(|_| {
        Event::new("relay_ticket").player(&claims.sub).server(room_id).refused("used before");
    })?;
    Ok((room, claims))
}
