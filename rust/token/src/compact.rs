//! The shape of a token: the compact serialisation of RFC 7515 §3.1, and the header in it.

use std::borrow::Cow;

use backend_protocol::limits::MAX_TOKEN;
use backend_protocol::validation::{ACCESS_TOKEN_TYPE, JOIN_TICKET_TYPE};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Rejection;
use super::algorithm::Algorithm;
use super::json::{self, Plain};
use super::keys::is_key_name;

/// A token taken apart. Nothing in it is trusted yet.
pub struct Compact<'a> {
    pub header: Header,
    /// What the signature covers: the first two parts as they came.
    pub signed: &'a str,
    /// The three parts decoded, one behind the other: tokens are judged often enough to count allocations.
    decoded: Vec<u8>,
    payload_at: usize,
    signature_at: usize,
}

/// The header members there may be. None of them chooses a key or an algorithm: they are compared.
pub struct Header {
    /// `None`: not one of ours.
    pub alg: Option<Algorithm>,
    pub kid: String,
    pub typ: Option<Cow<'static, str>>,
}

impl<'a> Compact<'a> {
    /// Takes `token` apart if it has exactly the shape and the header of one.
    pub fn of(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN {
            return Err(Rejection::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        if header.is_empty() || signature.is_empty() {
            return Err(Rejection::Malformed);
        }
        // Longer than what comes out of it.
        let mut decoded = vec![0; token.len()];
        let mut end = 0;
        // The decoder refuses what is not of its alphabet, a third dot too, padding, and unused bits that are not zero, so
        // that one token has one spelling.
        let mut decode = |part: &str| {
            let length = URL_SAFE_NO_PAD.decode_slice(part, decoded.get_mut(end..).unwrap_or_default());
            end += length.map_err(|_| Rejection::Malformed)?;
            Ok(end)
        };
        let (payload_at, signature_at) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        decoded.truncate(end);
        let header = Header::of(decoded.get(..payload_at).unwrap_or_default())?;
        Ok(Self { header, signed, decoded, payload_at, signature_at })
    }

    /// The second part.
    pub fn payload(&self) -> &[u8] {
        self.decoded.get(self.payload_at..self.signature_at).unwrap_or_default()
    }

    /// The third part.
    pub fn signature(&self) -> &[u8] {
        self.decoded.get(self.signature_at..).unwrap_or_default()
    }
}

impl Header {
    fn of(bytes: &[u8]) -> Result<Self, Rejection> {
        let ([alg, kid, typ], others) =
            json::members(bytes, ["alg", "kid", "typ"]).ok_or(Rejection::BadHeader)?;
        // An allow-list: `crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, `x5t`, `zip`, `enc` and whatever comes next are
        // refused, understood or not.
        if others {
            return Err(Rejection::ForbiddenHeader);
        }
        let (Some(Plain::Text(alg)), Some(Plain::Text(kid))) = (alg, kid) else {
            return Err(Rejection::BadHeader);
        };
        // An optional member may be absent, but not null.
        let typ = match typ {
            None => None,
            Some(Plain::Text(typ)) => Some(known_type(typ)),
            Some(_) => return Err(Rejection::BadHeader),
        };
        if !is_key_name(&kid) {
            return Err(Rejection::UnknownKey);
        }
        Ok(Self { alg: Algorithm::named(&alg), kid: kid.into_owned(), typ })
    }
}

/// The same text, without an allocation for the two that are meant to come.
fn known_type(typ: Cow<'_, str>) -> Cow<'static, str> {
    match [ACCESS_TOKEN_TYPE, JOIN_TICKET_TYPE].into_iter().find(|known| *known == typ) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(typ.into_owned()),
    }
}
