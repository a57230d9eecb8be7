//! Passwords: argon2id, a bounded number at a time, and the same time spent on accounts that do not exist. They are hashed in the
//! normal form of RFC 8265.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use backend_protocol::{Code, unicode};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::http::{ApiError, ApiResult};

/// Requests that wait for their turn, per core: about half a second's work. More are sent away.
const MAX_WAITING_PER_CORE: usize = 16;

/// Which form of the password was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Normal,
    /// As it was typed, by a version that did not normalise.
    AsTyped,
}

/// Hashes and checks passwords off the request's thread. Cheap to clone.
#[derive(Clone)]
pub struct PasswordHashes {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    max_waiting: usize,
    /// Checked against when there is no account, so that both take the same time.
    dummy_hash: Arc<str>,
}

impl PasswordHashes {
    pub fn new() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let dummy_hash = hash("nobody has this password")?.into();
        Ok(Self {
            permits: Arc::new(Semaphore::new(cores)),
            waiting: Arc::default(),
            max_waiting: cores * MAX_WAITING_PER_CORE,
            dummy_hash,
        })
    }

    /// Each hash takes 19 MiB and a core for 20 ms: as many at a time as there are cores.
    async fn permit(&self) -> ApiResult<SemaphorePermit<'_>> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.max_waiting {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(ApiError::later(Code::RateLimited, 1, "too many logins at the moment"));
        }
        let permit = self.permits.acquire().await;
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        permit.map_err(|error| anyhow::Error::from(error).into())
    }

    pub async fn hash(&self, password: String) -> ApiResult<String> {
        let _permit = self.permit().await?;
        let hashed = tokio::task::spawn_blocking(move || hash(&password)).await;
        Ok(hashed.map_err(anyhow::Error::from)??)
    }

    /// Whether `password` is the one hashed in `stored`, and in which form; none, after as long, when there is none.
    pub async fn matches(&self, password: String, stored: Option<String>) -> ApiResult<Option<Form>> {
        let _permit = self.permit().await?;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy_hash.to_string());
        let matched = tokio::task::spawn_blocking(move || {
            let parsed = PasswordHash::new(&stored).ok()?;
            let is = |form: &str| Argon2::default().verify_password(form.as_bytes(), &parsed).is_ok();
            let normal = unicode::password(&password);
            if is(&normal) {
                Some(Form::Normal)
            } else {
                (*normal != *password && is(&password)).then_some(Form::AsTyped)
            }
        })
        .await
        .map_err(anyhow::Error::from)?;
        Ok(matched.filter(|_| known))
    }
}

// argon2id v19 with m=19456 KiB, t=2, p=1: the crate's default and OWASP's minimum.
fn hash(password: &str) -> anyhow::Result<String> {
    let hash = Argon2::default().hash_password(unicode::password(password).as_bytes());
    Ok(hash.map_err(|error| anyhow::anyhow!("{error}")).context("cannot hash the password")?.to_string())
}
