//! A place in a room that a player hosts, through the backend's relay: messages over QUIC, queues that are bounded.

mod certificate;
mod connection;
mod hosting;
mod inbox;
mod outbox;

use backend_protocol::relay::CloseReason;
use tokio_util::bytes::Bytes;

pub use connection::RelayConnection;
pub use hosting::host_room;
pub use outbox::SendError;

/// How a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferMode {
    /// Arrives, in the order of its channel.
    Reliable,
    /// Arrives or not, in any order.
    Unreliable,
    /// Arrives or not, and none that is older than one that has arrived.
    UnreliableOrdered,
}

/// A message of another player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who has sent it.
    pub peer: u32,
    /// Its channel.
    pub channel: u8,
    /// How it was sent.
    pub mode: TransferMode,
    /// What was sent.
    pub payload: Bytes,
}

/// Somebody in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Their number, 1 for the host.
    pub peer: u32,
    /// Their id at the backend, which the relay has verified.
    pub player_id: String,
    /// Their name.
    pub display_name: String,
}

/// What has happened in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody is there. Comes before all of their messages.
    Joined(Peer),
    /// Somebody is gone. No message of theirs comes any more.
    Left(u32, CloseReason),
    /// A message.
    Message(Message),
    /// The connection is over; the last event.
    Closed(CloseReason),
}
