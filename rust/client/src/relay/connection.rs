//! The connection to a relay.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_protocol::relay::{
    CloseReason, Control, Delivery, Frame, FrameReader, MAX_CHANNELS, MAX_FRAME, VERSION,
};
use backend_protocol::rooms::JoinTicket;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, TransportConfig, VarInt};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::bytes::Bytes;

use super::inbox::Inbox;
use super::outbox::{Outbox, SendError};
use super::{Event, Message, Peer, TransferMode, certificate};
use crate::error::{ClientError, Fault};

/// Longest wait until the relay has let the player in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A relay that says nothing for so long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for the relay to have received what was sent before leaving.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are taken from a stream at a time.
const PIECE: usize = 64 * 1024;
const DATAGRAM_SEND_BUFFER: usize = 64 * 1024;

/// A place in a room. Dropped, the connection is closed at once; see [`Self::leave`].
pub struct RelayConnection(Arc<Shared>);

struct Shared {
    peer: u32,
    connection: Connection,
    /// Its socket, as long as the connection.
    endpoint: Endpoint,
    outbox: Outbox,
    inbox: Mutex<Inbox>,
    /// Notified when something was taken.
    space: Notify,
}

impl RelayConnection {
    /// Connects to the relay of the ticket's room and shows it the ticket.
    pub async fn join(ticket: &JoinTicket) -> Result<Self, ClientError> {
        if !ticket.relay {
            return Err(ClientError::field("ticket", "is for a game server, not for a room at a relay"));
        }
        let late = || {
            ClientError::new(Fault::Timeout, "the relay did not answer in time; is its UDP port reachable?")
        };
        tokio::time::timeout(JOIN_TIMEOUT, connect(ticket)).await.map_err(|_| late())?
    }

    /// The player's own number in the room, 1 for the host.
    pub fn peer(&self) -> u32 {
        self.0.peer
    }

    /// Sends a message to `target`: another player's number, 0 for all others, or the negative number of one who does not receive it.
    pub fn send(
        &self,
        mode: TransferMode,
        channel: u8,
        target: i32,
        payload: &[u8],
    ) -> Result<(), SendError> {
        self.0.outbox.send(mode, channel, target, payload)
    }

    /// Takes up to `most` events in their order, those of messages that need not arrive last.
    pub fn take(&self, most: usize) -> Vec<Event> {
        let events: Vec<_> = {
            let mut inbox = self.0.inbox();
            let mut events: Vec<_> = std::iter::from_fn(|| inbox.next()).take(most).collect();
            if events.len() == most {
                // Those that have to arrive leave the others some room.
                let others = std::iter::from_fn(|| inbox.next_deliverable()).take(most / 4);
                events.extend(others.map(Event::Message));
            }
            events
        };
        if !events.is_empty() {
            self.0.space.notify_waiters();
        }
        events
    }

    /// Removes a player. The host only.
    pub fn kick(&self, peer: u32) {
        self.0.outbox.send_control(&Control::Kick(peer));
    }

    /// Whether the room takes more players. The host only.
    pub fn set_accepting(&self, accepts: bool) {
        self.0.outbox.send_control(&Control::Accept(accepts));
    }

    /// Sends what waits and leaves the room. Ends when the relay has received it, or after two seconds.
    pub async fn leave(self) {
        if self.0.outbox.finish() {
            let _in_time = tokio::time::timeout(LEAVE_TIMEOUT, self.0.connection.closed()).await;
        }
        self.0.close(CloseReason::Left);
        let _in_time = tokio::time::timeout(LEAVE_TIMEOUT, self.0.endpoint.wait_idle()).await;
    }
}

impl Drop for RelayConnection {
    fn drop(&mut self) {
        self.0.close(CloseReason::Left);
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, reason: CloseReason) {
        self.connection.close(u32::from(reason.number()).into(), reason.as_str().as_bytes());
    }

    /// Waits while so much was not taken that nothing more should be read.
    async fn has_space(&self, is_full: impl Fn(&Inbox) -> bool) {
        loop {
            let taken = self.space.notified();
            tokio::pin!(taken);
            // From now on, so that none is missed.
            taken.as_mut().enable();
            if !is_full(&self.inbox()) {
                return;
            }
            taken.await;
        }
    }

