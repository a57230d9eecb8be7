//! What a player sends: frames are checked, counted, and handed to the room.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_protocol::relay::{CloseReason, Control, Data, Delivery, Frame, FrameReader, MAX_FRAME};
use backend_protocol::validation::Claims;
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;

use super::endpoint::code;
use super::member::Member;
use super::room::{self, Room};

/// Bytes that are taken from a stream at a time.
pub const PIECE: usize = 64 * 1024;
/// Longest wait for what a player had sent before leaving, and for a player to close after the last frame.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who has shown a ticket, and the stream on which it came.
pub struct Joined {
    pub room: Arc<Room>,
    pub claims: Arc<Claims>,
    /// With whatever came behind the ticket.
    pub reader: FrameReader,
    pub send: SendStream,
    pub receive: RecvStream,
}

/// The player's channels that have a stream.
type Channels = Arc<Mutex<HashSet<u8>>>;

/// Serves a player until they leave, or have to.
pub async fn run(connection: Connection, joined: Joined) {
    let Joined { room, claims, reader, send, receive } = joined;
    let room = &room;
    let member = match room.admit(&claims, connection.clone(), send) {
        Ok(member) => member,
        Err(reason) => {
            refuse(&connection, reason);
            return;
        }
    };
    metrics::gauge!("backend_relay_players").increment(1);
    let mut streams = JoinSet::new();
    let reason = tokio::select! {
        reason = read(room, &member, &connection, reader, receive, &mut streams) => reason,
        reason = member.ended() => reason,
        _ = connection.closed() => CloseReason::ConnectionLost,
    };
    if reason == CloseReason::Left {
        let last = async { while streams.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout(LEAVE_TIMEOUT, last).await;
    }
    room.leave(&member, reason);
    metrics::gauge!("backend_relay_players").decrement(1);
    metrics::counter!("backend_relay_disconnects_total", "reason" => reason.as_str()).increment(1);
    if reason == CloseReason::ProtocolError {
        // Whoever breaks the rules is not waited for.
        member.close(reason);
        return;
    }
    member.end(reason);
    // The player closes when the last frame has arrived.
    let _in_time = tokio::time::timeout(LEAVE_TIMEOUT, connection.closed()).await;
    connection.close(code(reason), reason.as_str().as_bytes());
}

/// Says why somebody is not let in.
pub fn refuse(connection: &Connection, reason: CloseReason) {
    metrics::counter!("backend_relay_refused_total", "reason" => reason.as_str()).increment(1);
    tracing::debug!(reason = reason.as_str(), "the relay admits nobody");
    connection.close(code(reason), reason.as_str().as_bytes());
}

async fn read(
    room: &Arc<Room>,
    member: &Arc<Member>,
    connection: &Connection,
    reader: FrameReader,
    receive: RecvStream,
    streams: &mut JoinSet<CloseReason>,
) -> CloseReason {
    let channels = Channels::default();
    let first = first_stream(room, member, reader, receive);
    let datagrams = datagrams(room, member, connection);
    tokio::pin!(first, datagrams);
    loop {
        tokio::select! {
            reason = &mut first => return reason,
            reason = &mut datagrams => return reason,
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let (room, member) = (Arc::clone(room), Arc::clone(member));
                    let channels = Arc::clone(&channels);
                    streams.spawn(async move { channel_stream(&room, &member, stream, &channels).await });
                }
                Err(_) => return CloseReason::ConnectionLost,
            },
            Some(ended) = streams.join_next() => match ended {
                // A player may finish a stream at any time, and goes on without the channel.
                Ok(CloseReason::Left) => {}
                Ok(reason) => return reason,
                Err(_) => return CloseReason::ProtocolError,
            },
        }
    }
}

/// The stream of channel 0 and of frames for the relay itself.
async fn first_stream(
    room: &Room,
    member: &Arc<Member>,
    mut reader: FrameReader,
    mut stream: RecvStream,
) -> CloseReason {
    loop {
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return CloseReason::ProtocolError,
            };
            match Frame::parse(frame) {
                Ok(Frame::Data(data)) if data.channel == 0 => pass_on(room, member, &data).await,
                Ok(Frame::Control(Control::Leave)) => return CloseReason::Left,
                Ok(Frame::Control(Control::Kick(peer))) if member.is_host() => room.kick(peer),
                Ok(Frame::Control(Control::Accept(accepts))) if member.is_host() => {
                    room.set_accepting(accepts);
                }
                Ok(_) | Err(_) => return CloseReason::ProtocolError,
            }
        }
        match stream.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => reader.push(&piece.bytes),
            Ok(None) => return CloseReason::Left,
            Err(_) => return CloseReason::ConnectionLost,
        }
    }
}

/// The stream of another channel.
async fn channel_stream(
    room: &Room,
    member: &Arc<Member>,
    mut stream: RecvStream,
    channels: &Channels,
) -> CloseReason {
    let mut reader = FrameReader::new(MAX_FRAME);
    let mut own = None;
    loop {
        loop {
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return CloseReason::ProtocolError,
            };
            let Ok(Frame::Data(data)) = Frame::parse(frame) else { return CloseReason::ProtocolError };
            // A second stream of a channel would break its order.
            let is_new = || channels.lock().unwrap_or_else(PoisonError::into_inner).insert(data.channel);
            if own.is_some_and(|own| own != data.channel) || data.channel == 0 || (own.is_none() && !is_new())
            {
                return CloseReason::ProtocolError;
            }
            own = Some(data.channel);
            pass_on(room, member, &data).await;
        }
        match stream.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => reader.push(&piece.bytes),
            Ok(None) => return CloseReason::Left,
            Err(_) => return CloseReason::ConnectionLost,
        }
    }
}

async fn datagrams(room: &Room, member: &Arc<Member>, connection: &Connection) -> CloseReason {
    loop {
        let Ok(datagram) = connection.read_datagram().await else { return CloseReason::ConnectionLost };
        match Frame::parse(&datagram) {
            Ok(Frame::Data(data)) if data.delivery != Delivery::Reliable => {
                pass_on(room, member, &data).await;
            }
            _ => return CloseReason::ProtocolError,
        }
    }
}

/// Passes a message on if the player's and the room's budgets have it. One that has to arrive waits for them, and with it
/// whatever the player sends on the same channel.
async fn pass_on(room: &Room, member: &Arc<Member>, data: &Data<'_>) {
    let (now, length) = (Instant::now(), data.encoded_len());
    let receivers = room.receivers(member, data.peer);
    let fan_out = (receivers.len(), receivers.len() * length);
    if data.delivery == Delivery::Reliable {
        let wait = member.budget.take(1, length, now).max(room.budget.take(fan_out.0, fan_out.1, now));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    } else if !member.budget.try_take(1, length, now) || !room.budget.try_take(fan_out.0, fan_out.1, now) {
        room.traffic.dropped(receivers.len());
        return;
    }
    room::forward(&room.traffic, member, &receivers, data);
}
