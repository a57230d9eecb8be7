//! The strict reader of a token: the compact serialisation of RFC 7515 §3.1, and the header in it.
//!
//! The library's reader takes header members that it does not know, and duplicate members of the payload.

use std::borrow::Cow;

use backend_protocol::limits::MAX_TOKEN;
use backend_protocol::validation::{ACCESS_TOKEN_TYPE, JOIN_TICKET_TYPE};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Rejection;
use super::algorithm::Algorithm;
use super::json::{self, MemberValue};
use super::keys::is_key_id;

/// The parts of a token. Nothing in it is trusted yet.
pub struct Compact<'a> {
    pub header: Header,
    /// What the signature covers: the first two parts as they were received.
    pub message: &'a str,
    /// The third part, in base64url, which is canonical: the library decodes it.
    pub signature: &'a str,
    /// The three parts decoded, one after the other: tokens are verified so often that allocations count.
    decoded: Vec<u8>,
    payload_at: usize,
    signature_at: usize,
}

/// The accepted members of a header. None of them chooses a key or an algorithm: they are compared.
pub struct Header {
    /// `None`: not an accepted algorithm.
    pub alg: Option<Algorithm>,
    pub kid: String,
    pub typ: Option<Cow<'static, str>>,
}

impl<'a> Compact<'a> {
    /// Reads `token`, if it has exactly the shape and the header of a token.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN {
            return Err(Rejection::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Rejection::Malformed)?;
        if header.is_empty() || signature.is_empty() {
            return Err(Rejection::Malformed);
        }
        // Longer than the decoded parts.
        let mut decoded = vec![0; token.len()];
        let mut end = 0;
        // The decoder rejects characters outside of its alphabet, such as a third dot, padding, and unused bits that are not
        // zero, so that one token has one spelling.
        let mut decode = |part: &str| {
            let length = URL_SAFE_NO_PAD.decode_slice(part, decoded.get_mut(end..).unwrap_or_default());
            end += length.map_err(|_| Rejection::Malformed)?;
            Ok(end)
        };
        let (payload_at, signature_at) = (decode(header)?, decode(payload)?);
        decode(signature)?;
        decoded.truncate(end);
        let header = Header::parse(decoded.get(..payload_at).unwrap_or_default())?;
        Ok(Self { header, message, signature, decoded, payload_at, signature_at })
    }

    /// The second part, decoded.
    pub fn payload(&self) -> &[u8] {
        self.decoded.get(self.payload_at..self.signature_at).unwrap_or_default()
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Rejection> {
        let ([alg, kid, typ], others) =
            json::members(bytes, ["alg", "kid", "typ"]).ok_or(Rejection::BadHeader)?;
        // An allow-list: `crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, `x5t`, `zip`, `enc` and whatever comes next are
        // rejected, understood or not.
        if others {
            return Err(Rejection::ForbiddenHeader);
        }
        let (Some(MemberValue::String(alg)), Some(MemberValue::String(kid))) = (alg, kid) else {
            return Err(Rejection::BadHeader);
        };
        // An optional member may be absent, but not null.
        let typ = match typ {
            None => None,
            Some(MemberValue::String(typ)) => Some(known_type(typ)),
            Some(_) => return Err(Rejection::BadHeader),
        };
        if !is_key_id(&kid) {
            return Err(Rejection::UnknownKey);
        }
        Ok(Self { alg: Algorithm::from_name(&alg), kid: kid.into_owned(), typ })
    }
}

/// The same text, without an allocation for the two types of our tokens.
fn known_type(typ: Cow<'_, str>) -> Cow<'static, str> {
    match [ACCESS_TOKEN_TYPE, JOIN_TICKET_TYPE].into_iter().find(|known| *known == typ) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(typ.into_owned()),
    }
}
