//! The issuer's public keys, kept fresh without ever standing in the way.
//!
//! Keys are refreshed in the background when four fifths of their time are over. While the backend is away they stay
//! usable for a day, and a copy on disk lets a server that restarts during the outage admit players. An unknown key name
//! causes at most one fetch in 30 s, so that a flood of forged tokens is not passed on to the backend. A key that the
//! backend no longer names in its heartbeat replies is dropped at once and does not come back, from nowhere.

mod copy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backend_token::KeySet;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use self::copy::{CachedKeys, Mac};
use crate::api::backend::Backend;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::rng;
use crate::platform::secret::ServerKey;
use crate::platform::storage::Storage;
use crate::registration::ActiveKids;

/// How long keys are fresh when the issuer does not say.
const DEFAULT_FRESH_TIME: Duration = Duration::from_secs(600);
/// Bounds on what the issuer says.
const MIN_FRESH_TIME: Duration = Duration::from_secs(60);
/// How old keys may become while the backend is away: also the longest that an issuer can ask for.
const MAX_STALE_TIME: Duration = Duration::from_secs(24 * 3_600);
/// Between two fetches, however many unknown names are shown.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(30);
/// Between two fetches while there is no key at all.
const MIN_FIRST_FETCH_INTERVAL: Duration = Duration::from_secs(1);
/// Most names remembered as unknown to the issuer.
const MAX_UNKNOWN: usize = 1_000;
/// Most names remembered as withdrawn.
const MAX_WITHDRAWN: usize = 256;

/// A cache of one issuer's keys. Cheap to clone.
#[derive(Clone)]
pub struct KeyCache(Arc<Inner>);

struct Inner {
    issuer: String,
    backend: Arc<dyn Backend>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    mac: Mac,
    held: RwLock<Held>,
    /// Held while fetching, so that callers share one fetch.
    fetching: Mutex<Fetching>,
    refreshing: AtomicBool,
    following: std::sync::Mutex<Option<watch::Receiver<ActiveKids>>>,
}

#[derive(Default)]
struct Held {
    keys: Arc<KeySet>,
    /// As they were published, for the copy.
    document: Vec<u8>,
    etag: Option<String>,
    /// `None`: there are none.
    fetched: Option<Fetched>,
    /// Names the backend withdrew: no set that still holds them, from a cache on the way or from disk, brings them back.
    withdrawn: BTreeSet<String>,
}

#[derive(Clone, Copy)]
struct Fetched {
    at: Instant,
    /// Age the keys already had when they were read from disk.
    age: Duration,
    /// When they are to be refreshed.
    fresh_for: Duration,
}

#[derive(Default)]
struct Fetching {
    last_attempt: Option<Instant>,
    last_failure: Option<ClientError>,
    /// Name → until when the issuer is not asked for it again.
    unknown: BTreeMap<String, Instant>,
}

/// Why keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason<'a> {
    /// There are none, or they get old.
    Age,
    /// A token names a key that is not there.
    Unknown(&'a str),
    /// The backend says that there is a new one.
    Told,
}

