//! Where a game server is at home: one backend, and a way into its database.

use std::sync::{Mutex, MutexGuard, PoisonError};

use test_harness::backend::Backend;

use crate::ground_truth::GroundTruth;

/// A backend, and a way into its database.
pub struct Home {
    /// The backend.
    pub backend: Mutex<Backend>,
    /// A way into its database.
    pub truth: GroundTruth,
}

impl Home {
    /// The backend, whatever has become of those who had it before.
    pub fn backend(&self) -> MutexGuard<'_, Backend> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
