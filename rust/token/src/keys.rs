//! The public keys of an issuer: which of the published keys are used, and with which algorithm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::json::{self, Members};
use super::key_rejection::{KeyRejection, MAX_KID_BYTES};
use super::provider::{self, install_crypto_provider};
use super::rsa;

/// Longest key set read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 64 * 1024;
/// Most keys in a key set.
pub const MAX_KEYS: usize = 32;

/// Members that only a private or symmetric key has (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The reason for which a whole key set is rejected. Keys that were read before remain.
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

/// One public key, bound to one algorithm: it cannot be used with another.
#[derive(Clone)]
pub struct VerificationKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// Reads a JSON Web Key (RFC 7517 §4) and its `kid`, if it is public, complete, strong enough and for signatures with
    /// one of `allowed`.
    ///
    /// The members are read here and not by the library's `Jwk`, which ignores the secret ones and what it does not know.
    pub fn from_jwk(jwk: &Members, allowed: &[Algorithm]) -> Result<(String, Self), KeyRejection> {
        let kid = text(jwk, "kid").filter(|kid| is_key_id(kid)).ok_or(KeyRejection::KeyId)?;
        if SECRET_MEMBERS.iter().any(|name| jwk.contains_key(*name)) || text(jwk, "kty") == Some("oct") {
            return Err(KeyRejection::Secret);
        }
        let for_signatures = jwk.get("use").is_none_or(|usage| usage == "sig");
        let may_verify = jwk.get("key_ops").is_none_or(|operations| {
            let operations = operations.as_array().map(Vec::as_slice).unwrap_or_default();
            operations.iter().any(|operation| operation == "verify")
        });
        if !for_signatures || !may_verify {
            return Err(KeyRejection::Purpose);
        }
        let algorithm = text(jwk, "alg").and_then(Algorithm::from_name).ok_or(KeyRejection::Algorithm)?;
        if !allowed.contains(&algorithm) {
            return Err(KeyRejection::Algorithm);
        }
        let (kty, crv) = algorithm.key_type();
        if text(jwk, "kty") != Some(kty) || jwk.get("crv").map(|crv| crv.as_str().unwrap_or_default()) != crv
        {
            return Err(KeyRejection::KeyType);
        }
        install_crypto_provider();
        let key = if kty == "RSA" {
            let (n, e) = (number(jwk, "n")?, number(jwk, "e")?);
            rsa::check(&n, &e)?;
            DecodingKey::from_rsa_raw_components(&n, &e)
        } else {
            let point = point(jwk, algorithm)?;
            match algorithm {
                Algorithm::EdDSA => DecodingKey::from_ed_der(&point),
                _ => DecodingKey::from_ec_der(&point),
            }
        };
        if !provider::is_valid(algorithm, &key) {
            return Err(KeyRejection::Invalid);
        }
        Ok((kid.to_owned(), Self { algorithm, key }))
    }

    /// The one algorithm it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature`, in base64url, is this key's signature of `message`.
    pub(super) fn verify(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, self.algorithm.library()).unwrap_or(false)
    }
}

/// Whether `kid` may name a key. It is only compared: the limits are for logs and memory.
pub(super) fn is_key_id(kid: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text<'a>(jwk: &'a Members, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn number(jwk: &Members, name: &str) -> Result<Vec<u8>, KeyRejection> {
    text(jwk, name).and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok()).ok_or(KeyRejection::Encoding)
}

/// The bytes of a point, as the crypto library takes them.
fn point(jwk: &Members, algorithm: Algorithm) -> Result<Vec<u8>, KeyRejection> {
    const COORDINATE: usize = 32;
    let coordinate = |name| {
        number(jwk, name)
            .and_then(|x| if x.len() == COORDINATE { Ok(x) } else { Err(KeyRejection::Encoding) })
    };
    match algorithm {
        Algorithm::EdDSA => coordinate("x"),
        // Uncompressed (SEC 1 §2.3.3).
        _ => Ok([vec![4], coordinate("x")?, coordinate("y")?].concat()),
    }
}

/// The usable keys of one issuer by `kid`. There is no other way to find a key.
#[derive(Clone, Default)]
pub struct KeySet {
    issuer: String,
    keys: BTreeMap<String, VerificationKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("KeySet").field("issuer", &self.issuer).field("kids", &self.keys.keys()).finish()
    }
}

impl KeySet {
    /// Reads the usable keys that `issuer` publishes in `document` (RFC 7517 §5). Others are left out and logged. If two
    /// different keys have one `kid`, both are left out, because it is unknown which is meant. A key that is listed twice is
    /// one key.
    pub fn from_json(issuer: &str, document: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetRejection> {
        if document.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetRejection::TooLong);
        }
        let document = json::object(document).ok_or(KeySetRejection::Malformed)?;
        let listed = document.get("keys").and_then(Value::as_array).ok_or(KeySetRejection::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetRejection::TooManyKeys);
        }
        // The kid of a rejected key counts too: a usable key must not be taken for one of another purpose.
        let mut by_kid = BTreeMap::<&str, &Value>::new();
        let mut ambiguous = BTreeSet::<&str>::new();
        for jwk in listed {
            let Some(kid) = jwk.get("kid").and_then(Value::as_str) else { continue };
            if *by_kid.entry(kid).or_insert(jwk) != jwk {
                ambiguous.insert(kid);
            }
        }
        let mut keys = BTreeMap::new();
        for (position, jwk) in listed.iter().enumerate() {
            let read = jwk
                .as_object()
                .ok_or(KeyRejection::NotAnObject)
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

    /// The issuer of the keys: the only `iss` that they verify.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key with this `kid`.
    pub fn get(&self, kid: &str) -> Option<&VerificationKey> {
        self.keys.get(kid)
    }

    /// Whether there is a key with this `kid`.
    pub fn contains(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// The `kid` of every key, in order.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// The keys of this set whose `kid` is in `kids`.
    pub fn with_kids(&self, kids: &[String]) -> Self {
        let kept = self.keys.iter().filter(|(kid, _)| kids.contains(kid));
        Self {
            issuer: self.issuer.clone(),
            keys: kept.map(|(kid, key)| (kid.clone(), key.clone())).collect(),
        }
    }

    /// The number of keys.
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
