//! The packets that game client and game server exchange while a peer is authenticated.
//!
//! `"BKA1"`, one byte for the kind, then: the client's token (kind 1), nothing (2, accepted), or a JSON object with
//! `code` and `message` (3, refused).

use backend_protocol::limits::MAX_TOKEN;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 4] = b"BKA1";
const HEADER: usize = MAGIC.len() + 1;
const CREDENTIAL: u8 = 1;
const ACCEPTED: u8 = 2;
const REFUSED: u8 = 3;
/// Longest packet looked at, in bytes.
pub const MAX_PACKET: usize = HEADER + MAX_TOKEN;
/// Longest reason shown, in characters.
const MAX_MESSAGE: usize = 500;

/// One message of the handshake.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Packet {
    /// Client to server: access token or join ticket.
    Credential(String),
    /// Server to client: the peer is verified.
    Accepted,
    /// Server to client: the peer is not let in, or no longer.
    Refused(Reason),
}

/// Why a peer is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}

/// The packet is not of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl Packet {
    /// The packet's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Credential(token) => (CREDENTIAL, token.clone().into_bytes()),
            Self::Accepted => (ACCEPTED, Vec::new()),
            // Two strings always serialise.
            Self::Refused(reason) => (REFUSED, serde_json::to_vec(reason).unwrap_or_default()),
        };
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(kind);
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a packet. Tokens must be printable ASCII; a reason is cleaned and shortened.
    ///
    /// # Errors
    /// The bytes are too long or not of this protocol.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_PACKET {
            return Err(Malformed);
        }
        let (kind, body) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first).ok_or(Malformed)?;
        match *kind {
            // A token is printable ASCII; anything else would only confuse logs.
            CREDENTIAL if !body.is_empty() && body.iter().all(u8::is_ascii_graphic) => {
                String::from_utf8(body.to_vec()).map(Self::Credential).map_err(|_| Malformed)
            }
            ACCEPTED if body.is_empty() => Ok(Self::Accepted),
            REFUSED => serde_json::from_slice::<Reason>(body)
                .map(Reason::sanitized)
                .map(Self::Refused)
                .map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }
}

impl Reason {
    /// A reason with a stable `code` and a `message` for a person.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// The other end may be hostile: a code is a word, a message is one line of bounded length.
    fn sanitized(self) -> Self {
        let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        Self {
            code: self.code.chars().filter(word).take(64).collect(),
            message: self.message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
