//! The shape of a token: the compact serialisation of RFC 7515 §3.1, and the header in it.

use backend_protocol::limits::MAX_TOKEN;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::Rejection;
use super::json;
use super::keys::is_key_name;

/// A token taken apart. Nothing in it is trusted yet.
pub struct Compact<'a> {
    pub header: Header,
    /// What the signature covers: the first two parts as they came.
    pub signed: &'a str,
    pub payload: Vec<u8>,
    pub signature: Vec<u8>,
}

/// The header members there may be. None of them chooses a key or an algorithm: they are compared.
#[derive(Deserialize)]
pub struct Header {
    pub alg: String,
    pub kid: String,
    #[serde(default)]
    pub typ: Option<String>,
}

impl<'a> Compact<'a> {
    /// Takes `token` apart if it has exactly the shape and the header of one.
    pub fn of(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN {
            return Err(Rejection::TooLong);
        }
        if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(Rejection::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
        if payload.contains('.') || header.is_empty() || signature.is_empty() {
            return Err(Rejection::Malformed);
        }
        // The decoder also refuses padding and unused bits that are not zero, so that one token has one spelling.
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejection::Malformed);
        let header = Header::of(&decode(header)?)?;
        Ok(Self { header, signed, payload: decode(payload)?, signature: decode(signature)? })
    }
}

impl Header {
    fn of(bytes: &[u8]) -> Result<Self, Rejection> {
        let members = json::object(bytes).ok_or(Rejection::BadHeader)?;
        // An allow-list: `crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, `x5t`, `zip`, `enc` and whatever comes next are
        // refused, understood or not.
        if members.keys().any(|name| !matches!(name.as_str(), "alg" | "typ" | "kid")) {
            return Err(Rejection::ForbiddenHeader);
        }
        // An optional member may be absent, but not null.
        if members.get("typ").is_some_and(Value::is_null) {
            return Err(Rejection::BadHeader);
        }
        let header: Self =
            serde_json::from_value(Value::Object(members)).map_err(|_| Rejection::BadHeader)?;
        if is_key_name(&header.kid) { Ok(header) } else { Err(Rejection::UnknownKey) }
    }
}
