//! One frame: a message of the game with its head, or something between player and relay.

use super::{MAX_CHANNELS, MAX_MESSAGE};

/// Bytes before the payload of a message without a sequence number.
pub const DATA_HEADER: usize = 6;
/// The sequence number of an ordered message.
const SEQUENCE: usize = 2;

const JOIN: u8 = 0x10;
const KICK: u8 = 0x11;
const LEAVE: u8 = 0x12;
const ACCEPT: u8 = 0x13;
const WELCOME: u8 = 0x20;
const JOINED: u8 = 0x21;
const LEFT: u8 = 0x22;
const ENDED: u8 = 0x23;

/// How a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Arrives, in the order of its channel.
    Reliable,
    /// Arrives or not, in any order.
    Unreliable,
    /// Arrives or not; what is older than one that has arrived is dropped by the receiver. With its sequence number, which each
    /// sender counts for each channel.
    Ordered(u16),
}

impl Delivery {
    const fn kind(self) -> u8 {
        match self {
            Self::Reliable => 0,
            Self::Unreliable => 1,
            Self::Ordered(_) => 2,
        }
    }
}

/// A message of the game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// How it is delivered.
    pub delivery: Delivery,
    /// Below [`MAX_CHANNELS`].
    pub channel: u8,
    /// To the relay: for whom it is, 0 for all others, negative for all others but that one. From the relay: who sent it.
    pub peer: i32,
    /// At most [`MAX_MESSAGE`] bytes.
    pub payload: &'a [u8],
}

/// Something between a player and the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// To the relay, first of all: the ticket for a room.
    Join {
        /// The version that the player speaks.
        version: u8,
        /// Id of the room.
        room_id: &'a str,
        /// The join ticket.
        ticket: &'a str,
    },
    /// To the relay, from the host alone: removes a player.
    Kick(u32),
    /// To the relay: all that the player sends has been sent.
    Leave,
    /// To the relay, from the host alone: whether players are let in.
    Accept(bool),
    /// From the relay, first of all.
    Welcome {
        /// The version that the relay speaks.
        version: u8,
        /// The player's own number.
        peer: u32,
    },
    /// From the relay: somebody is in the room. After `welcome`, once for each who was there before.
    Joined {
        /// Their number.
        peer: u32,
        /// Their id at the backend.
        player_id: &'a str,
        /// Their name.
        display_name: &'a str,
    },
    /// From the relay: somebody is gone.
    Left {
        /// Their number.
        peer: u32,
        /// A [`super::CloseReason`].
        reason: u8,
    },
    /// From the relay, the last: why the connection is closed.
    Ended {
        /// A [`super::CloseReason`].
        reason: u8,
    },
}

/// A frame without its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Of the game.
    Data(Data<'a>),
    /// Between player and relay.
    Control(Control<'a>),
}

/// Bytes that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// It ends too early, or goes on after its end.
    Length,
    /// There is no such kind.
    UnknownKind,
    /// The channel is not below [`MAX_CHANNELS`].
    Channel,
    /// More than [`MAX_MESSAGE`] bytes, or than a frame may have here.
    TooLong,
    /// Text that is not UTF-8.
    Text,
    /// A number that is none of a player.
    Peer,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Length => "a frame that is too short or too long for its kind",
            Self::UnknownKind => "a frame of an unknown kind",
            Self::Channel => "a channel that does not exist",
            Self::TooLong => "a frame longer than it may be",
            Self::Text => "text that is not UTF-8",
            Self::Peer => "a number that no player has",
        })
    }
}

impl std::error::Error for FrameError {}

impl<'a> Frame<'a> {
    /// Reads a frame.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (kind, body) = bytes.split_first().ok_or(FrameError::Length)?;
        match *kind {
            0..=2 => Data::parse(*kind, body).map(Frame::Data),
            kind => Control::parse(kind, body).map(Frame::Control),
        }
    }
}

impl<'a> Data<'a> {
    fn parse(kind: u8, body: &'a [u8]) -> Result<Self, FrameError> {
        let (channel, body) = body.split_first().ok_or(FrameError::Length)?;
        let (peer, body) = body.split_first_chunk().ok_or(FrameError::Length)?;
        let (delivery, payload) = match kind {
            0 => (Delivery::Reliable, body),
            1 => (Delivery::Unreliable, body),
            _ => {
                let (sequence, payload) = body.split_first_chunk().ok_or(FrameError::Length)?;
                (Delivery::Ordered(u16::from_be_bytes(*sequence)), payload)
            }
        };
        if *channel >= MAX_CHANNELS {
            return Err(FrameError::Channel);
        }
        if payload.len() > MAX_MESSAGE {
            return Err(FrameError::TooLong);
        }
        let peer = i32::from_be_bytes(*peer);
        // Has no positive counterpart.
        if peer == i32::MIN {
            return Err(FrameError::Peer);
        }
        Ok(Self { delivery, channel: *channel, peer, payload })
    }

