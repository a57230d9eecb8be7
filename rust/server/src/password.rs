//! Passwords: argon2id, a bounded number at a time, and the same time spent on accounts that do not exist.

use std::sync::Arc;

use anyhow::Context;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// Hashes and checks passwords off the request's thread. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    places: Arc<Semaphore>,
    /// Checked against when there is no account, so that the time taken tells nothing.
    nobody: Arc<str>,
}

impl Passwords {
    pub fn new() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let nobody = hash("nobody has this password")?.into();
        Ok(Self { places: Arc::new(Semaphore::new(cores)), nobody })
    }

    pub async fn hash(&self, password: String) -> anyhow::Result<String> {
        let _place = self.places.acquire().await?;
        tokio::task::spawn_blocking(move || hash(&password)).await?
    }

    /// Whether `password` is the one hashed in `stored`; false, after as long, when there is none.
    pub async fn matches(&self, password: String, stored: Option<String>) -> anyhow::Result<bool> {
        let _place = self.places.acquire().await?;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.to_string());
        let matched = tokio::task::spawn_blocking(move || {
            PasswordHash::new(&stored)
                .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
        })
        .await?;
        Ok(matched && known)
    }
}

// argon2id v19 with m=19456 KiB, t=2, p=1: the crate's default and OWASP's minimum.
fn hash(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|error| anyhow::anyhow!("{error}")).context("cannot hash the password")?.to_string())
}
