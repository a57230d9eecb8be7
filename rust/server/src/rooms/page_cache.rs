//! Pages of rooms that were read less than 100 ms ago.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::http::etag::EtaggedJson;

/// Maximum age of a page if this process knows of no change. Heartbeats are seconds apart.
const MAX_AGE: Duration = Duration::from_millis(100);
/// Most pages in the cache: 20 MB. They expire soon enough.
const MAX_PAGES: usize = 256;

/// A page, since when it may have been read, and which revision it shows at least.
pub struct CachedPage {
    pub at: Instant,
    pub revision: u64,
    pub page: EtaggedJson,
}

/// The pages by their query string.
#[derive(Default)]
pub struct PageCache {
    pages: RwLock<HashMap<String, CachedPage>>,
    revision: AtomicU64,
}

impl PageCache {
    /// Invalidates all pages, after a commit that changes rooms.
    pub fn invalidate(&self) {
        self.revision.fetch_add(1, Ordering::SeqCst);
    }

    /// Number of changes that this process has made to rooms.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }

    pub fn get(&self, key: &str) -> Option<EtaggedJson> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = |page: &&CachedPage| page.at.elapsed() < MAX_AGE && page.revision == self.revision();
        pages.get(key).filter(fresh).map(|cached| cached.page.clone())
    }

    pub fn insert(&self, key: String, page: CachedPage) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= MAX_PAGES {
            pages.clear();
        }
        pages.insert(key, page);
    }
}
