//! Players' tokens: how the backend issues them, and the strict verifier that judges them on game servers and in the
//! backend (RFC 7515, 7517, 7519 and 8725 with its revision). Every choice is made by us and none by the token.
//!
//! What is checked, in this order, and where:
//!
//! | | |
//! |---|---|
//! | length, alphabet, two dots, canonical base64url, members once, no header member but `alg`, `kid`, `typ` | `compact`, `json` |
//! | `typ` is exactly the kind asked for | here |
//! | the key is one this issuer publishes under this `kid`; `alg` is the one algorithm of that key | here |
//! | the key is public, fit and strong enough, and its algorithm one this issuer may use | `keys`, `rsa` |
//! | the signature | aws-lc-rs |
//! | claims complete and typed; `iss`, `aud`, `exp`, `nbf`, `iat` and the length of life | here |
//!
//! There is no code for `none`, for symmetric keys, for encrypted tokens, or for keys that come with a token.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod algorithm;
mod compact;
mod json;
mod keys;
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
use json::Plain;
pub use keys::{KeySet, KeySetRejection, MAX_KEY_NAME, MAX_KEY_SET_BYTES, MAX_KEYS, Unfit, VerificationKey};
pub use signing::{SigningFailed, SigningKey};

/// A day before this library was built: clocks of a build machine and of a server need not agree to the second.
const EARLIEST_PLAUSIBLE_NOW: u64 = match u64::from_str_radix(env!("BACKEND_TOKEN_BUILT_AT"), 10) {
    Ok(built_at) => built_at.saturating_sub(24 * 3_600),
    Err(_) => 0,
};

/// How far `iat` and `nbf` may lie ahead of this machine's clock.
const AHEAD: Duration = Duration::from_secs(30);

/// Why a token was not accepted. For the log: the other end learns that it was refused, and whether a token that was
/// good once is past its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Rejection {
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLong,
    #[error("not three base64url parts")]
    Malformed,
    #[error("the header is not a JSON object with single, well-typed members")]
    BadHeader,
    #[error("a header member that this verifier does not take")]
    ForbiddenHeader,
    #[error("not the required type of token")]
    WrongType,
    #[error("not the algorithm of the key")]
    WrongAlgorithm,
    #[error("no such key")]
    UnknownKey,
    #[error("the signature does not verify")]
    BadSignature,
    #[error("a claim is missing, doubled or of the wrong type")]
    BadClaims,
    #[error("another issuer")]
    WrongIssuer,
    #[error("another audience")]
    WrongAudience,
    #[error("past its time")]
    Expired,
    #[error("issued in the future")]
    NotYetValid,
    #[error("lives longer than such a token may")]
    LivesTooLong,
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
    pub fn of_seconds(seconds: u64) -> Result<Self, FieldError> {
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

/// What a token must be to be accepted. Its issuer must be that of the keys.
#[derive(Debug, Clone)]
pub struct Expectation<'a> {
    /// Which kind.
    pub kind: TokenKind,
    /// `aud`: who we are.
    pub audience: &'a str,
    /// Seconds since 1970.
    pub now: u64,
    /// What is forgiven at `exp`.
    pub leeway: Leeway,
}

/// A token that has the shape and the header of one, for choosing what to check it against. Not to be trusted: whoever
/// sent the token chose what it says. Taking it apart is part of the check: [`Self::verify`] does not do so again.
pub struct Unverified<'a> {
    compact: Compact<'a>,
    kind: TokenKind,
}

impl fmt::Debug for Unverified<'_> {
    // Not the claims, and not what would let somebody in.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unverified")
            .field("kind", &self.kind)
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

impl<'a> Unverified<'a> {
    /// Reads `token`, if it has the shape and the header of a token.
    pub fn of(token: &'a str) -> Result<Self, Rejection> {
        let compact = Compact::of(token)?;
        let kind = kind_in(compact.header.typ.as_deref())?;
        Ok(Self { compact, kind })
    }

    /// Which kind it says it is.
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Name of the key it says it was signed with: 1 to [`MAX_KEY_NAME`] printable ASCII characters.
    pub fn kid(&self) -> &str {
        &self.compact.header.kid
    }

    /// When it says it was issued, in seconds since 1970. Worth nothing until somebody has verified the token.
    pub fn issued_at(&self) -> Option<u64> {
        match json::members(self.compact.payload(), ["iat"]) {
            Some(([Some(Plain::Natural(seconds))], _)) => Some(seconds),
            _ => None,
        }
    }

