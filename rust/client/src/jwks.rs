//! The backend's public keys, kept fresh without ever standing in the way.
//!
//! Keys are fetched once and refreshed ahead of their time. When the backend is away they stay usable for a day, and a
//! copy on disk lets a server that restarts during the outage admit players. An unknown key name causes at most one
//! fetch in 30 s, so that a flood of forged tokens is not passed on to the backend.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backend_protocol::validation::Jwks;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::error::ClientError;
use crate::storage::Storage;
use crate::token::KeySet;

const FRESH: Duration = Duration::from_secs(480);
const USABLE: Duration = Duration::from_secs(24 * 3_600);
const BETWEEN_FETCHES: Duration = Duration::from_secs(30);
const MAX_UNKNOWN_NAMES: usize = 1_000;

/// A cache of one issuer's keys. Cheap to clone.
#[derive(Clone)]
pub struct KeyCache(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    held: RwLock<Option<Held>>,
    /// Held while fetching, so that callers share one fetch; remembers the last attempt.
    fetching: Mutex<Fetching>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    fetched: Instant,
    /// Age the keys already had when they were read from disk.
    age: Duration,
}

#[derive(Default)]
struct Fetching {
    last_attempt: Option<Instant>,
    unknown_names: VecDeque<String>,
}

#[derive(Serialize, Deserialize)]
struct Copy {
    fetched_at: u64,
    jwks: Jwks,
}

impl KeyCache {
    /// An empty cache; nothing is fetched before the first use or [`Self::prepare`].
    pub fn new(backend: Arc<dyn Backend>, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Self {
        let held = RwLock::new(None);
        Self(Arc::new(Inner { backend, storage, clock, held, fetching: Mutex::default() }))
    }

    /// Fetches the keys, or loads the copy on disk when the backend is away. Servers call it before they are ready.
    pub async fn prepare(&self) -> Result<(), ClientError> {
        let fetched = self.fetch(None).await;
        match fetched {
            Err(error) if self.usable().is_none() => {
                if self.load_copy() {
                    tracing::warn!(
                        code = error.code(),
                        "the backend is away; using the public keys kept on disk"
                    );
                    Ok(())
                } else {
                    Err(error)
                }
            }
            _ => Ok(()),
        }
    }

    /// The keys to look for `kid` in. Fetches when there are none, or when `kid` is new and asking is allowed.
    pub async fn keys_for(&self, kid: &str) -> Result<Arc<KeySet>, ClientError> {
        if self.usable().is_none() {
            self.prepare().await?;
        }
        let Some(held) = self.usable() else {
            return Ok(Arc::default());
        };
        if held.keys.contains(kid) {
            if self.age(&held) > FRESH {
                self.refresh_in_background();
            }
            return Ok(held.keys);
        }
        match self.fetch(Some(kid)).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(code = error.code(), "could not ask for a new key"),
        }
        Ok(self.usable().map(|held| held.keys).unwrap_or_default())
    }

    fn refresh_in_background(&self) {
        let cache = self.clone();
        tokio::spawn(async move {
            if let Err(error) = cache.fetch(None).await {
                tracing::debug!(code = error.code(), "public keys stay as they are");
            }
        });
    }

    fn age(&self, held: &Held) -> Duration {
        held.age + self.0.clock.now().saturating_duration_since(held.fetched)
    }

    fn usable(&self) -> Option<Held> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        (self.age(&held) < USABLE).then_some(held)
    }

    fn hold(&self, jwks: &Jwks, age: Duration) {
        let keys = Arc::new(KeySet::from_jwks(&jwks.keys));
        let held = Held { keys, fetched: self.0.clock.now(), age };
        *self.0.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// One fetch at a time, and none within 30 s of the last unless there are no keys at all.
    async fn fetch(&self, unknown: Option<&str>) -> Result<(), ClientError> {
        let mut fetching = self.0.fetching.lock().await;
        let now = self.0.clock.now();
        let held = self.usable();
        if let Some(kid) = unknown {
            let arrived_meanwhile = held.as_ref().is_some_and(|held| held.keys.contains(kid));
            if arrived_meanwhile || fetching.unknown_names.iter().any(|name| name == kid) {
                return Ok(());
            }
        }
        let recent = fetching.last_attempt.is_some_and(|last| now - last < BETWEEN_FETCHES);
        if recent && held.is_some() {
            return Ok(());
        }
        fetching.last_attempt = Some(now);
        let jwks = self.0.backend.jwks().await?;
        self.hold(&jwks, Duration::ZERO);
        self.keep_copy(jwks);
        // What was unknown may have been published since.
        fetching.unknown_names.clear();
        if let Some(kid) = unknown
            && !self.usable().is_some_and(|held| held.keys.contains(kid))
        {
            fetching.unknown_names.push_back(kid.to_owned());
            fetching.unknown_names.truncate(MAX_UNKNOWN_NAMES);
        }
        Ok(())
    }

    fn keep_copy(&self, jwks: Jwks) {
        let copy = Copy { fetched_at: self.0.clock.unix_seconds(), jwks };
        let (storage, name) = (Arc::clone(&self.0.storage), self.copy_name());
        tokio::task::spawn_blocking(move || {
            let kept = serde_json::to_vec(&copy)
                .map_err(std::io::Error::other)
                .and_then(|bytes| storage.write(&name, &bytes));
            if let Err(error) = kept {
                tracing::warn!(%error, "could not keep a copy of the public keys");
            }
        });
    }

    /// One copy per backend: keys of one must never vouch for another's tokens.
    fn copy_name(&self) -> String {
        format!("{}.jwks", self.0.backend.name())
    }

    fn load_copy(&self) -> bool {
        let Ok(Some(bytes)) = self.0.storage.read(&self.copy_name()) else { return false };
        let Ok(copy) = serde_json::from_slice::<Copy>(&bytes) else { return false };
        let age = Duration::from_secs(self.0.clock.unix_seconds().saturating_sub(copy.fetched_at));
        self.hold(&copy.jwks, age);
        self.usable().is_some_and(|held| !held.keys.is_empty())
    }
}
