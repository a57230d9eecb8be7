//! Whether the server is well, and telling it to hosts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Host;
use crate::platform::clock::Clock;
use crate::platform::stall_detector::StallDetector;

/// How long a main loop may stand still if the game does not say otherwise.
const DEFAULT_STALL_LIMIT: Duration = Duration::from_secs(10);
/// Looks per interval: a loop that begins to turn again is reported soon, not an interval later.
const LOOKS: u32 = 4;

/// Whether the main loop turns, as seen from elsewhere.
pub struct Liveness {
    clock: Arc<dyn Clock>,
    stall_detector: StallDetector,
    /// In milliseconds.
    stall_limit: AtomicU64,
    stopping: AtomicBool,
}

impl Liveness {
    /// The main loop turns now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let liveness = Self {
            stall_detector: StallDetector::new(Arc::clone(&clock), DEFAULT_STALL_LIMIT),
            clock,
            stall_limit: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        };
        liveness.set_stall_limit(DEFAULT_STALL_LIMIT);
        liveness
    }

    /// Called by the main loop once per frame.
    pub fn tick(&self) {
        self.stall_detector.tick();
    }

    /// How long the main loop may stand still for hosts that allow it.
    pub fn set_stall_limit(&self, limit: Duration) {
        self.stall_limit.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The shutdown has begun. From now on its own deadline ends a process that hangs, and nobody else should: the main
    /// loop is not needed to save what was handed over.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The shutdown is over, but the process is not: the main loop has to turn again.
    pub fn resume(&self) {
        self.stopping.store(false, Ordering::Relaxed);
    }

    /// Whether the main loop has turned within `limit`, or is not needed any more.
    fn is_alive_within(&self, limit: Duration) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.stall_detector.stood_still() <= limit
    }

    fn stall_limit(&self) -> Duration {
        Duration::from_millis(self.stall_limit.load(Ordering::Relaxed))
    }
}

/// Tells the host at the pace it wants that the server is well, while the main loop turns. Returns once the host does not
/// want to hear it, else never.
pub async fn keep_alive(host: Arc<dyn Host>, liveness: Arc<Liveness>) {
    let clock = Arc::clone(&liveness.clock);
    let mut told = None;
    while let Some(interval) = host.health_interval() {
        let look = (interval / LOOKS).max(Duration::from_millis(1));
        clock.sleep(look).await;
        let now = clock.now();
        let is_due = told.is_none_or(|told| now >= told + interval);
        let limit = if host.allows_stalls() { liveness.stall_limit().max(look) } else { look };
        if is_due && liveness.is_alive_within(limit) {
            told = Some(now);
            host.healthy();
        }
    }
}
