//! The cryptography behind the library: aws-lc-rs, with public keys that are parsed once.
//!
//! The library asks its crypto provider for a verifier at each token, and the verifiers of its own provider parse the key
//! each time, which costs a third of an RS256 check. So the verifiers are ours; the signers are the library's.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

use super::algorithm::Algorithm;

/// The provider of this crate. It verifies with the algorithms of [`Algorithm`] only.
static PROVIDER: LazyLock<CryptoProvider> =
    LazyLock::new(|| CryptoProvider { verifier_factory: verifier, ..DEFAULT_PROVIDER.clone() });

/// The parsed form of each key, oldest first. It depends on nothing but the key and its algorithm, so an entry never becomes
/// wrong.
static PARSED_KEYS: RwLock<VecDeque<ParsedKey>> = RwLock::new(VecDeque::new());

/// Most parsed keys: those of eight issuers with full key sets.
const MAX_PARSED_KEYS: usize = 256;

struct ParsedKey {
    algorithm: Algorithm,
    key: DecodingKey,
    parsed: Arc<ParsedPublicKey>,
}

/// Makes [`PROVIDER`] the library's crypto provider. Every key is made after this, so it has happened before anything is
/// signed or verified.
pub fn install_crypto_provider() {
    // An error: it is installed already, or another user of the library in this program has installed theirs. That one verifies
    // the same, and parses the key each time.
    let _installed = PROVIDER.install_default();
}

/// Whether tokens can be verified with this key: the library takes any bytes for one. It is parsed from here on.
pub fn is_valid(algorithm: Algorithm, key: &DecodingKey) -> bool {
    verifier(&algorithm.library(), key).is_ok()
}

/// The provider's factory of verifiers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the library's type of the factory")]
fn verifier(algorithm: &jsonwebtoken::Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let ours = Algorithm::ALL.iter().copied().find(|ours| ours.library() == *algorithm);
    let Some(ours) = ours.filter(|_| key.family() == algorithm.family()) else {
        return Err(ErrorKind::InvalidAlgorithm.into());
    };
    let parsed = match find(ours, key) {
        Some(parsed) => parsed,
        None => insert(ours, key, parse(ours, key)?),
    };
    Ok(Box::new(ParsedKeyVerifier { algorithm: *algorithm, parsed }))
}

fn find(algorithm: Algorithm, key: &DecodingKey) -> Option<Arc<ParsedPublicKey>> {
    let keys = PARSED_KEYS.read().unwrap_or_else(PoisonError::into_inner);
    keys.iter().find(|entry| entry.is(algorithm, key)).map(|entry| entry.parsed.clone())
}

/// Keeps the parsed key, unless another thread was faster.
fn insert(algorithm: Algorithm, key: &DecodingKey, parsed: ParsedPublicKey) -> Arc<ParsedPublicKey> {
    let mut keys = PARSED_KEYS.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(entry) = keys.iter().find(|entry| entry.is(algorithm, key)) {
        return entry.parsed.clone();
    }
    if keys.len() >= MAX_PARSED_KEYS {
        keys.pop_front();
    }
    let parsed = Arc::new(parsed);
    keys.push_back(ParsedKey { algorithm, key: key.clone(), parsed: parsed.clone() });
    parsed
}

fn parse(algorithm: Algorithm, key: &DecodingKey) -> Result<ParsedPublicKey> {
    let parsed = match (key.kind(), algorithm.rsa_parameters(), algorithm.point_parameters()) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, Some(parameters), _) => {
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters)
        }
        (DecodingKeyKind::SecretOrDer(point), None, Some(parameters)) => {
            ParsedPublicKey::new(parameters, point)
        }
        _ => return Err(ErrorKind::InvalidKeyFormat.into()),
    };
    parsed.map_err(|_| ErrorKind::InvalidKeyFormat.into())
}

impl ParsedKey {
    fn is(&self, algorithm: Algorithm, key: &DecodingKey) -> bool {
        self.algorithm == algorithm
            && match (self.key.kind(), key.kind()) {
                (DecodingKeyKind::SecretOrDer(ours), DecodingKeyKind::SecretOrDer(theirs)) => ours == theirs,
                (
                    DecodingKeyKind::RsaModulusExponent { n: our_n, e: our_e },
                    DecodingKeyKind::RsaModulusExponent { n, e },
                ) => our_n == n && our_e == e,
                _ => false,
            }
    }
}

/// A verifier with a key that is parsed already.
struct ParsedKeyVerifier {
    algorithm: jsonwebtoken::Algorithm,
    parsed: Arc<ParsedPublicKey>,
}

impl Verifier<Vec<u8>> for ParsedKeyVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.parsed.verify_sig(message, signature).map_err(Error::from_source)
    }
}

impl JwtVerifier for ParsedKeyVerifier {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests;