    /// Bytes of the frame.
    pub const fn encoded_len(&self) -> usize {
        let head = match self.delivery {
            Delivery::Ordered(_) => DATA_HEADER + SEQUENCE,
            _ => DATA_HEADER,
        };
        head + self.payload.len()
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.push(self.delivery.kind());
        out.push(self.channel);
        out.extend_from_slice(&self.peer.to_be_bytes());
        if let Delivery::Ordered(sequence) = self.delivery {
            out.extend_from_slice(&sequence.to_be_bytes());
        }
        out.extend_from_slice(self.payload);
    }

    /// The frame for a stream: behind its length.
    pub fn with_length(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.encoded_len());
        out.extend_from_slice(&u32::try_from(self.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
        self.write(&mut out);
        out
    }
}

impl<'a> Control<'a> {
    fn parse(kind: u8, body: &'a [u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(body);
        let control = match kind {
            JOIN => {
                let (version, room_id) = (fields.byte()?, fields.short_text()?);
                let ticket = std::str::from_utf8(fields.0).map_err(|_| FrameError::Text)?;
                fields.0 = &[];
                Self::Join { version, room_id, ticket }
            }
            KICK => Self::Kick(fields.peer()?),
            LEAVE => Self::Leave,
            ACCEPT => match fields.byte()? {
                0 => Self::Accept(false),
                1 => Self::Accept(true),
                _ => return Err(FrameError::Length),
            },
            WELCOME => Self::Welcome { version: fields.byte()?, peer: fields.peer()? },
            JOINED => Self::Joined {
                peer: fields.peer()?,
                player_id: fields.short_text()?,
                display_name: fields.short_text()?,
            },
            LEFT => Self::Left { peer: fields.peer()?, reason: fields.byte()? },
            ENDED => Self::Ended { reason: fields.byte()? },
            _ => return Err(FrameError::UnknownKind),
        };
        if fields.0.is_empty() { Ok(control) } else { Err(FrameError::Length) }
    }

    /// The frame for a stream: behind its length. Ids and names are cut at 255 bytes, which none of the backend's have.
    pub fn with_length(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        match *self {
            Self::Join { version, room_id, ticket } => {
                out.extend_from_slice(&[JOIN, version]);
                push_short_text(&mut out, room_id);
                out.extend_from_slice(ticket.as_bytes());
            }
            Self::Kick(peer) => {
                out.push(KICK);
                out.extend_from_slice(&peer.to_be_bytes());
            }
            Self::Leave => out.push(LEAVE),
            Self::Accept(accepts) => out.extend_from_slice(&[ACCEPT, accepts.into()]),
            Self::Welcome { version, peer } => {
                out.extend_from_slice(&[WELCOME, version]);
                out.extend_from_slice(&peer.to_be_bytes());
            }
            Self::Joined { peer, player_id, display_name } => {
                out.push(JOINED);
                out.extend_from_slice(&peer.to_be_bytes());
                push_short_text(&mut out, player_id);
                push_short_text(&mut out, display_name);
            }
            Self::Left { peer, reason } => {
                out.push(LEFT);
                out.extend_from_slice(&peer.to_be_bytes());
                out.push(reason);
            }
            Self::Ended { reason } => out.extend_from_slice(&[ENDED, reason]),
        }
        let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }
}

fn push_short_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(u8::MAX.into())];
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// What is left of a frame's body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> Result<u8, FrameError> {
        let (byte, rest) = self.0.split_first().ok_or(FrameError::Length)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A number that a player can have.
    fn peer(&mut self) -> Result<u32, FrameError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(FrameError::Length)?;
        self.0 = rest;
        let peer = u32::from_be_bytes(*bytes);
        if peer == 0 || i32::try_from(peer).is_err() { Err(FrameError::Peer) } else { Ok(peer) }
    }

    fn short_text(&mut self) -> Result<&'a str, FrameError> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(FrameError::Length)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| FrameError::Text)
    }
}

#[cfg(test)]
mod tests;
