//! The server key: held in a type that does not print.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{ClientError, Fault};

/// Every server key begins with this, so that a scanner finds one that leaked.
pub const SERVER_KEY_PREFIX: &str = "gsk_";

/// Proves to the backend that a dedicated server is one of ours.
#[derive(Clone)]
pub struct ServerKey(SecretString);

impl ServerKey {
    /// Takes a key as it was printed by the backend; surrounding white space is dropped.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        let well_formed = text.starts_with(SERVER_KEY_PREFIX)
            && (20..=256).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if well_formed {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(ClientError::new(
                Fault::NotConfigured,
                "the server key is malformed: it begins with gsk_ and holds letters, digits, '_' and '-'",
            ))
        }
    }

    /// Reads a key from a file.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ClientError::new(Fault::NotConfigured, format!("server key file {}: {error}", path.display()))
        })?;
        Self::parse(&text)
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("ServerKey(…)")
    }
}

/// A key for tests.
#[cfg(test)]
pub(crate) fn example_key() -> ServerKey {
    ServerKey::parse("gsk_live_0123456789abcdef0123456789abcdef").expect("well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints_itself() {
        let key = ServerKey::parse("gsk_live_abcdefghijklmnopqrstuvwxyz\n").expect("well formed");
        assert!(!format!("{key:?}").contains("abc"));
        assert_eq!(key.expose(), "gsk_live_abcdefghijklmnopqrstuvwxyz");
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let error = ServerKey::parse("hunter2 hunter2 hunter2 hunter2").expect_err("refused");
        assert_eq!(error.code(), "not_configured");
        assert!(!error.message.contains("hunter2"));
    }
}