impl KeyCache {
    /// An empty cache for the keys of `issuer`; nothing is fetched before the first use or [`Self::prepare`]. With
    /// `server_key`, the copy on disk is sealed: nobody without that key can slip in a key of his own.
    pub fn new(
        issuer: &str,
        backend: Arc<dyn Backend>,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        server_key: Option<&ServerKey>,
    ) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.to_owned(),
            backend,
            storage,
            clock,
            mac: Mac::with(server_key),
            held: RwLock::default(),
            fetching: Mutex::default(),
            refreshing: AtomicBool::new(false),
            following: std::sync::Mutex::default(),
        }))
    }

    /// Fetches the keys, or loads the copy on disk when the backend is away. Servers call it before they are ready.
    pub async fn prepare(&self) -> Result<(), ClientError> {
        match self.fetch(Reason::Age).await {
            Err(error) if self.usable().is_none() => {
                if self.load_copy().await {
                    tracing::warn!(
                        code = error.code(),
                        "the backend is unreachable; using the public keys stored on disk"
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
        let Some((keys, is_fresh)) = self.usable() else {
            return Ok(Arc::default());
        };
        if keys.contains(kid) {
            if !is_fresh {
                self.refresh_in_background();
            }
            return Ok(keys);
        }
        if self.0.read().withdrawn.contains(kid) {
            return Ok(keys);
        }
        if let Err(error) = self.fetch(Reason::Unknown(kid)).await {
            tracing::debug!(code = error.code(), "could not ask for a new key");
        }
        Ok(self.usable().map(|(keys, _)| keys).unwrap_or_default())
    }

    /// Follows what heartbeat replies say: drops keys that are withdrawn and fetches those that are new. Following the same
    /// source again changes nothing. Call on a tokio runtime.
    pub fn follow(&self, mut good: watch::Receiver<ActiveKids>) {
        {
            let mut following = self.0.following.lock().unwrap_or_else(PoisonError::into_inner);
            if following.as_ref().is_some_and(|before| before.same_channel(&good)) {
                return;
            }
            *following = Some(good.clone());
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                let kids = good.borrow_and_update().clone();
                let Some(inner) = inner.upgrade() else { return };
                if let Some(kids) = kids {
                    Self(inner).set_active_kids(&kids).await;
                }
                if good.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// These keys are good now, and no other that there was.
    async fn set_active_kids(&self, good: &[String]) {
        let (withdrawn, lacks) = {
            let mut held = self.0.write();
            let gone: Vec<String> = held
                .keys
                .kids()
                .filter(|kid| !good.iter().any(|name| name == kid))
                .map(str::to_owned)
                .collect();
            held.withdrawn.retain(|kid| !good.contains(kid));
            let room = MAX_WITHDRAWN.saturating_sub(held.withdrawn.len());
            held.withdrawn.extend(gone.iter().take(room).cloned());
            held.keys = Arc::new(held.keys.with_kids(good));
            (gone.len(), good.iter().any(|kid| !held.keys.contains(kid)))
        };
        if withdrawn > 0 {
            tracing::warn!(
                withdrawn,
                "the backend withdrew public keys: their tokens are refused from now on"
            );
        }
        if lacks && let Err(error) = self.fetch(Reason::Told).await {
            tracing::warn!(code = error.code(), "a new public key could not be fetched yet");
        }
        if withdrawn > 0 {
            // A restart must not bring back what was withdrawn.
            self.keep_copy();
        }
    }

    fn refresh_in_background(&self) {
        if self.0.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let cache = self.clone();
        tokio::spawn(async move {
            if let Err(error) = cache.fetch(Reason::Age).await {
                tracing::warn!(code = error.code(), "the public keys stay as they are");
            }
            cache.0.refreshing.store(false, Ordering::Release);
        });
    }

    /// The keys, if there are any and they are not too old, and whether they are fresh.
    fn usable(&self) -> Option<(Arc<KeySet>, bool)> {
        let held = self.0.read();
        let fetched = held.fetched?;
        let age = fetched.age + self.0.clock.now().saturating_duration_since(fetched.at);
        (age < MAX_STALE_TIME && !held.keys.is_empty())
            .then(|| (Arc::clone(&held.keys), age < fetched.fresh_for))
    }

    /// One fetch at a time, and none within 30 s of the last unless there are no keys at all or the backend says so.
    async fn fetch(&self, reason: Reason<'_>) -> Result<(), ClientError> {
        let mut fetching = self.0.fetching.lock().await;
        let now = self.0.clock.now();
        let since = fetching.last_attempt.map(|last| now.saturating_duration_since(last));
        let usable = self.usable();
        if let Reason::Unknown(kid) = reason {
            // What a fetch before this one brought, or did not.
            let arrived = usable.as_ref().is_some_and(|(keys, _)| keys.contains(kid));
            if arrived || fetching.unknown.get(kid).is_some_and(|until| *until > now) {
                return Ok(());
            }
        }
        let pause = match (reason, &usable) {
            (_, None) | (Reason::Told, _) => MIN_FIRST_FETCH_INTERVAL,
            _ => MIN_FETCH_INTERVAL,
        };
        if since.is_some_and(|since| since < pause) {
            return match (&fetching.last_failure, &usable) {
                (Some(error), None) => Err(error.clone()),
                _ => Ok(()),
            };
        }
        fetching.last_attempt = Some(now);
        let fetched = self.fetch_now(usable.is_some() && reason != Reason::Told).await;
        fetching.last_failure = fetched.as_ref().err().cloned();
        fetched?;
        if let Reason::Unknown(kid) = reason
            && !self.0.read().keys.contains(kid)
        {
            let now = self.0.clock.now();
            fetching.unknown.retain(|_, until| *until > now);
            if fetching.unknown.len() < MAX_UNKNOWN {
                fetching.unknown.insert(kid.to_owned(), now + DEFAULT_FRESH_TIME);
            }
        }
        Ok(())
    }

    async fn fetch_now(&self, unless_unchanged: bool) -> Result<(), ClientError> {
        let etag = if unless_unchanged { self.0.read().etag.clone() } else { None };
        let published = self.0.backend.key_set(etag.as_deref()).await?;
        let fresh_for =
            published.fresh_for.unwrap_or(DEFAULT_FRESH_TIME).clamp(MIN_FRESH_TIME, MAX_STALE_TIME);
        match published.document {
            Some(document) => self.0.hold(document, published.etag, Duration::ZERO, fresh_for)?,
            None if etag.is_some() => self.0.still_good(fresh_for),
            None => {
                return Err(ClientError::new(
                    Fault::BadReply,
                    "the backend sent no keys, and there are none",
                ));
            }
        }
        self.keep_copy();
        Ok(())
    }

    fn keep_copy(&self) {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let kept = {
                let held = inner.read();
                let Some(fetched) = held.fetched else { return };
                let age = fetched.age + inner.clock.now().saturating_duration_since(fetched.at);
                CachedKeys {
                    issuer: inner.issuer.clone(),
                    fetched_at: inner.clock.unix_seconds().saturating_sub(age.as_secs()),
                    document: held.document.clone(),
                    withdrawn: held.withdrawn.iter().cloned().collect(),
                }
            };
            if let Err(error) = inner.storage.write(&inner.copy_name(), &inner.mac.close(&kept)) {
                tracing::warn!(%error, "could not keep a copy of the public keys");
            }
        });
    }

    async fn load_copy(&self) -> bool {
        let inner = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || match inner.storage.read(&inner.copy_name()) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::warn!(%error, "the copy of the public keys cannot be read");
                None
            }
        });
        // Err: it panicked, or the runtime is going down.
        let Some(sealed) = read.await.ok().flatten() else { return false };
        let now = self.0.clock.unix_seconds();
        match self.0.mac.open(&sealed, &self.0.issuer, now) {
            Ok((kept, age)) => {
                self.0.write().withdrawn.extend(kept.withdrawn);
                // Refreshed as soon as the backend is back.
                let held = self.0.hold(kept.document, None, age, Duration::ZERO);
                held.is_ok() && self.usable().is_some()
            }
            Err(why) => {
                tracing::warn!(reason = %why, "the copy of the public keys is not used");
                false
            }
        }
    }
}

