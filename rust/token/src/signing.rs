//! How the backend signs.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use backend_protocol::validation::{ACCESS_TOKEN_TYPE, Claims, JOIN_TICKET_TYPE, Jwk, TokenKind};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;

/// A key could not be made or read, or claims have no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signing key cannot be made, read or used")]
pub struct SigningFailed;

/// A private Ed25519 key, and its name. Does not print.
pub struct SigningKey {
    kid: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key from the machine's randomness.
    pub fn generate() -> Result<Self, SigningFailed> {
        Ed25519KeyPair::generate().map(Self::named).map_err(|_| SigningFailed)
    }

    /// A kept key (PKCS #8).
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SigningFailed> {
        Ed25519KeyPair::from_pkcs8(bytes).map(Self::named).map_err(|_| SigningFailed)
    }

    /// For keeping (PKCS #8): a secret.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, SigningFailed> {
        self.pair.to_pkcs8v1().map(|bytes| bytes.as_ref().to_vec()).map_err(|_| SigningFailed)
    }

    // Named for its public key, so that no two keys share a name.
    fn named(pair: Ed25519KeyPair) -> Self {
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        let digest = digest::digest(&digest::SHA256, public.as_bytes());
        let short = digest.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self { kid: format!("{short:016x}"), pair }
    }

    /// Its name: 16 hexadecimal digits.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public half, for publishing.
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: URL_SAFE_NO_PAD.encode(self.pair.public_key()),
            kid: self.kid.clone(),
            alg: Algorithm::EdDSA.name().into(),
            usage: "sig".into(),
        }
    }

    /// A token with these claims.
    pub fn sign(&self, kind: TokenKind, claims: &Claims) -> Result<String, SigningFailed> {
        let typ = match kind {
            TokenKind::Access => ACCESS_TOKEN_TYPE,
            TokenKind::Join => JOIN_TICKET_TYPE,
        };
        let header = serde_json::json!({"alg": Algorithm::EdDSA.name(), "typ": typ, "kid": self.kid});
        let claims = serde_json::to_vec(claims).map_err(|_| SigningFailed)?;
        Ok(self.sign_parts(header.to_string().as_bytes(), &claims))
    }

    /// `header.payload.signature` (RFC 7515 §3.1) of any two texts: what they say is the caller's business.
    pub fn sign_parts(&self, header: &[u8], payload: &[u8]) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