    fn received(&self, payload: Bytes, peer: i32, channel: u8, delivery: Delivery) {
        let Ok(peer @ 1..) = u32::try_from(peer) else { return };
        let (mode, sequence) = match delivery {
            Delivery::Reliable => (TransferMode::Reliable, None),
            Delivery::Unreliable => (TransferMode::Unreliable, None),
            Delivery::Ordered(sequence) => (TransferMode::UnreliableOrdered, Some(sequence)),
        };
        self.inbox().message(Message { peer, channel, mode, payload }, sequence);
    }
}

async fn connect(ticket: &JoinTicket) -> Result<RelayConnection, ClientError> {
    let room = &ticket.room;
    let pem = ticket.certificate.as_deref().unwrap_or_default();
    let mut config = ClientConfig::new(Arc::new(certificate::pinned(pem)?));
    config.transport_config(Arc::new(transport()));
    let away = |error: String| {
        ClientError::new(Fault::Network, format!("the relay {}:{}: {error}", room.address, room.port))
    };
    let addresses = tokio::net::lookup_host((room.address.as_str(), room.port))
        .await
        .map_err(|error| away(error.to_string()))?;
    let mut last = away("its name has no address".to_owned());
    for address in addresses {
        let local = if address.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let endpoint = Endpoint::client(local).map_err(|error| away(error.to_string()))?;
        let connecting = endpoint
            .connect_with(config.clone(), address, &room.address)
            .map_err(|error| away(error.to_string()))?;
        match connecting.await {
            Ok(connection) => return enter(endpoint, connection, ticket).await,
            Err(error) => last = away(error.to_string()),
        }
    }
    Err(last)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(u32::from(MAX_CHANNELS) - 1))
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        // Routers forget an address that is silent for half a minute or so.
        .keep_alive_interval(Some(IDLE_TIMEOUT / 3))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER);
    transport
}

/// Shows the ticket and waits to be let in.
async fn enter(
    endpoint: Endpoint,
    connection: Connection,
    ticket: &JoinTicket,
) -> Result<RelayConnection, ClientError> {
    let refused = |error: &ConnectionError| refusal(close_reason(error));
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| refused(&error))?;
    let join = Control::Join { version: VERSION, room_id: &ticket.room.room_id, ticket: &ticket.ticket };
    // A relay that refuses says why when it closes.
    let _sent = send.write_all(&join.with_length()).await;
    let mut reader = FrameReader::new(MAX_FRAME);
    let peer = loop {
        match receive.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => reader.push(&piece.bytes),
            Ok(None) | Err(_) => return Err(refused(&connection.closed().await)),
        }
        let frame = reader.next_frame().map_err(|_| refusal(CloseReason::ProtocolError))?;
        match frame.map(Frame::parse) {
            None => {}
            Some(Ok(Frame::Control(Control::Welcome { version: VERSION, peer }))) => break peer,
            Some(_) => return Err(refusal(CloseReason::ProtocolError)),
        }
    };
    let shared = Arc::new(Shared {
        peer,
        outbox: Outbox::new(connection.clone(), send),
        connection,
        endpoint,
        inbox: Mutex::default(),
        space: Notify::new(),
    });
    tokio::spawn(read(Arc::clone(&shared), reader, receive));
    Ok(RelayConnection(shared))
}

fn refusal(reason: CloseReason) -> ClientError {
    let (fault, text) = match reason {
        CloseReason::ConnectionLost => (Fault::Network, "the relay broke the connection off"),
        CloseReason::ProtocolError => (Fault::BadReply, "the relay does not speak this protocol"),
        CloseReason::UnsupportedVersion => {
            (Fault::BadReply, "the relay speaks another version of the protocol")
        }
        CloseReason::TicketInvalid => (Fault::RelayRefused, "the ticket has expired or is for another room"),
        CloseReason::TicketUsed => (Fault::RelayRefused, "the ticket was used before; request another one"),
        CloseReason::HostAbsent => (Fault::RelayRefused, "the host has not connected yet; try again"),
        CloseReason::RoomClosed => (Fault::RelayRefused, "the room is full or accepts no players"),
        CloseReason::RelayFull => (Fault::RelayRefused, "the relay takes no more players"),
        CloseReason::Revoked => (Fault::RelayRefused, "the player was banned or the session has ended"),
        CloseReason::JoinedAgain => (Fault::RelayRefused, "the player hosts this room already"),
        _ => (Fault::RelayRefused, "the room is over"),
    };
    ClientError::new(fault, text)
}

