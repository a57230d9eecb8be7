//! The copy of the public keys on disk: what lets a server that restarts during an outage admit players.
//!
//! Whoever can write that file could make himself a player of any name, so it is sealed with the server key where there is
//! one; without one the mac only finds damage, and the folder's permissions have to do.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::MAX_STALE_TIME;
use crate::platform::secret::ServerKey;

/// Largest copy looked at, in bytes: a key set in base64, and names.
const MAX_COPY: usize = 256 * 1024;
/// How far ahead of this machine's clock a copy may be dated, for clocks that were set back a little.
const MAX_AHEAD: u64 = 300;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedKeys {
    pub issuer: String,
    /// Seconds since 1970.
    pub fetched_at: u64,
    /// The key set as it was published.
    pub document: Vec<u8>,
    /// Names that the backend withdrew.
    pub withdrawn: Vec<String>,
}

/// Why a copy is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("it is damaged")]
    Damaged,
    #[error("it was not sealed with this server's key, or changed since")]
    BadMac,
    #[error("it is another issuer's")]
    OtherIssuer,
    #[error("it is older than a day, or from the future")]
    TooOld,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    content: String,
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    issuer: String,
    fetched_at: u64,
    document: String,
    withdrawn: Vec<String>,
}

/// Closes and opens copies.
pub struct Mac(hmac::Key);

impl Mac {
    pub fn with(server_key: Option<&ServerKey>) -> Self {
        // The server key seals nothing itself: what it is used for here must say nothing about it elsewhere.
        let secret = server_key.map_or("", ServerKey::expose);
        let derived =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), b"public key copy v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    pub fn close(&self, kept: &CachedKeys) -> Vec<u8> {
        let content = serde_json::json!({
            "issuer": kept.issuer,
            "fetched_at": kept.fetched_at,
            "document": URL_SAFE_NO_PAD.encode(&kept.document),
            "withdrawn": kept.withdrawn,
        })
        .to_string();
        let mac = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, content.as_bytes()));
        serde_json::json!({"content": content, "mac": mac}).to_string().into_bytes()
    }

    /// What was kept for `issuer`, and how old it is at `now` (seconds since 1970).
    pub fn open(&self, sealed: &[u8], issuer: &str, now: u64) -> Result<(CachedKeys, Duration), CacheError> {
        if sealed.len() > MAX_COPY {
            return Err(CacheError::Damaged);
        }
        let sealed: Sealed = serde_json::from_slice(sealed).map_err(|_| CacheError::Damaged)?;
        let mac = URL_SAFE_NO_PAD.decode(&sealed.mac).map_err(|_| CacheError::Damaged)?;
        // Before anything is read from it.
        hmac::verify(&self.0, sealed.content.as_bytes(), &mac).map_err(|_| CacheError::BadMac)?;
        let content: Content = serde_json::from_str(&sealed.content).map_err(|_| CacheError::Damaged)?;
        if content.issuer != issuer {
            return Err(CacheError::OtherIssuer);
        }
        let age = Duration::from_secs(now.saturating_sub(content.fetched_at));
        if age >= MAX_STALE_TIME || content.fetched_at > now.saturating_add(MAX_AHEAD) {
            return Err(CacheError::TooOld);
        }
        let document = URL_SAFE_NO_PAD.decode(&content.document).map_err(|_| CacheError::Damaged)?;
        let Content { issuer, fetched_at, withdrawn, .. } = content;
        Ok((CachedKeys { issuer, fetched_at, document, withdrawn }, age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 4_000_000_000;

    fn mac(key: &str) -> Mac {
        Mac::with(Some(&ServerKey::parse(&format!("gsk_live_{key:0>40}")).expect("a key")))
    }

    fn kept() -> CachedKeys {
        CachedKeys {
            issuer: "us".into(),
            fetched_at: NOW,
            document: b"{\"keys\":[]}".to_vec(),
            withdrawn: vec!["k0".into()],
        }
    }

    #[test]
    fn a_copy_comes_back_with_its_age() {
        let sealed = mac("a").close(&kept());
        assert_eq!(mac("a").open(&sealed, "us", NOW + 60), Ok((kept(), Duration::from_secs(60))));
    }

    #[test]
    fn a_copy_sealed_with_another_key_is_refused() {
        assert_eq!(mac("b").open(&mac("a").close(&kept()), "us", NOW), Err(CacheError::BadMac));
        assert_eq!(mac("b").open(&Mac::with(None).close(&kept()), "us", NOW), Err(CacheError::BadMac));
    }

    #[test]
    fn no_changed_byte_is_taken() {
        let sealed = mac("a").close(&kept());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(mac("a").open(&changed, "us", NOW).is_err(), "{place}");
        }
    }

    #[test]
    fn a_copy_is_bound_to_its_issuer_and_to_a_day() {
        let sealed = mac("a").close(&kept());
        assert_eq!(mac("a").open(&sealed, "them", NOW), Err(CacheError::OtherIssuer));
        assert_eq!(mac("a").open(&sealed, "us", NOW + 24 * 3_600), Err(CacheError::TooOld));
        assert_eq!(mac("a").open(&sealed, "us", NOW - 301), Err(CacheError::TooOld));
        assert_eq!(mac("a").open(&b" ".repeat(MAX_COPY + 1), "us", NOW), Err(CacheError::Damaged));
    }
}
