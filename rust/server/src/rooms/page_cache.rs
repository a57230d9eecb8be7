//! Pages of rooms that were read a moment ago.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::http::etag::Tagged;

/// How old a page may be of which this process knows no change. Heartbeats are seconds apart.
const FRESH: Duration = Duration::from_millis(100);
/// Most pages that are kept: 20 MB. They are old soon enough.
const PAGES: usize = 256;

/// A page, since when it may have been read, and how many changes it shows at least.
pub struct Kept {
    pub at: Instant,
    pub changes: u64,
    pub page: Tagged,
}

/// The pages by what was asked for.
#[derive(Default)]
pub struct Pages {
    kept: RwLock<HashMap<String, Kept>>,
    changes: AtomicU64,
}

impl Pages {
    /// Something was committed that lists may show: pages that were read before are not shown any more.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// How often this process has changed what lists show.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub fn fresh(&self, key: &str) -> Option<Tagged> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = |kept: &&Kept| kept.at.elapsed() < FRESH && kept.changes == self.changes();
        kept.get(key).filter(fresh).map(|kept| kept.page.clone())
    }

    pub fn keep(&self, key: String, page: Kept) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PAGES {
            kept.clear();
        }
        kept.insert(key, page);
    }
}
