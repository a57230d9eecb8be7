//! The public keys of an issuer: which of those it publishes may be used, and for what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::json::{self, Members};
use super::rsa;

/// Longest key set read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;
/// Most keys in a key set.
pub const MAX_KEYS: usize = 32;
/// Longest name of a key, in bytes.
pub const MAX_KEY_NAME: usize = 128;

/// Members that only a private or symmetric key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a whole key set was not taken. Those that were there before stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum KeySetRejection {
    #[error("the key set is longer than {MAX_KEY_SET_BYTES} bytes")]
    TooLong,
    #[error("the key set is not a JSON object with single members and a list of keys")]
    Malformed,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooManyKeys,
}

/// Why one key of a set was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum Unfit {
    #[error("not an object")]
    NotAnObject,
    #[error("kid is missing, or not 1 to {MAX_KEY_NAME} printable ASCII characters")]
    Name,
    #[error("a symmetric or private key was published")]
    Secret,
    #[error("not for signatures (use, key_ops)")]
    Purpose,
    #[error("alg is missing, or not one this issuer may use")]
    Algorithm,
    #[error("kty or crv does not go with alg")]
    Kind,
    #[error("a number is missing, of the wrong length or not canonical base64url")]
    Encoding,
    #[error("RSA with less than 2048 or more than 8192 bits")]
    RsaSize,
    #[error("RSA with an even modulus, or an exponent that is 1, even or huge")]
    RsaNumbers,
    #[error("RSA key of a generator that makes weak ones (ROCA, CVE-2017-15361)")]
    Roca,
    #[error("not a valid public key")]
    Invalid,
}

/// One public key, parsed once and bound to one algorithm: there is no way to use it with another.
#[derive(Clone)]
pub struct VerificationKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerificationKey {
    /// The key in a JSON Web Key (RFC 7517 §4) and its name, if it is public, complete, strong enough and for
    /// signatures with one of `allowed`.
    pub fn from_jwk(jwk: &Members, allowed: &[Algorithm]) -> Result<(String, Self), Unfit> {
        let kid = text(jwk, "kid").filter(|kid| is_key_name(kid)).ok_or(Unfit::Name)?;
        if SECRET_MEMBERS.iter().any(|name| jwk.contains_key(*name)) || text(jwk, "kty") == Some("oct") {
            return Err(Unfit::Secret);
        }
        let for_signatures = jwk.get("use").is_none_or(|usage| usage == "sig");
        let may_verify = jwk.get("key_ops").is_none_or(|operations| {
            let operations = operations.as_array().map(Vec::as_slice).unwrap_or_default();
            operations.iter().any(|operation| operation == "verify")
        });
        if !for_signatures || !may_verify {
            return Err(Unfit::Purpose);
        }
        let algorithm = text(jwk, "alg").and_then(Algorithm::named).ok_or(Unfit::Algorithm)?;
        if !allowed.contains(&algorithm) {
            return Err(Unfit::Algorithm);
        }
        let (kty, crv) = algorithm.key_kind();
        if text(jwk, "kty") != Some(kty) || jwk.get("crv").map(|crv| crv.as_str().unwrap_or_default()) != crv
        {
            return Err(Unfit::Kind);
        }
        let key = match (algorithm.of_rsa(), algorithm.of_points()) {
            (Some(parameters), _) => {
                let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
                rsa::check(&n, &e)?;
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters)
            }
            (None, Some(parameters)) => ParsedPublicKey::new(parameters, point(jwk, algorithm)?),
            (None, None) => return Err(Unfit::Algorithm),
        };
        let key = key.map_err(|_| Unfit::Invalid)?;
        Ok((kid.to_owned(), Self { algorithm, key }))
    }

    /// The one algorithm it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's for `signed`.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(signed, signature).is_ok()
    }
}

/// A name is only ever compared; the limits are there for logs and for memory.
pub(super) fn is_key_name(kid: &str) -> bool {
    (1..=MAX_KEY_NAME).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text<'a>(jwk: &'a Members, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn number(jwk: &Members, name: &str) -> Result<Vec<u8>, Unfit> {
    text(jwk, name).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok()).ok_or(Unfit::Encoding)
}

/// The bytes of a point, as the crypto library reads them.
fn point(jwk: &Members, algorithm: Algorithm) -> Result<Vec<u8>, Unfit> {
    const COORDINATE: usize = 32;
    let coordinate = |name| {
        number(jwk, name).and_then(|x| if x.len() == COORDINATE { Ok(x) } else { Err(Unfit::Encoding) })
    };
    match algorithm {
        Algorithm::EdDSA => coordinate("x"),
        // Uncompressed (SEC 1 §2.3.3).
        _ => Ok([vec![4], coordinate("x")?, coordinate("y")?].concat()),
    }
}

/// The usable keys of one issuer by `kid`: there is no other way to find a key.
#[derive(Clone, Default)]
pub struct KeySet {
    issuer: String,
    keys: BTreeMap<String, VerificationKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeySet").field("issuer", &self.issuer).field("names", &self.keys.keys()).finish()
    }
}

impl KeySet {
    /// The usable ones among the keys that `issuer` publishes in `document` (RFC 7517 §5). Others are left out and
    /// named in the log; a `kid` that stands for two different keys leaves out both, because nothing says which was meant. The
    /// same key listed twice is one key.
    pub fn from_json(issuer: &str, document: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetRejection> {
        if document.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetRejection::TooLong);
        }
        let document = json::object(document).ok_or(KeySetRejection::Malformed)?;
        let listed = document.get("keys").and_then(Value::as_array).ok_or(KeySetRejection::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetRejection::TooManyKeys);
        }
        // Names of unfit keys count too: a fit key must not be taken for one of another purpose.
        let mut named = BTreeMap::<&str, &Value>::new();
        let mut ambiguous = BTreeSet::<&str>::new();
        for jwk in listed {
            let Some(kid) = jwk.get("kid").and_then(Value::as_str) else { continue };
            if *named.entry(kid).or_insert(jwk) != jwk {
                ambiguous.insert(kid);
            }
        }
        let mut keys = BTreeMap::new();
        for (position, jwk) in listed.iter().enumerate() {
            let read = jwk
                .as_object()
                .ok_or(Unfit::NotAnObject)
                .and_then(|jwk| VerificationKey::from_jwk(jwk, allowed));
            match read {
                Ok((kid, _)) if ambiguous.contains(kid.as_str()) => {
                    tracing::warn!(
                        issuer,
                        position,
                        "left out a public key whose kid stands for two different keys"
                    );
                }
                Ok((kid, key)) => drop(keys.insert(kid, key)),
                Err(why) => tracing::warn!(issuer, position, reason = %why, "left out a public key"),
            }
        }
        Ok(Self { issuer: issuer.to_owned(), keys })
    }

    /// Whose keys they are: the only `iss` they vouch for.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key of this name.
    pub fn get(&self, kid: &str) -> Option<&VerificationKey> {
        self.keys.get(kid)
    }

    /// Whether a key of this name is there.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// The names of all keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The same set without the keys that `named` does not hold.
    pub fn only(&self, named: &[String]) -> Self {
        let kept = self.keys.iter().filter(|(kid, _)| named.contains(kid));
        Self {
            issuer: self.issuer.clone(),
            keys: kept.map(|(kid, key)| (kid.clone(), key.clone())).collect(),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests;
