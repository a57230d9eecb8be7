//! What has arrived and was not taken yet.
//!
//! What has to arrive keeps its order, and is waited for: while much of it lies here nothing more is read, and the relay notices. Of the
//! rest, the oldest is dropped.

use std::collections::{HashMap, HashSet, VecDeque};

use backend_protocol::relay::CloseReason;

use super::{Event, Message, Peer, TransferMode};

/// Bytes of messages that have to arrive, beyond which nothing more is read.
const MAX_RELIABLE_BYTES: usize = 4 * 1024 * 1024;
/// As many of the others.
const MAX_UNRELIABLE_BYTES: usize = 1024 * 1024;
const MAX_UNRELIABLE: usize = 8_192;

/// Events in the order in which they are to be taken.
#[derive(Default)]
pub struct Inbox {
    events: VecDeque<Event>,
    reliable_bytes: usize,
    unreliable: VecDeque<Message>,
    unreliable_bytes: usize,
    /// Whose joining is among the events, or was taken.
    announced: HashSet<u32>,
    /// Whose joining was taken, and leaving was not.
    taken: HashSet<u32>,
    /// Messages of channels that were faster than the news that their sender has joined.
    early: HashMap<u32, Vec<Message>>,
    early_bytes: usize,
    /// The last number of each sender and channel.
    last_sequence: HashMap<(u32, u8), u16>,
    /// Numbers are not given twice: what still comes of these is late.
    gone: HashSet<u32>,
    is_closed: bool,
}

impl Inbox {
    /// Somebody has joined.
    pub fn joined(&mut self, peer: Peer) {
        let number = peer.peer;
        if self.is_closed || !self.announced.insert(number) {
            return;
        }
        self.events.push_back(Event::Joined(peer));
        for message in self.early.remove(&number).into_iter().flatten() {
            self.early_bytes -= message.payload.len();
            self.reliable_bytes += message.payload.len();
            self.events.push_back(Event::Message(message));
        }
    }

    /// Somebody has left.
    pub fn left(&mut self, peer: u32, reason: CloseReason) {
        for message in self.early.remove(&peer).into_iter().flatten() {
            self.early_bytes -= message.payload.len();
        }
        self.gone.insert(peer);
        if !self.is_closed && self.announced.remove(&peer) {
            self.last_sequence.retain(|(sender, _), _| *sender != peer);
            self.events.push_back(Event::Left(peer, reason));
        }
    }

    /// A message has arrived; `sequence` of an ordered one.
    pub fn message(&mut self, message: Message, sequence: Option<u16>) {
        if self.is_closed || self.gone.contains(&message.peer) {
            return;
        }
        let length = message.payload.len();
        if message.mode == TransferMode::Reliable {
            if self.announced.contains(&message.peer) {
                self.reliable_bytes += length;
                self.events.push_back(Event::Message(message));
            } else {
                self.early_bytes += length;
                self.early.entry(message.peer).or_default().push(message);
            }
            return;
        }
        if sequence.is_some_and(|sequence| !self.is_newer(message.peer, message.channel, sequence)) {
            return;
        }
        self.unreliable_bytes += length;
        self.unreliable.push_back(message);
        while self.unreliable.len() > MAX_UNRELIABLE || self.unreliable_bytes > MAX_UNRELIABLE_BYTES {
            self.next_unreliable();
        }
    }

    /// The connection is over.
    pub fn closed(&mut self, reason: CloseReason) {
        if !self.is_closed {
            self.is_closed = true;
            self.events.push_back(Event::Closed(reason));
        }
    }

    /// Whether so much has arrived that reading has to wait.
    pub fn is_full(&self) -> bool {
        self.reliable_bytes + self.early_bytes > MAX_RELIABLE_BYTES
    }

    /// The same for the stream that brings the news of who has joined, for which the others wait.
    pub fn is_full_of_events(&self) -> bool {
        self.reliable_bytes > MAX_RELIABLE_BYTES
    }

    /// The next event.
    pub fn next(&mut self) -> Option<Event> {
        let is_over = matches!(self.events.front(), Some(Event::Closed(_)));
        // After what its sender has announced, and before the end.
        if (self.events.is_empty() || is_over)
            && let Some(message) = self.next_deliverable()
        {
            return Some(Event::Message(message));
        }
        let event = self.events.pop_front()?;
        match &event {
            Event::Joined(peer) => {
                self.taken.insert(peer.peer);
            }
            Event::Left(peer, _) => {
                self.taken.remove(peer);
            }
            Event::Message(message) => self.reliable_bytes -= message.payload.len(),
            Event::Closed(_) => {}
        }
        Some(event)
    }

    /// The next message that need not have arrived.
    pub fn next_deliverable(&mut self) -> Option<Message> {
        loop {
            let message = self.next_unreliable()?;
            if self.taken.contains(&message.peer) {
                return Some(message);
            }
        }
    }

    fn next_unreliable(&mut self) -> Option<Message> {
        let message = self.unreliable.pop_front()?;
        self.unreliable_bytes -= message.payload.len();
        Some(message)
    }

    fn is_newer(&mut self, peer: u32, channel: u8, sequence: u16) -> bool {
        let last = self.last_sequence.entry((peer, channel)).or_insert(sequence.wrapping_sub(1));
        // Half of all numbers are ahead (RFC 1982).
        let is_newer = (1..0x8000).contains(&sequence.wrapping_sub(*last));
        if is_newer {
            *last = sequence;
        }
        is_newer
    }
}

#[cfg(test)]
mod tests;
