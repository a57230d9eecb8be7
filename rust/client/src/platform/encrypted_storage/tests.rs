use std::sync::Arc;

use super::*;
use crate::platform::storage::{FileStorage, MemoryStorage};

#[test]
fn what_is_sealed_opens_again_and_shows_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let storage = SealedStorage::new(FileStorage::new(folder.path()));
    storage.write("ada.session", b"a refresh token").expect("writes");
    let again = SealedStorage::new(FileStorage::new(folder.path()));
    assert_eq!(again.read("ada.session").expect("reads").as_deref(), Some(&b"a refresh token"[..]));
    for file in std::fs::read_dir(folder.path()).expect("listed") {
        let bytes = std::fs::read(file.expect("entry").path()).expect("read");
        assert!(!bytes.windows(7).any(|part| part == b"refresh"), "in clear text");
    }
    again.remove("ada.session").expect("removes");
    assert_eq!(again.read("ada.session").expect("reads"), None);
}

#[test]
fn what_was_changed_moved_or_copied_without_its_key_does_not_open() {
    let inner = Arc::new(MemoryStorage::default());
    let storage = SealedStorage::new(Arc::clone(&inner));
    storage.write("ada", b"secret").expect("writes");
    let sealed = inner.read("ada").expect("reads").expect("there");
    inner.write("bob", &sealed).expect("moved");
    assert_eq!(storage.read("bob").expect("reads"), None, "a blob under another name");
    for at in [0, MAGIC.len(), MAGIC.len() + NONCE_LEN, sealed.len() - 1] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        inner.write("ada", &changed).expect("changed");
        assert_eq!(storage.read("ada").expect("reads"), None, "byte {at} changed");
    }
    for end in 0..=MAGIC.len() + NONCE_LEN {
        inner.write("ada", &sealed[..end]).expect("cut");
        assert_eq!(storage.read("ada").expect("reads"), None, "cut at {end}");
    }
    let elsewhere = SealedStorage::new(MemoryStorage::default());
    elsewhere.inner.write("ada", &sealed).expect("copied");
    assert_eq!(elsewhere.read("ada").expect("reads"), None, "without the key");
}

#[test]
fn of_many_that_start_at_once_one_makes_the_key() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("folder");
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let storage = SealedStorage::new(FileStorage::new(folder.path()));
                scope.spawn(move || storage.write(name, b"secret").expect("writes"));
            }
        });
        let later = SealedStorage::new(FileStorage::new(folder.path()));
        for name in ["a", "b", "c", "d"] {
            assert_eq!(later.read(name).expect("reads").as_deref(), Some(&b"secret"[..]), "{name}");
        }
    }
}

#[test]
fn the_same_content_looks_different_each_time() {
    let inner = Arc::new(MemoryStorage::default());
    let storage = SealedStorage::new(Arc::clone(&inner));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        storage.write("ada", b"secret").expect("writes");
        assert!(seen.insert(inner.read("ada").expect("reads")), "a nonce came twice");
    }
}
