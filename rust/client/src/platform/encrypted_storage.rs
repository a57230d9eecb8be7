//! Blobs that nobody can read who only has the file: AES-256-GCM, under a key of this user on this machine.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;

use super::storage::{Lock, Storage};

const KEY_BYTES: usize = 32;
/// Longest wait for another process that makes the key: it writes one small file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Begins every sealed blob: what it is, and how it is sealed.
const MAGIC: &[u8; 8] = b"bcseal1\n";
/// The blob with the key, where the system keeps no keys for us.
const KEY_NAME: &str = "storage.key";
#[cfg(any(target_os = "windows", target_os = "macos"))]
const SERVICE: &str = "backend_client";

/// Encrypts what `inner` keeps. A blob is bound to its name; one that does not open counts as absent.
///
/// The key is in the system's key store (Credential Manager, Keychain) where there is one, otherwise in a blob of its own
/// that only the owner may read, bound to the machine's id: a folder that is copied to another machine opens nothing.
pub struct SealedStorage<S> {
    inner: S,
    key: OnceLock<[u8; KEY_BYTES]>,
}

impl<S: Storage> SealedStorage<S> {
    /// Seals what goes to `inner`. The key is made at the first write.
    pub const fn new(inner: S) -> Self {
        Self { inner, key: OnceLock::new() }
    }

    fn key(&self) -> io::Result<RandomizedNonceKey> {
        let bytes = match self.key.get() {
            Some(bytes) => bytes,
            None => {
                let bytes = self.system_key().or_else(|| self.own_key().transpose()).transpose()?;
                let bytes = bytes.ok_or_else(|| io::Error::other("no key"))?;
                self.key.get_or_init(|| bytes)
            }
        };
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map_err(|_| io::Error::other("the key cannot be used"))
    }

    /// From the system's key store; `None` where there is none, or it does not open.
    #[cfg(any(target_os = "windows", target_os = "macos"))]
    fn system_key(&self) -> Option<io::Result<[u8; KEY_BYTES]>> {
        use keyring_core::Error;
        use keyring_core::api::CredentialStoreApi as _;

        #[cfg(target_os = "macos")]
        let store = apple_native_keyring_store::keychain::Store::new();
        #[cfg(target_os = "windows")]
        let store = windows_native_keyring_store::Store::new();
        let entry = store.and_then(|store| store.build(SERVICE, KEY_NAME, None));
        let outcome = entry.and_then(|entry| match entry.get_secret() {
            Err(Error::NoEntry) => {
                let made = fresh().map_err(|error| Error::PlatformFailure(Box::new(error)))?;
                entry.set_secret(&made)?;
                Ok(made.to_vec())
            }
            other => other,
        });
        match outcome {
            Ok(bytes) => bytes.try_into().ok().map(Ok),
            Err(error) => {
                tracing::warn!("the system's key store does not open, a key file is used: {error}");
                None
            }
        }
    }

    #[cfg(not(any(target_os = "windows", target_os = "macos")))]
    #[expect(clippy::unused_self, reason = "as on systems with a key store")]
    const fn system_key(&self) -> Option<io::Result<[u8; KEY_BYTES]>> {
        None
    }

    fn own_key(&self) -> io::Result<Option<[u8; KEY_BYTES]>> {
        let whole = |kept: Option<Vec<u8>>| kept.filter(|kept| kept.len() == KEY_BYTES);
        let kept = match whole(self.inner.read(KEY_NAME)?) {
            Some(kept) => kept,
            None => {
                // Of two processes that start for the first time, one makes it.
                let _lock = self.wait_for_lock();
                if let Some(kept) = whole(self.inner.read(KEY_NAME)?) {
                    kept
                } else {
                    let made = fresh()?;
                    self.inner.write(KEY_NAME, &made)?;
                    made.to_vec()
                }
            }
        };
        let bound = digest(&SHA256, &[&kept, machine_id().as_bytes()].concat());
        Ok(bound.as_ref().try_into().ok())
    }

    /// `None` where there are no locks, or nobody lets go of this one.
    fn wait_for_lock(&self) -> Option<Lock> {
        let begin = Instant::now();
        loop {
            match self.inner.try_lock(KEY_NAME) {
                Ok(None) if begin.elapsed() < LOCK_TIMEOUT => std::thread::sleep(LOCK_RETRY_INTERVAL),
                outcome => return outcome.ok().flatten(),
            }
        }
    }

    fn opened(&self, name: &str, sealed: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(rest) = sealed.strip_prefix(MAGIC) else { return Ok(None) };
        let Some((nonce, sealed)) = rest.split_at_checked(NONCE_LEN) else { return Ok(None) };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else { return Ok(None) };
        let mut bytes = sealed.to_vec();
        let opened = self.key()?.open_in_place(nonce, Aad::from(name.as_bytes()), &mut bytes);
        Ok(opened.ok().map(|opened| opened.to_vec()))
    }
}

impl<S: Storage> Storage for SealedStorage<S> {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(sealed) = self.inner.read(name)? else { return Ok(None) };
        let opened = self.opened(name, &sealed)?;
        if opened.is_none() {
            tracing::warn!(name, "a kept file does not open on this machine, and is not used");
        }
        Ok(opened)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut sealed = bytes.to_vec();
        let nonce = self
            .key()?
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| io::Error::other("cannot be encrypted"))?;
        self.inner.write(name, &[MAGIC.as_slice(), nonce.as_ref(), &sealed].concat())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        self.inner.try_lock(name)
    }
}

fn fresh() -> io::Result<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(bytes)
}

/// Names this installation of the system; empty where nothing does, as in many containers.
fn machine_id() -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
