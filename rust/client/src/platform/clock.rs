//! Time, so that tests can turn it.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A source of time. Durations are measured by the monotonic clock; the wall clock only judges tokens.
pub trait Clock: Send + Sync {
    /// Monotonic now.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Wall clock: seconds since 1970, 0 when the clock reads an earlier time.
    fn unix_seconds(&self) -> u64;

    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }

    /// Runs `work` after `duration`, on a thread of its own: a runtime whose workers are all stuck holds it up no more
    /// than a main thread that is.
    fn run_after(&self, duration: Duration, work: Box<dyn FnOnce() + Send>) -> std::io::Result<Alarm> {
        let (call_off, called_off) = mpsc::channel();
        let wait = move || {
            if called_off.recv_timeout(duration) == Err(RecvTimeoutError::Timeout) {
                work();
            }
        };
        let thread = std::thread::Builder::new().name("backend-watchdog".into()).spawn(wait)?;
        Ok(Alarm(Some((call_off, thread))))
    }
}

/// Work that is to be done later. Dropping it calls it off, and waits for it if it has begun: no thread is left.
#[must_use = "dropping it calls it off"]
#[derive(Debug, Default)]
pub struct Alarm(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Drop for Alarm {
    fn drop(&mut self) {
        let Some((call_off, thread)) = self.0.take() else { return };
        drop(call_off);
        // Its own work may be what drops it.
        if thread.thread().id() != std::thread::current().id() {
            // If it panicked, the hook has said so.
            let _panicked = thread.join();
        }
    }
}

/// The machine's clocks. Under tokio's paused time the monotonic one is simulated.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
    }
}

#[cfg(feature = "test-util")]
pub(crate) mod simulated {
    //! A wall clock that moves with tokio's paused time.

    use super::{Clock, Duration, Instant};

    /// Starts at a given second and follows the simulated monotonic clock.
    pub struct SimulatedClock {
        start: Instant,
        start_unix: u64,
    }

    impl SimulatedClock {
        /// A clock that reads `start_unix`, in seconds since 1970.
        pub fn starting_at(start_unix: u64) -> Self {
            Self { start: Instant::now(), start_unix }
        }
    }

    impl Clock for SimulatedClock {
        fn unix_seconds(&self) -> u64 {
            let elapsed: Duration = Instant::now() - self.start;
            self.start_unix + elapsed.as_secs()
        }
    }
}
