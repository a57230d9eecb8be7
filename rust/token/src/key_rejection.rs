//! The reasons for which a published key is not used.

/// Longest `kid` of a key, in bytes.
pub const MAX_KID_BYTES: usize = 128;

/// The reason for which one key of a set is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum KeyRejection {
    #[error("not an object")]
    NotAnObject,
    #[error("kid is missing, or is not 1 to {MAX_KID_BYTES} printable ASCII characters")]
    KeyId,
    #[error("a symmetric or private key was published")]
    Secret,
    #[error("not for signatures (use, key_ops)")]
    Purpose,
    #[error("alg is missing, or not one this issuer may use")]
    Algorithm,
    #[error("kty or crv does not go with alg")]
    KeyType,
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
