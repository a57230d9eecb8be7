//! Whether the database has changed. Asked with every request, so that what was read from rows answers while it has not.

mod postgres;
mod sqlite;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postgres::Watcher;
use sqlite::Watchers;

/// Most watchers: each of SQLite's holds two file descriptors, and what was read through one is remembered for each.
const MAX_WATCHERS: usize = 8;

/// A state of the database, as one watcher knows it. Between two equal ones nothing was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DbVersion {
    watcher: usize,
    number: i64,
}

/// The detector of one database.
pub enum ChangeDetector {
    Sqlite(Watchers),
    Postgres(Watcher),
}

impl ChangeDetector {
    /// Of the SQLite file at `path`. Fails where the answer could not be relied on.
    pub fn of_sqlite(path: &str) -> anyhow::Result<Self> {
        Ok(Self::Sqlite(Watchers::of(path)?))
    }

    /// Of the PostgreSQL at `url`. Fails where the answer could not be relied on.
    pub async fn of_postgres(url: &str) -> anyhow::Result<Self> {
        Ok(Self::Postgres(Watcher::of(url).await?))
    }

    /// A version no older than this call, and the time by the database's clock then. SQLite's is there at once.
    /// None: unknown.
    pub async fn now(&self) -> Option<(DbVersion, i64)> {
        match self {
            Self::Sqlite(watchers) => watchers.now(),
            Self::Postgres(watcher) => watcher.now().await,
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite(watchers) => watchers.close(),
            Self::Postgres(watcher) => watcher.close().await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was read from rows, for as long as nothing was committed to the database.
pub struct VersionedCache<V>([Mutex<Rows<V>>; MAX_WATCHERS]);

/// Those of one version of the database.
struct Rows<V> {
    version: i64,
    by_key: HashMap<String, Arc<V>>,
}

/// Most rows that are remembered for each watcher: some 1 MB.
const MAX_ROWS: usize = 4_096;

impl<V> Default for VersionedCache<V> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(Rows { version: 0, by_key: HashMap::new() })))
    }
}

impl<V> VersionedCache<V> {
    /// The value that was cached under `key` at `version`.
    pub fn get(&self, version: DbVersion, key: &str) -> Option<Arc<V>> {
        let rows = lock(&self.0[version.watcher]);
        if rows.version == version.number { rows.by_key.get(key).cloned() } else { None }
    }

    /// Caches what was read after `version` was determined.
    pub fn insert(&self, version: DbVersion, key: String, value: Arc<V>) {
        let mut rows = lock(&self.0[version.watcher]);
        if rows.version != version.number || rows.by_key.len() >= MAX_ROWS {
            rows.version = version.number;
            rows.by_key.clear();
        }
        rows.by_key.insert(key, value);
    }
}

#[cfg(test)]
mod tests;
