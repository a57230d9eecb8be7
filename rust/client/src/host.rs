//! The seam to whatever runs the process: where it is reachable, how long it is given to leave, and what it wants to be
//! told about the server's health.

mod stall_detector;
#[cfg(target_os = "linux")]
mod systemd;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::platform::clock::Clock;

pub use stall_detector::StallDetector;
#[cfg(target_os = "linux")]
pub use systemd::{Systemd, SystemdError};

/// A host. The plain one knows what it was told and listens to nothing; others may ask and tell an orchestrator.
///
/// What is told goes out at once and may block for a moment: not for the main thread.
pub trait Host: Send + Sync {
    /// Address players connect to.
    fn public_address(&self) -> String;

    /// Time from a termination request to the end of the process.
    fn shutdown_grace(&self) -> Duration;

    /// The server takes players.
    fn ready(&self, _status: &str) {}

    /// The server is leaving, and will be gone after `grace` at the latest.
    fn stopping(&self, _grace: Duration, _status: &str) {}

    /// What the server is doing, in a few words for a person.
    fn status(&self, _status: &str) {}

    /// The server is well: its main loop turns.
    fn healthy(&self) {}

    /// How often the host wants to hear that; `None`: never.
    fn health_interval(&self) -> Option<Duration> {
        None
    }
}

/// A machine that says nothing about itself.
#[derive(Debug, Clone)]
pub struct PlainHost {
    /// Address players connect to.
    pub public_address: String,
    /// Time from a termination request to the end of the process.
    pub shutdown_grace: Duration,
}

impl Host for PlainHost {
    fn public_address(&self) -> String {
        self.public_address.clone()
    }

    fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace
    }
}

/// Whether the main loop turns, as seen from elsewhere.
#[derive(Debug, Default)]
pub struct Liveness {
    turned: AtomicBool,
    stopping: AtomicBool,
}

impl Liveness {
    /// Called by the main loop once per frame.
    pub fn tick(&self) {
        self.turned.store(true, Ordering::Relaxed);
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

    fn is_alive(&self) -> bool {
        self.turned.swap(false, Ordering::Relaxed) || self.stopping.load(Ordering::Relaxed)
    }
}

/// Tells the host at the pace it wants that the server is well, while the main loop turns. Returns at once if the host
/// does not want to hear it, else never.
pub async fn keep_alive(host: Arc<dyn Host>, clock: Arc<dyn Clock>, liveness: Arc<Liveness>) {
    /// Looks per interval: a loop that begins to turn again is reported soon, not an interval later.
    const LOOKS: u32 = 4;

    let Some(interval) = host.health_interval() else { return };
    let look = (interval / LOOKS).max(Duration::from_millis(1));
    let mut told = None;
    loop {
        clock.sleep(look).await;
        let now = clock.now();
        let is_due = told.is_none_or(|told| now >= told + interval);
        // Asked every time, so that a turn of long ago does not count.
        if liveness.is_alive() && is_due {
            told = Some(now);
            host.healthy();
        }
    }
}

#[cfg(test)]
mod tests;
