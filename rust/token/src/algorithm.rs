//! The signature algorithms there are: asymmetric ones only, so that no public key can be taken for a shared secret.

use aws_lc_rs::signature::{self, RsaParameters, VerificationAlgorithm};

/// How a key signs (RFC 7518 §3, RFC 8037 §3.1). Which of them an issuer may use is the caller's choice.
///
/// Ed25519 goes by its older name `EdDSA`, which issuers write; the fully specified `Ed25519` of RFC 9864 is another
/// name and not accepted for it.
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
    /// Every algorithm there is.
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

    /// As it stands in `alg`.
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

    /// The one that `alg` names exactly.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// `kty` and `crv` of its keys.
    pub(super) const fn key_kind(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::EdDSA => ("OKP", Some("Ed25519")),
            Self::ES256 => ("EC", Some("P-256")),
            _ => ("RSA", None),
        }
    }

    /// For the keys that are points: Ed25519 and P-256.
    pub(super) fn of_points(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::EdDSA => Some(&signature::ED25519),
            Self::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            _ => None,
        }
    }

    /// For RSA keys.
    pub(super) fn of_rsa(self) -> Option<&'static RsaParameters> {
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
