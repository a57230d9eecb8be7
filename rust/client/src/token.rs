//! The strict verifier: RFC 7515, 7519 and 8725, with every choice made by us and none by the token.
//!
//! `jsonwebtoken` does the bare signature check; what surrounds it is here, because the library's defaults leave
//! `typ`, `crit`, wrongly typed claims and the binding of a key to one algorithm to the caller.

use std::collections::BTreeMap;
use std::time::Duration;

use backend_protocol::limits::MAX_TOKEN;
use backend_protocol::validation::{
    ACCESS_TOKEN_TYPE, Claims, JOIN_TICKET_TYPE, Jwk, MAX_ACCESS_TOKEN_SECONDS, MAX_JOIN_TICKET_SECONDS,
    TokenKind,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use serde_json::Value;

/// Difference between two machines' clocks that is forgiven.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// A wall clock before this (2025-01-01) is not set, and no token can be judged by it.
const EARLIEST_PLAUSIBLE_NOW: u64 = 1_735_689_600;

/// Most keys looked at in a key set.
const MAX_KEYS: usize = 32;

/// Why a token was not accepted. Peers learn only whether it was expired; the rest is for the log.
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
    #[error("not the type of token asked for")]
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

/// What a token must be to be accepted.
#[derive(Debug, Clone)]
pub struct Expectation<'a> {
    /// Which kind.
    pub kind: TokenKind,
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`.
    pub audience: &'a str,
    /// Seconds since 1970.
    pub now: u64,
}

/// One public key, parsed once and bound to one algorithm.
#[derive(Clone)]
pub struct VerificationKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// The keys of one issuer by `kid`.
#[derive(Clone, Default)]
pub struct KeySet(BTreeMap<String, VerificationKey>);

impl KeySet {
    /// Takes the usable keys: Ed25519, named once, for signatures with `EdDSA` (RFC 8037). Others are left out, and
    /// a name that occurs twice leaves out both, because nothing says which was meant.
    pub fn from_jwks(keys: &[Jwk]) -> Self {
        let mut set = BTreeMap::new();
        for jwk in keys.iter().take(MAX_KEYS) {
            let unique = keys.iter().filter(|other| other.kid == jwk.kid).count() == 1;
            let fits = jwk.kty == "OKP" && jwk.crv == "Ed25519" && jwk.alg == "EdDSA" && jwk.usage == "sig";
            let named = backend_protocol::limits::identifier("kid", &jwk.kid, 64).is_ok();
            let sized = URL_SAFE_NO_PAD.decode(&jwk.x).is_ok_and(|point| point.len() == 32);
            if !(unique && fits && named && sized) {
                tracing::warn!("left out a public key that is doubled or not an Ed25519 signature key");
                continue;
            }
            if let Ok(key) = DecodingKey::from_ed_components(&jwk.x) {
                set.insert(jwk.kid.clone(), VerificationKey { algorithm: Algorithm::EdDSA, key });
            }
        }
        Self(set)
    }

    /// Whether a key of this name is there.
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name of the key a token says it was signed with, once its shape and header are found acceptable. Nothing in
/// it is trusted: it only selects among keys we already have.
pub fn key_name(token: &str) -> Result<String, Rejection> {
    let parts = split(token)?;
    header(parts.header).map(|header| header.kid)
}

/// The kind of token `token` says it is, for choosing what to verify it as.
pub fn claimed_kind(token: &str) -> Result<TokenKind, Rejection> {
    match header(split(token)?.header)?.typ.as_str() {
        ACCESS_TOKEN_TYPE => Ok(TokenKind::Access),
        JOIN_TICKET_TYPE => Ok(TokenKind::Join),
        _ => Err(Rejection::WrongType),
    }
}

/// The claims of `token`, if it is exactly what `expected` says and was signed by one of `keys`.
pub fn verify(token: &str, keys: &KeySet, expected: &Expectation<'_>) -> Result<Claims, Rejection> {
    if expected.now < EARLIEST_PLAUSIBLE_NOW {
        return Err(Rejection::ClockNotSet);
    }
    let parts = split(token)?;
    let header = header(parts.header)?;
    let (wanted_type, longest_life) = match expected.kind {
        TokenKind::Access => (ACCESS_TOKEN_TYPE, MAX_ACCESS_TOKEN_SECONDS),
        TokenKind::Join => (JOIN_TICKET_TYPE, MAX_JOIN_TICKET_SECONDS),
    };
    if header.typ != wanted_type {
        return Err(Rejection::WrongType);
    }
    let key = keys.0.get(&header.kid).ok_or(Rejection::UnknownKey)?;
    if header.alg != "EdDSA" || key.algorithm != Algorithm::EdDSA {
        return Err(Rejection::WrongAlgorithm);
    }
    let genuine =
        jsonwebtoken::crypto::verify(parts.signature, parts.signed.as_bytes(), &key.key, key.algorithm);
    if !matches!(genuine, Ok(true)) {
        return Err(Rejection::BadSignature);
    }
    let claims = claims(parts.claims)?;
    judge(&claims, expected, longest_life)?;
    Ok(claims)
}

fn judge(claims: &Claims, expected: &Expectation<'_>, longest_life: u64) -> Result<(), Rejection> {
    let leeway = LEEWAY.as_secs();
    if claims.iss != expected.issuer {
        return Err(Rejection::WrongIssuer);
    }
    if claims.aud != expected.audience {
        return Err(Rejection::WrongAudience);
    }
    if claims.exp <= claims.iat || claims.exp - claims.iat > longest_life {
        return Err(Rejection::LivesTooLong);
    }
    if claims.iat > expected.now + leeway {
        return Err(Rejection::NotYetValid);
    }
    // RFC 7519 §4.1.4: not accepted "on or after" exp.
    if expected.now >= claims.exp.saturating_add(leeway) {
        return Err(Rejection::Expired);
    }
    Ok(())
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    signed: &'a str,
}

fn split(token: &str) -> Result<Parts<'_>, Rejection> {
    if token.len() > MAX_TOKEN {
        return Err(Rejection::TooLong);
    }
    if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(Rejection::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Rejection::Malformed)?;
    // The decoder also refuses non-canonical trailing bits, so that one token has one spelling.
    let canonical = URL_SAFE_NO_PAD.decode(signature).is_ok_and(|bytes| bytes.len() == 64);
    if claims.contains('.') || header.is_empty() || claims.is_empty() || !canonical {
        return Err(Rejection::Malformed);
    }
    Ok(Parts { header, claims, signature, signed })
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

fn header(encoded: &str) -> Result<Header, Rejection> {
    let members = object(encoded).ok_or(Rejection::BadHeader)?;
    // An allow-list: `crit`, `b64`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, `enc` and whatever comes next are refused.
    if members.keys().any(|name| !matches!(name.as_str(), "alg" | "typ" | "kid")) {
        return Err(Rejection::ForbiddenHeader);
    }
    serde_json::from_value(Value::Object(members)).map_err(|_| Rejection::BadHeader)
}

fn claims(encoded: &str) -> Result<Claims, Rejection> {
    let members = object(encoded).ok_or(Rejection::BadClaims)?;
    let not_before = members.get("nbf").cloned();
    let claims: Claims = serde_json::from_value(Value::Object(members)).map_err(|_| Rejection::BadClaims)?;
    match not_before {
        // We issue none; one that is there must not be ignored.
        Some(_) => Err(Rejection::BadClaims),
        None if claims.sub.is_empty() || claims.jti.is_empty() => Err(Rejection::BadClaims),
        None => Ok(claims),
    }
}

/// A base64url part as a JSON object without doubled members at the top.
fn object(encoded: &str) -> Option<serde_json::Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    serde_json::from_slice::<SingleMembers>(&bytes).ok().map(|object| object.0)
}

/// serde_json keeps the last of two equal members; a verifier must refuse both (RFC 8725 §2.4 in spirit).
struct SingleMembers(serde_json::Map<String, Value>);

impl<'de> Deserialize<'de> for SingleMembers {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = SingleMembers;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object without doubled members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<SingleMembers, A::Error> {
                let mut members = serde_json::Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(de::Error::custom("doubled member"));
                    }
                }
                Ok(SingleMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
pub(crate) mod tests;
