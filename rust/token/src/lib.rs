//! Players' tokens: how the backend signs them, and the strict verifier of game servers and of the backend (RFC 7515, 7517,
//! 7519 and 8725 with its revision). No choice is left to the token.
//!
//! `jsonwebtoken` signs and verifies. The strict reader in front of it, the checks of the keys and the rules for claims are
//! ours.
//!
//! The checks, in this order, and where they are:
//!
//! | | |
//! |---|---|
//! | length, alphabet, two dots, canonical base64url, members once, no header member but `alg`, `kid`, `typ` | `compact`, `json` |
//! | `typ` is exactly the requested kind | here |
//! | the issuer publishes a key with this `kid`; `alg` is the one algorithm of that key | here |
//! | the key is public, valid and strong enough, and its algorithm one that this issuer may use | `keys`, `rsa` |
//! | the signature | `jsonwebtoken`, with aws-lc-rs |
//! | claims complete and typed; `iss`, `aud`, `exp`, `nbf`, `iat` and the length of life | here |
//!
//! There is no code for `none`, for symmetric keys, for encrypted tokens, or for keys that come with a token.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod algorithm;
mod compact;
mod json;
mod key_rejection;
mod keys;
mod provider;
mod rsa;
mod signing;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

pub use algorithm::Algorithm;
use backend_protocol::FieldError;
use backend_protocol::limits::{self, MAX_TOKEN};
use backend_protocol::unicode;
use backend_protocol::validation::{
    ACCESS_TOKEN_TYPE, Claims, JOIN_TICKET_TYPE, MAX_ACCESS_TOKEN_SECONDS, MAX_JOIN_TICKET_SECONDS, TokenKind,
};
use compact::Compact;
use json::MemberValue;
pub use key_rejection::{KeyRejection, MAX_KID_BYTES};
pub use keys::{KeySet, KeySetRejection, MAX_KEY_SET_BYTES, MAX_KEYS, VerificationKey};
pub use signing::{SigningError, SigningKey};

/// A day before this library was built: clocks of a build machine and of a server need not agree to the second.
const EARLIEST_PLAUSIBLE_NOW: u64 = match u64::from_str_radix(env!("BACKEND_TOKEN_BUILT_AT"), 10) {
    Ok(built_at) => built_at.saturating_sub(24 * 3_600),
    Err(_) => 0,
};

/// How far `iat` and `nbf` may be in the future of this machine's clock.
const MAX_FUTURE_SKEW: Duration = Duration::from_secs(30);

/// The reason for which a token is rejected. It is for the log: the sender learns that the token was rejected, and whether a
/// token that was valid before has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Rejection {
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not three base64url parts")]
    Malformed,
    #[error("the header is not a JSON object with single, well-typed members")]
    BadHeader,
    #[error("a header member that this verifier does not accept")]
    ForbiddenHeader,
    #[error("not the required type of token")]
    WrongType,
    #[error("not the algorithm of the key")]
    WrongAlgorithm,
    #[error("no such key")]
    UnknownKey,
    #[error("the signature does not verify")]
    BadSignature,
    #[error("a claim is missing, duplicate or of the wrong type")]
    BadClaims,
    #[error("another issuer")]
    WrongIssuer,
    #[error("another audience")]
    WrongAudience,
    #[error("expired")]
    Expired,
    #[error("issued in the future")]
    NotYetValid,
    #[error("its lifetime is longer than that of such a token may be")]
    LifetimeTooLong,
    #[error("the wall clock of this machine is not set")]
    ClockNotSet,
}

/// How long after `exp` a token is still accepted, because two machines' clocks differ. 5 s unless chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leeway(Duration);

impl Leeway {
    /// The most that may be chosen, in seconds.
    pub const MAX_SECONDS: u64 = 30;

    /// A leeway of 0 to [`Self::MAX_SECONDS`] seconds.
    pub fn from_seconds(seconds: u64) -> Result<Self, FieldError> {
        if seconds > Self::MAX_SECONDS {
            return Err(FieldError::new("leeway", format!("must be at most {} s", Self::MAX_SECONDS)));
        }
        Ok(Self(Duration::from_secs(seconds)))
    }

    /// In seconds.
    pub const fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl Default for Leeway {
    fn default() -> Self {
        Self(Duration::from_secs(5))
    }
}

/// The requirements for a token. Its issuer must be that of the keys.
#[derive(Debug, Clone)]
pub struct Validation<'a> {
    /// The kind of token.
    pub kind: TokenKind,
    /// `aud`: the name of the verifier.
    pub audience: &'a str,
    /// Seconds since 1970.
    pub now: u64,
    /// The tolerance at `exp`.
    pub leeway: Leeway,
}

/// A token that has the shape and the header of a token, for choosing the keys to verify it with. It is not to be trusted:
/// its sender chose the content. Parsing is part of the verification: [`Self::verify`] does not parse it again.
pub struct Unverified<'a> {
    compact: Compact<'a>,
    kind: TokenKind,
}

impl fmt::Debug for Unverified<'_> {
    // Neither the claims nor the token, with which anybody could log in.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unverified")
            .field("kind", &self.kind)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

impl<'a> Unverified<'a> {
    /// Reads `token`, if it has the shape and the header of a token.
    pub fn parse(token: &'a str) -> Result<Self, Rejection> {
        let compact = Compact::parse(token)?;
        let kind = token_kind(compact.header.typ.as_deref())?;
        Ok(Self { compact, kind })
    }