fn close_reason(error: &ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => CloseReason::from_number(close.error_code.into_inner()),
        ConnectionError::LocallyClosed => CloseReason::Left,
        _ => CloseReason::ConnectionLost,
    }
}

/// Reads all streams and datagrams until the connection is over.
async fn read(shared: Arc<Shared>, reader: FrameReader, receive: RecvStream) {
    let mut streams = JoinSet::new();
    let first = first_stream(&shared, reader, receive);
    let datagrams = datagrams(&shared);
    tokio::pin!(first, datagrams);
    let mut named = None;
    loop {
        tokio::select! {
            reason = &mut first, if named.is_none() => {
                named = Some(reason);
                break;
            }
            () = &mut datagrams => break,
            stream = shared.connection.accept_uni() => match stream {
                Ok(stream) => {
                    let shared = Arc::clone(&shared);
                    streams.spawn(async move { channel_stream(&shared, stream).await });
                }
                Err(_) => break,
            },
            // A stream that is not of this protocol closes the connection itself.
            Some(_) = streams.join_next() => {}
        }
    }
    if let Some(Some(_)) = named {
        // What was sent on other channels before the end is still on its way.
        let last = async { while streams.join_next().await.is_some() {} };
        let _in_time = tokio::time::timeout(LEAVE_TIMEOUT / 2, last).await;
        shared.close(CloseReason::Left);
    }
    let error = shared.connection.closed().await;
    let reason = named.flatten().unwrap_or_else(|| close_reason(&error));
    shared.inbox().closed(reason);
}

/// The stream of channel 0 and of what the relay itself says. Returns the reason that it names at the end.
async fn first_stream(
    shared: &Shared,
    mut reader: FrameReader,
    mut stream: RecvStream,
) -> Option<CloseReason> {
    loop {
        loop {
            let parsed = match reader.next_frame() {
                Ok(Some(frame)) => Frame::parse(frame),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match parsed {
                Ok(Frame::Data(data)) => {
                    shared.received(
                        Bytes::copy_from_slice(data.payload),
                        data.peer,
                        data.channel,
                        data.delivery,
                    );
                }
                Ok(Frame::Control(Control::Joined { peer, player_id, display_name })) => {
                    let (player_id, display_name) = (player_id.to_owned(), display_name.to_owned());
                    shared.inbox().joined(Peer { peer, player_id, display_name });
                }
                Ok(Frame::Control(Control::Left { peer, reason })) => {
                    shared.inbox().left(peer, CloseReason::from_number(reason.into()));
                }
                Ok(Frame::Control(Control::Ended { reason })) => {
                    return Some(CloseReason::from_number(reason.into()));
                }
                Ok(Frame::Control(_)) | Err(_) => {
                    shared.close(CloseReason::ProtocolError);
                    return None;
                }
            }
        }
        shared.has_space(Inbox::is_full_of_events).await;
        match stream.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => reader.push(&piece.bytes),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The stream of another channel.
async fn channel_stream(shared: &Shared, mut stream: RecvStream) {
    let mut reader = FrameReader::new(MAX_FRAME);
    loop {
        loop {
            let parsed = match reader.next_frame() {
                Ok(Some(frame)) => Frame::parse(frame),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            let Ok(Frame::Data(data)) = parsed else {
                shared.close(CloseReason::ProtocolError);
                return;
            };
            shared.received(Bytes::copy_from_slice(data.payload), data.peer, data.channel, data.delivery);
        }
        shared.has_space(Inbox::is_full).await;
        match stream.read_chunk(PIECE, true).await {
            Ok(Some(piece)) => reader.push(&piece.bytes),
            Ok(None) | Err(_) => return,
        }
    }
}

async fn datagrams(shared: &Shared) {
    while let Ok(datagram) = shared.connection.read_datagram().await {
        let Ok(Frame::Data(data)) = Frame::parse(&datagram) else {
            shared.close(CloseReason::ProtocolError);
            return;
        };
        let payload = datagram.slice(datagram.len() - data.payload.len()..);
        shared.received(payload, data.peer, data.channel, data.delivery);
    }
}
