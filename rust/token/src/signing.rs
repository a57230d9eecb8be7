//! Signing: the backend's private keys, and the tokens made with them.

use aws_lc_rs::digest;
use aws_lc_rs::signature::Ed25519KeyPair;
use backend_protocol::validation::{ACCESS_TOKEN_TYPE, Claims, JOIN_TICKET_TYPE, Jwk, TokenKind};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{self, AlgorithmParameters};
use jsonwebtoken::{EncodingKey, Header};

use super::algorithm::Algorithm;
use super::provider::install_crypto_provider;

/// The algorithm of all signing keys.
const ALGORITHM: Algorithm = Algorithm::EdDSA;

/// The error of a key that cannot be made or read, and of claims that cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be made, read or used")]
pub struct SigningError;

/// A private Ed25519 key and its `kid`. It has no debug output.
pub struct SigningKey {
    kid: String,
    /// The public key in base64url.
    public: String,
    key: EncodingKey,
}

impl SigningKey {
    /// Makes a new key from the machine's randomness.
    pub fn generate() -> Result<Self, SigningError> {
        // The library makes no keys.
        Self::from_pair(&Ed25519KeyPair::generate().map_err(|_| SigningError)?)
    }

    /// Reads a stored key (PKCS #8).
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SigningError> {
        Self::from_pair(&Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| SigningError)?)
    }

    /// The key for storing (PKCS #8): a secret.
    pub fn to_pkcs8(&self) -> Vec<u8> {
        self.key.as_bytes().to_vec()
    }

    fn from_pair(pair: &Ed25519KeyPair) -> Result<Self, SigningError> {
        install_crypto_provider();
        // Version 1, which the library can derive the public key from.
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().map_err(|_| SigningError)?.as_ref());
        let AlgorithmParameters::OctetKeyPair(parameters) =
            jwk::Jwk::from_encoding_key(&key, ALGORITHM.library()).map_err(|_| SigningError)?.algorithm
        else {
            return Err(SigningError);
        };
        // Derived from the public key, so that no two keys have one kid.
        let digest = digest::digest(&digest::SHA256, parameters.x.as_bytes());
        let short = digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(Self { kid: format!("{short:016x}"), public: parameters.x, key })
    }

    /// Its `kid`: 16 hexadecimal digits.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public key, for publishing.
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: self.public.clone(),
            kid: self.kid.clone(),
            alg: ALGORITHM.name().into(),
            usage: "sig".into(),
        }
    }

    /// Signs a token with these claims.
    pub fn sign(&self, kind: TokenKind, claims: &Claims) -> Result<String, SigningError> {
        let typ = match kind {
            TokenKind::Access => ACCESS_TOKEN_TYPE,
            TokenKind::Join => JOIN_TICKET_TYPE,
        };
        let header = Header {
            typ: Some(typ.to_owned()),
            kid: Some(self.kid.clone()),
            ..Header::new(ALGORITHM.library())
        };
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|_| SigningError)
    }

    /// Signs any two texts as `header.payload.signature` (RFC 7515 §3.1). The caller answers for what they hold.
    pub fn sign_parts(&self, header: &[u8], payload: &[u8]) -> Result<String, SigningError> {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, ALGORITHM.library());
        Ok(format!("{message}.{}", signature.map_err(|_| SigningError)?))
    }
}
