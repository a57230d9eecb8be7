//! The signature algorithms that are accepted: asymmetric ones only, so that no public key can be taken for a shared secret.
//!
//! A type of its own, because the library's also holds HMAC: here no value names a symmetric algorithm.

use aws_lc_rs::signature::{self, RsaParameters, VerificationAlgorithm};

/// The signature algorithm of a key (RFC 7518 §3, RFC 8037 §3.1). Which of them an issuer may use is the caller's choice.
///
/// Ed25519 has its older name `EdDSA`, which issuers write. The fully specified `Ed25519` of RFC 9864 is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: &[Self] = &[
        Self::EdDSA,
        Self::ES256,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
    ];

    /// Its name in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
        }
    }

    /// The algorithm with exactly this name in `alg`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// The same algorithm as the library names it.
    pub(super) const fn library(self) -> jsonwebtoken::Algorithm {
        use jsonwebtoken::Algorithm as Library;
        match self {
            Self::EdDSA => Library::EdDSA,
            Self::ES256 => Library::ES256,
            Self::RS256 => Library::RS256,
            Self::RS384 => Library::RS384,
            Self::RS512 => Library::RS512,
            Self::PS256 => Library::PS256,
            Self::PS384 => Library::PS384,
            Self::PS512 => Library::PS512,
        }
    }

    /// `kty` and `crv` of its keys.
    pub(super) const fn key_type(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::EdDSA => ("OKP", Some("Ed25519")),
            Self::ES256 => ("EC", Some("P-256")),
            _ => ("RSA", None),
        }
    }

    /// The parameters with which a point is parsed: Ed25519 and P-256.
    pub(super) fn point_parameters(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::EdDSA => Some(&signature::ED25519),
            Self::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            _ => None,
        }
    }

    /// The parameters with which an RSA key is parsed.
    pub(super) fn rsa_parameters(self) -> Option<&'static RsaParameters> {
        match self {
            Self::EdDSA | Self::ES256 => None,
            Self::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        }
    }
}
