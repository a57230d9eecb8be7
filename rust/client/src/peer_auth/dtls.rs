//! What a game server shows to players who connect with DTLS.
//!
//! The certificate travels with the server's registration, and to players with their ticket, over the backend's TLS. They
//! accept this one and no other, so that it needs no authority, no name and no renewal.

use std::path::Path;

use backend_protocol::registration::check_certificate;
use rcgen::generate_simple_self_signed;
use secrecy::{ExposeSecret, SecretString};

use crate::error::ClientError;

/// The name in a generated certificate. Nobody checks it: the certificate itself is pinned.
const NAME: &str = "game-server";
/// Most bytes of a key file.
const MAX_KEY_BYTES: u64 = 16 * 1024;

/// A certificate and its private key.
pub struct Identity {
    /// PEM, self-signed. Public.
    pub certificate: String,
    key: SecretString,
}

impl Identity {
    /// The private key, PEM, PKCS #8. For the engine's DTLS, and nowhere else.
    pub fn expose_key(&self) -> &str {
        self.key.expose_secret()
    }

    /// A fresh one, for as long as this process lives. ECDSA on P-256; takes less than a millisecond.
    pub fn generate() -> Result<Self, ClientError> {
        let made = generate_simple_self_signed([NAME.to_owned()])
            .map_err(|error| ClientError::field("dtls", format!("no certificate could be made: {error}")))?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem().into() })
    }

    /// One of the operator's own: a self-signed certificate and its key, both PEM.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, ClientError> {
        let pem = read("dtls_certificate_file", certificate)?;
        check_certificate(&pem).map_err(|error| {
            ClientError::field("dtls_certificate_file", format!("{}: {}", certificate.display(), error.rule))
        })?;
        let secret = read("dtls_key_file", key)?;
        if !secret.contains("PRIVATE KEY-----") {
            return Err(ClientError::field(
                "dtls_key_file",
                format!("{} holds no private key in PEM form", key.display()),
            ));
        }
        Ok(Self { certificate: pem, key: secret.into() })
    }
}

fn read(field: &'static str, path: &Path) -> Result<String, ClientError> {
    let refuse = |why: String| ClientError::field(field, format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > MAX_KEY_BYTES {
        return Err(refuse("has more than 16 KiB".to_owned()));
    }
    std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_identity_is_new_each_time_and_fit_for_registration() {
        let (one, other) = (Identity::generate().expect("one"), Identity::generate().expect("other"));
        assert!(check_certificate(&one.certificate).is_ok());
        assert!(one.expose_key().contains("BEGIN PRIVATE KEY"));
        assert_ne!(one.certificate, other.certificate);
    }

    #[test]
    fn files_are_read_and_mistakes_are_named() {
        let folder = tempfile::tempdir().expect("folder");
        let made = Identity::generate().expect("identity");
        let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
        std::fs::write(&certificate, &made.certificate).expect("certificate");
        std::fs::write(&key, made.expose_key()).expect("key");
        let read = Identity::from_files(&certificate, &key).expect("both");
        assert_eq!(read.certificate, made.certificate);

        let field = |result: Result<Identity, ClientError>| result.err().and_then(|error| error.field);
        // The two swapped: the key would have been published.
        assert_eq!(field(Identity::from_files(&key, &certificate)).as_deref(), Some("dtls_certificate_file"));
        assert_eq!(field(Identity::from_files(&certificate, &certificate)).as_deref(), Some("dtls_key_file"));
        let absent = folder.path().join("absent");
        assert_eq!(field(Identity::from_files(&certificate, &absent)).as_deref(), Some("dtls_key_file"));
    }
}
