//! The little that is kept on disk: sessions and public keys.

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::private_files::{make_folder, open_private, private_file, sync_folder};

/// Named blobs. A write is there completely and durably, or not at all.
pub trait Storage: Send + Sync {
    /// The blob, or `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Replaces the blob; durable when it returns.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes the blob if it is there.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Locks `name` among everybody who uses this storage, other processes too. `None` while somebody else has it. It ends
    /// with the lock that is returned, or with the process.
    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>>;
}

/// A lock of [`Storage::try_lock`].
pub type Lock = Box<dyn Send + Sync>;

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).read(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).write(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        (**self).try_lock(name)
    }
}

/// Files in one folder, readable by the owner only.
#[derive(Debug)]
pub struct FileStorage {
    folder: PathBuf,
    /// Where an earlier version kept the same blobs.
    former: Vec<PathBuf>,
}

impl FileStorage {
    /// Keeps blobs in `folder`, which is made at the first write.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), former: Vec::new() }
    }

    /// What is not there yet is read from these folders.
    #[must_use]
    pub fn with_former(mut self, former: impl IntoIterator<Item = PathBuf>) -> Self {
        self.former = former.into_iter().collect();
        self
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        if plain {
            Ok(self.folder.join(name))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "storage names hold A-Z, a-z, 0-9, '_', '.', '-'",
            ))
        }
    }
}

impl Storage for FileStorage {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let own = self.path(name)?;
        for path in std::iter::once(own).chain(self.former.iter().map(|former| former.join(name))) {
            match open_private(&path, OpenOptions::new().read(true)) {
                Ok(mut file) => {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes)?;
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    // Temporary file, fsync, rename, fsync of the folder: a crash leaves the old blob or the new one.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        make_folder(&self.folder)?;
        let unfinished = self.folder.join(format!(".{name}.{}", uuid::Uuid::new_v4()));
        let written = private_file(&unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            // The old blob is untouched; a left-over file would only be litter.
            let _litter = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_folder(&self.folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let own = self.path(name)?;
        for path in self.former.iter().map(|former| former.join(name)).chain([own]) {
            match fs::remove_file(&path) {
                Ok(()) => path.parent().map_or(Ok(()), sync_folder)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    // A file of its own, which stays: one that is replaced or removed would be locked by two.
    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let path = self.path(&format!("{name}.lock"))?;
        make_folder(&self.folder)?;
        let file = open_private(&path, OpenOptions::new().write(true).create(true).truncate(false))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Blobs that live as long as the process: for games that must leave no trace, and for tests.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    locked: Arc<Mutex<HashSet<String>>>,
}

struct MemoryLock {
    name: String,
    locked: Arc<Mutex<HashSet<String>>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

impl Storage for MemoryStorage {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let locked = Arc::clone(&self.locked);
        if !self.locked.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { name: name.to_owned(), locked })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_replaced_whole_and_private() {
        let folder = tempfile::tempdir().expect("folder");
        let storage = FileStorage::new(folder.path().join("made at first write"));
        assert_eq!(storage.read("session").expect("reads"), None);
        storage.write("session", b"one").expect("writes");
        storage.write("session", b"two").expect("writes");
        assert_eq!(storage.read("session").expect("reads").as_deref(), Some(&b"two"[..]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join("made at first write/session");
            assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
        }
        storage.remove("session").expect("removes");
        storage.remove("session").expect("is gone already");
        assert_eq!(storage.read("session").expect("reads"), None);
    }

    #[test]
    fn what_was_kept_elsewhere_is_read_until_it_is_written() {
        let place = tempfile::tempdir().expect("folder");
        let (former, folder) = (place.path().join("former"), place.path().join("now"));
        FileStorage::new(&former).write("session", b"one").expect("writes");
        let storage = FileStorage::new(&folder).with_former([former.clone()]);
        assert_eq!(storage.read("session").expect("reads").as_deref(), Some(&b"one"[..]));
        storage.write("session", b"two").expect("writes");
        assert_eq!(storage.read("session").expect("reads").as_deref(), Some(&b"two"[..]));
        storage.remove("session").expect("removes");
        assert_eq!(storage.read("session").expect("reads"), None);
        assert_eq!(FileStorage::new(&former).read("session").expect("reads"), None);
    }

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().expect("folder");
        let files: [Box<dyn Storage>; 2] =
            [Box::new(FileStorage::new(folder.path())), Box::new(MemoryStorage::default())];
        for storage in files {
            let lock = storage.try_lock("session").expect("locks").expect("is free");
            assert!(storage.try_lock("session").expect("asks").is_none(), "is held");
            assert!(storage.try_lock("other").expect("locks").is_some(), "another one");
            drop(lock);
            assert!(storage.try_lock("session").expect("locks").is_some(), "is free again");
        }
    }

    #[test]
    fn names_cannot_leave_the_folder() {
        let storage = FileStorage::new("/nowhere");
        for name in ["../session", "a/b", "", ".hidden", "nul\0"] {
            assert_eq!(storage.write(name, b"").expect_err(name).kind(), io::ErrorKind::InvalidInput);
        }
    }
}
