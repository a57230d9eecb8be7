//! Whether the main loop turns, by the time since it last did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::platform::clock::Clock;

/// Finds a main loop that has stood still for too long.
pub struct StallDetector {
    clock: Arc<dyn Clock>,
    stall: Duration,
    started: Instant,
    /// Milliseconds after `started` at which the main loop last turned.
    turned: AtomicU64,
}

impl StallDetector {
    /// `stall`: how long the main loop may stand still. It turns now.
    pub fn new(clock: Arc<dyn Clock>, stall: Duration) -> Self {
        let started = clock.now();
        Self { clock, stall, started, turned: AtomicU64::new(0) }
    }

    /// Called by the main loop once per frame.
    pub fn tick(&self) {
        let now = self.clock.now().saturating_duration_since(self.started);
        self.turned.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether the main loop has stood still for too long.
    pub fn is_stalled(&self) -> bool {
        self.stood_still() > self.stall
    }

    /// Time since the main loop last turned.
    pub fn stood_still(&self) -> Duration {
        let now = self.clock.now().saturating_duration_since(self.started);
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        now.saturating_sub(turned)
    }
}