    /// The kind in its header.
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// The `kid` in its header: 1 to [`MAX_KID_BYTES`] printable ASCII characters.
    pub fn kid(&self) -> &str {
        &self.compact.header.kid
    }

    /// The `iat` in its claims, in seconds since 1970. It is not to be relied on before the token is verified.
    pub fn issued_at(&self) -> Option<u64> {
        match json::members(self.compact.payload(), ["iat"]) {
            Some(([Some(MemberValue::Unsigned(seconds))], _)) => Some(seconds),
            _ => None,
        }
    }

    /// Verifies the token as [`verify`] does.
    pub fn verify(&self, keys: &KeySet, validation: &Validation<'_>) -> Result<Claims, Rejection> {
        if validation.now < EARLIEST_PLAUSIBLE_NOW {
            return Err(Rejection::ClockNotSet);
        }
        // Before the signature: it costs nothing, and these keys are not for tokens of another kind.
        if self.kind != validation.kind {
            return Err(Rejection::WrongType);
        }
        check_signature(&self.compact, keys)?;
        let (claims, not_before) = read_claims(self.compact.payload())?;
        check_claims(&claims, not_before, keys.issuer(), validation)?;
        Ok(claims)
    }
}

fn token_kind(typ: Option<&str>) -> Result<TokenKind, Rejection> {
    match typ {
        Some(ACCESS_TOKEN_TYPE) => Ok(TokenKind::Access),
        Some(JOIN_TICKET_TYPE) => Ok(TokenKind::Join),
        _ => Err(Rejection::WrongType),
    }
}

/// Returns the payload of a signed message (RFC 7515), and its `typ`, if one of `keys` signed it with its one algorithm.
///
/// This is the part below [`verify`], for messages that are not player tokens. The payload is not checked.
pub fn verify_signature(token: &str, keys: &KeySet) -> Result<(Vec<u8>, Option<String>), Rejection> {
    let compact = Compact::parse(token)?;
    check_signature(&compact, keys)?;
    Ok((compact.payload().to_vec(), compact.header.typ.map(Cow::into_owned)))
}

fn check_signature(compact: &Compact<'_>, keys: &KeySet) -> Result<(), Rejection> {
    let key = keys.get(&compact.header.kid).ok_or(Rejection::UnknownKey)?;
    if compact.header.alg != Some(key.algorithm()) {
        return Err(Rejection::WrongAlgorithm);
    }
    if !key.verify(compact.message.as_bytes(), compact.signature) {
        return Err(Rejection::BadSignature);
    }
    Ok(())
}

/// Returns the claims of `token`, if it meets `validation` and was signed by one of `keys`, which verify only their own
/// issuer.
pub fn verify(token: &str, keys: &KeySet, validation: &Validation<'_>) -> Result<Claims, Rejection> {
    Unverified::parse(token)?.verify(keys, validation)
}

/// The claims, which are complete and of their types, and `nbf`, which is optional.
fn read_claims(payload: &[u8]) -> Result<(Claims, Option<u64>), Rejection> {
    let text = |member| match member {
        Some(MemberValue::String(text)) => Ok(text.into_owned()),
        _ => Err(Rejection::BadClaims),
    };
    let number = |member| match member {
        Some(MemberValue::Unsigned(number)) => Ok(number),
        _ => Err(Rejection::BadClaims),
    };
    let names = ["iss", "sub", "aud", "exp", "iat", "jti", "name", "nbf", "sid"];
    let ([iss, sub, aud, exp, iat, jti, name, nbf, sid], _others) =
        json::members(payload, names).ok_or(Rejection::BadClaims)?;
    let not_before = if nbf.is_some() { Some(number(nbf)?) } else { None };
    let claims = Claims {
        iss: text(iss)?,
        sub: text(sub)?,
        aud: text(aud)?,
        exp: number(exp)?,
        iat: number(iat)?,
        jti: text(jti)?,
        // Shown to others, and another issuer may allow any name.
        name: unicode::clean(&text(name)?).into_owned(),
        sid: if sid.is_some() { Some(text(sid)?) } else { None },
    };
    // `sub` becomes a path segment and a key, `jti` is remembered.
    let identifiers =
        limits::identifier("sub", &claims.sub, 64).and(limits::opaque("jti", &claims.jti, 1, 128));
    if identifiers.is_err() || claims.iss.is_empty() || claims.aud.is_empty() {
        return Err(Rejection::BadClaims);
    }
    Ok((claims, not_before))
}

fn check_claims(
    claims: &Claims,
    not_before: Option<u64>,
    issuer: &str,
    validation: &Validation<'_>,
) -> Result<(), Rejection> {
    let max_lifetime = match validation.kind {
        TokenKind::Access => MAX_ACCESS_TOKEN_SECONDS,
        TokenKind::Join => MAX_JOIN_TICKET_SECONDS,
    };
    if claims.iss != issuer {
        return Err(Rejection::WrongIssuer);
    }
    if claims.aud != validation.audience {
        return Err(Rejection::WrongAudience);
    }
    if claims.exp <= claims.iat || claims.exp - claims.iat > max_lifetime {
        return Err(Rejection::LifetimeTooLong);
    }
    if claims.iat.max(not_before.unwrap_or_default())
        > validation.now.saturating_add(MAX_FUTURE_SKEW.as_secs())
    {
        return Err(Rejection::NotYetValid);
    }
    // RFC 7519 §4.1.4: not accepted "on or after" exp.
    if validation.now >= claims.exp.saturating_add(validation.leeway.seconds()) {
        return Err(Rejection::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
