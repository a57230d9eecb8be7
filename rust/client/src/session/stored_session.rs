//! The session on disk, which all processes that use its profile share.
//!
//! A refresh token is good once. Two processes that trade the same one look to the backend like a thief and a victim, and
//! the session ends. So whoever trades a token holds the profile's lock, and reads first what is on disk: another process
//! may have traded the token meanwhile, and what it got is then the one that is good.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Active, Session};
use crate::error::{ClientError, Fault};
use crate::platform::storage::{Lock, Storage};

/// Time between two attempts to get the lock.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for it. Another process holds it for as long as its own call to the backend takes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(20);

/// What is kept on disk. The access token is not: it lives minutes.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSession {
    pub player_id: String,
    pub display_name: String,
    pub refresh_token: String,
}

/// The profile is this process's own for as long as this lives.
pub(super) struct ProfileLock {
    _lock: Option<Lock>,
}

/// The refresh token to use next.
pub(super) struct Newest {
    pub token: SecretString,
    /// Whether the file is this player's to replace or remove: another process may have logged in somebody else.
    pub owns_file: bool,
}

impl Session {
    /// Waits until no other process uses the profile. An error after [`LOCK_TIMEOUT`] that counts as "no answer": the session
    /// goes on, and the next attempt follows.
    pub(super) async fn lock_profile(&self) -> Result<ProfileLock, ClientError> {
        let deadline = self.0.clock.now() + LOCK_TIMEOUT;
        loop {
            let name = self.file();
            match self.on_disk(move |storage| storage.try_lock(&name)).await {
                Ok(Some(lock)) => return Ok(ProfileLock { _lock: Some(lock) }),
                Ok(None) if self.0.clock.now() < deadline => self.0.clock.sleep(LOCK_RETRY_INTERVAL).await,
                Ok(None) => {
                    return Err(ClientError::new(
                        Fault::Timeout,
                        format!(
                            "another process has been renewing the session of the profile \"{}\" for {} s; end it, or use \
                             another profile with --backend-profile=",
                            self.0.profile,
                            LOCK_TIMEOUT.as_secs()
                        ),
                    ));
                }
                // A disk without locks, or a full one: no reason to keep the player out.
                Err(error) => {
                    tracing::warn!(message = %error, "the profile's lock does not work; use it in one process only");
                    return Ok(ProfileLock { _lock: None });
                }
            }
        }
    }

    /// The session on disk, if there is one that can be read.
    pub(super) async fn kept(&self) -> Result<Option<StoredSession>, ClientError> {
        let name = self.file();
        let bytes = self.on_disk(move |storage| storage.read(&name)).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The refresh token that is good for the player of `active`. Call it with the profile locked.
    pub(super) async fn newest(&self, active: &Active) -> Newest {
        // Unreadable: then our own is the best there is.
        match self.kept().await.ok().flatten() {
            Some(kept) if kept.player_id == active.account.player_id => {
                Newest { token: kept.refresh_token.into(), owns_file: true }
            }
            Some(_) => Newest { token: active.refresh_token.clone(), owns_file: false },
            None => Newest { token: active.refresh_token.clone(), owns_file: true },
        }
    }

    /// Puts the session on disk. Call it with the profile locked.
    pub(super) async fn keep(&self, kept: &StoredSession) -> Result<(), ClientError> {
        let bytes = serde_json::to_vec(kept)
            .map_err(|error| ClientError::new(Fault::Internal, format!("session: {error}")))?;
        let name = self.file();
        // A full disk must not keep a player out: the session then lasts as long as the process.
        if let Err(error) = self.on_disk(move |storage| storage.write(&name, &bytes)).await {
            tracing::warn!(message = %error, "the session could not be kept for the next start");
        }
        Ok(())
    }

    /// Removes the session from disk. Call it with the profile locked.
    pub(super) async fn forget(&self) -> Result<(), ClientError> {
        let name = self.file();
        self.on_disk(move |storage| storage.remove(&name)).await
    }

    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Storage) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, ClientError> {
        let storage = std::sync::Arc::clone(&self.0.storage);
        tokio::task::spawn_blocking(move || work(storage.as_ref()))
            .await
            .map_err(|error| ClientError::new(Fault::Internal, error.to_string()))?
            .map_err(|error| ClientError::new(Fault::Storage, format!("session file: {error}")))
    }

    fn file(&self) -> String {
        format!("{}.{}.session", self.0.profile, self.0.backend.name())
    }
}

impl Newest {
    pub(super) fn expose(&self) -> String {
        self.token.expose_secret().to_owned()
    }
}