    /// What [`verify`] says of the token.
    pub fn verify(&self, keys: &KeySet, expected: &Expectation<'_>) -> Result<Claims, Rejection> {
        if expected.now < EARLIEST_PLAUSIBLE_NOW {
            return Err(Rejection::ClockNotSet);
        }
        // Before the signature: it costs nothing, and a token of another kind is no business of these keys.
        if self.kind != expected.kind {
            return Err(Rejection::WrongType);
        }
        check_signature(&self.compact, keys)?;
        let (claims, not_before) = read_claims(self.compact.payload())?;
        judge(&claims, not_before, keys.issuer(), expected)?;
        Ok(claims)
    }
}

fn kind_in(typ: Option<&str>) -> Result<TokenKind, Rejection> {
    match typ {
        Some(ACCESS_TOKEN_TYPE) => Ok(TokenKind::Access),
        Some(JOIN_TICKET_TYPE) => Ok(TokenKind::Join),
        _ => Err(Rejection::WrongType),
    }
}

/// The payload of a signed message (RFC 7515), and its `typ`, if one of `keys` signed it with its one algorithm.
///
/// This is the part below [`verify`], for messages that are not player tokens. What the payload says is not looked at.
pub fn verify_signature(token: &str, keys: &KeySet) -> Result<(Vec<u8>, Option<String>), Rejection> {
    let compact = Compact::of(token)?;
    check_signature(&compact, keys)?;
    Ok((compact.payload().to_vec(), compact.header.typ.map(Cow::into_owned)))
}

fn check_signature(compact: &Compact<'_>, keys: &KeySet) -> Result<(), Rejection> {
    let key = keys.get(&compact.header.kid).ok_or(Rejection::UnknownKey)?;
    if compact.header.alg != Some(key.algorithm()) {
        return Err(Rejection::WrongAlgorithm);
    }
    if !key.verifies(compact.signed.as_bytes(), compact.signature()) {
        return Err(Rejection::BadSignature);
    }
    Ok(())
}

/// The claims of `token`, if it is exactly what `expected` says and was signed by one of `keys`, whose issuer is the
/// only one they vouch for.
pub fn verify(token: &str, keys: &KeySet, expected: &Expectation<'_>) -> Result<Claims, Rejection> {
    Unverified::of(token)?.verify(keys, expected)
}

/// The claims, all there and of their types, and `nbf`, which there may be.
fn read_claims(payload: &[u8]) -> Result<(Claims, Option<u64>), Rejection> {
    let text = |member| match member {
        Some(Plain::Text(text)) => Ok(text.into_owned()),
        _ => Err(Rejection::BadClaims),
    };
    let number = |member| match member {
        Some(Plain::Natural(number)) => Ok(number),
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
        // Shown to others, also when another issuer lets anything be a name.
        name: unicode::clean(&text(name)?).into_owned(),
        sid: if sid.is_some() { Some(text(sid)?) } else { None },
    };
    // `sub` becomes a path segment and a key, `jti` is remembered.
    let named = limits::identifier("sub", &claims.sub, 64).and(limits::opaque("jti", &claims.jti, 1, 128));
    if named.is_err() || claims.iss.is_empty() || claims.aud.is_empty() {
        return Err(Rejection::BadClaims);
    }
    Ok((claims, not_before))
}

fn judge(
    claims: &Claims,
    not_before: Option<u64>,
    issuer: &str,
    expected: &Expectation<'_>,
) -> Result<(), Rejection> {
    let longest_life = match expected.kind {
        TokenKind::Access => MAX_ACCESS_TOKEN_SECONDS,
        TokenKind::Join => MAX_JOIN_TICKET_SECONDS,
    };
    if claims.iss != issuer {
        return Err(Rejection::WrongIssuer);
    }
    if claims.aud != expected.audience {
        return Err(Rejection::WrongAudience);
    }
    if claims.exp <= claims.iat || claims.exp - claims.iat > longest_life {
        return Err(Rejection::LivesTooLong);
    }
    if claims.iat.max(not_before.unwrap_or_default()) > expected.now.saturating_add(AHEAD.as_secs()) {
        return Err(Rejection::NotYetValid);
    }
    // RFC 7519 §4.1.4: not accepted "on or after" exp.
    if expected.now >= claims.exp.saturating_add(expected.leeway.seconds()) {
        return Err(Rejection::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