impl Inner {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the usable keys of `document`, if there are any: a set without is a mistake, and those before stay.
    fn hold(
        &self,
        document: Vec<u8>,
        etag: Option<String>,
        age: Duration,
        fresh_for: Duration,
    ) -> Result<(), ClientError> {
        let keys = KeySet::from_json(&self.issuer, &document, self.backend.algorithms())
            .map_err(|why| ClientError::new(Fault::BadReply, why.to_string()))?;
        if keys.is_empty() {
            return Err(ClientError::new(Fault::BadReply, "the backend publishes no usable key"));
        }
        let mut held = self.write();
        let good: Vec<String> =
            keys.kids().filter(|kid| !held.withdrawn.contains(*kid)).map(str::to_owned).collect();
        held.keys = Arc::new(keys.with_kids(&good));
        held.document = document;
        held.etag = etag;
        held.fetched = Some(Fetched { at: self.clock.now(), age, fresh_for: ahead(fresh_for) });
        Ok(())
    }

    fn still_good(&self, fresh_for: Duration) {
        let fetched = Fetched { at: self.clock.now(), age: Duration::ZERO, fresh_for: ahead(fresh_for) };
        self.write().fetched = Some(fetched);
    }

    /// One copy per backend: keys of one must never vouch for another's tokens.
    fn copy_name(&self) -> String {
        format!("{}.jwks", self.backend.name())
    }
}

/// Four fifths of it, ± a tenth, so that a fleet does not ask at the same moment.
fn ahead(fresh_for: Duration) -> Duration {
    fresh_for.mul_f64(0.72 + 0.16 * rng::fraction())
}
