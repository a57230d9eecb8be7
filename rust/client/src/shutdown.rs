//! One orderly shutdown with a deadline: draining → collecting → flushing → deregistering → completed.
//!
//! The plan runs on a worker. The main thread is asked for final state and told the outcome, but not waited for longer
//! than it deserves: when it is stuck, the plan goes on with what the game had handed over, and a watchdog thread ends
//! the process at the deadline whatever else happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::player_store::Flushed;

/// Longest wait for the main thread to hand in final state.
const COLLECT: Duration = Duration::from_secs(2);
/// Longest wait for the main thread to leave once all is done.
const LEAVE: Duration = Duration::from_secs(2);
/// Part of the grace the flush may use.
const FLUSH_SHARE: f64 = 0.8;

/// Exit code of a process that had to leave with documents unsaved (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_UNSAVED: i32 = 75;

/// Where a shutdown is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// No new players. Carries the reason and the time until the process ends at the latest.
    Draining(String, Duration),
    /// The game hands in final state and then calls [`Shutdown::collected`].
    Collecting,
    /// Everything dirty is on its way.
    Flushing,
    /// The server leaves the registry.
    Deregistering,
    /// All is done; the main thread quits and the process ends.
    Completed(Summary),
}

/// What a shutdown achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Why it was asked for.
    pub reason: String,
    /// Documents committed during the shutdown.
    pub saved: usize,
    /// Documents the backend does not have.
    pub unsaved: usize,
    /// Whether the server left the registry, or never was in it.
    pub deregistered: bool,
    /// From the request to the game's final state.
    pub collect: Duration,
    /// From there to the last committed document.
    pub flush: Duration,
    /// From there to the registry's answer.
    pub deregister: Duration,
    /// All of it.
    pub total: Duration,
}

impl Summary {
    /// 0 when everything is saved, [`EXIT_UNSAVED`] otherwise.
    pub const fn exit_code(&self) -> i32 {
        if self.unsaved == 0 { 0 } else { EXIT_UNSAVED }
    }
}

/// What has to be brought in order before the process may end.
#[async_trait]
pub trait Participants: Send + Sync {
    /// Stop taking players in.
    fn drain(&self);
    /// Save what is dirty.
    async fn flush(&self, within: Duration) -> Flushed;
    /// Leave the registry; true when it is done.
    async fn deregister(&self) -> bool;
}

/// Told about each [`Phase`], on a worker thread.
pub type OnPhase = Arc<dyn Fn(Phase) + Send + Sync>;
/// Ends the process with an exit code. `std::process::exit` outside of tests.
pub type Exit = Arc<dyn Fn(i32) + Send + Sync>;

/// A shutdown that happens at most once. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    participants: Arc<dyn Participants>,
    on_phase: OnPhase,
    exit: Exit,
    requested: AtomicBool,
    collected: Notify,
    leaving: Notify,
    /// Known once the flush is over; the watchdog exits with it.
    exit_code: Mutex<i32>,
}

impl Shutdown {
    /// A shutdown nobody asked for yet.
    pub fn new(
        clock: Arc<dyn Clock>,
        participants: Arc<dyn Participants>,
        on_phase: OnPhase,
        exit: Exit,
    ) -> Self {
        Self(Arc::new(Inner {
            clock,
            participants,
            on_phase,
            exit,
            requested: AtomicBool::new(false),
            collected: Notify::new(),
            leaving: Notify::new(),
            exit_code: Mutex::new(EXIT_UNSAVED),
        }))
    }

    /// Starts the shutdown on the current tokio runtime, once. False when it has begun already.
    pub fn request(&self, reason: &str, grace: Duration) -> bool {
        if self.0.requested.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.guard(grace);
        let inner = Arc::clone(&self.0);
        let reason = reason.to_owned();
        tokio::spawn(async move { inner.run(reason, grace).await });
        true
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// The game has handed in its final state.
    pub fn collected(&self) {
        self.0.collected.notify_one();
    }

    /// The main thread is on its way out; the process is not ended from under it before the deadline.
    pub fn leaving(&self) {
        self.0.leaving.notify_one();
    }

    /// A thread of its own, because a runtime whose workers are all stuck could not keep the deadline.
    fn guard(&self, grace: Duration) {
        let inner = Arc::downgrade(&self.0);
        let watch = move || {
            std::thread::sleep(grace);
            if let Some(inner) = inner.upgrade() {
                tracing::error!(
                    grace_ms = grace.as_millis(),
                    "the shutdown's deadline has passed; ending the process"
                );
                (inner.exit)(inner.code());
            }
        };
        let spawned = std::thread::Builder::new().name("backend-shutdown-watchdog".into()).spawn(watch);
        if let Err(error) = spawned {
            tracing::error!(%error, "no watchdog: the shutdown's deadline is not enforced");
        }
    }
}

impl Inner {
    async fn run(&self, reason: String, grace: Duration) {
        let begun = self.clock.now();
        (self.on_phase)(Phase::Draining(reason.clone(), grace));
        self.participants.drain();
        (self.on_phase)(Phase::Collecting);
        let _stuck_or_not = self.at_most(COLLECT.min(grace.mul_f64(0.3)), self.collected.notified()).await;
        let collected = self.clock.now();

        (self.on_phase)(Phase::Flushing);
        let flush_until = begun + grace.mul_f64(FLUSH_SHARE);
        let flushed = self.participants.flush(flush_until.saturating_duration_since(collected)).await;
        *self.exit_code.lock().unwrap_or_else(PoisonError::into_inner) =
            if flushed.unsaved == 0 { 0 } else { EXIT_UNSAVED };
        let flushed_at = self.clock.now();

        (self.on_phase)(Phase::Deregistering);
        let deregister_until = begun + grace.mul_f64(0.95);
        let left = deregister_until.saturating_duration_since(flushed_at);
        let deregistered = self.at_most(left, self.participants.deregister()).await.unwrap_or(false);
        let done = self.clock.now();

        let summary = Summary {
            reason,
            saved: flushed.saved,
            unsaved: flushed.unsaved,
            deregistered,
            collect: since(begun, collected),
            flush: since(collected, flushed_at),
            deregister: since(flushed_at, done),
            total: since(begun, done),
        };
        let code = summary.exit_code();
        (self.on_phase)(Phase::Completed(summary));
        if self.at_most(LEAVE, self.leaving.notified()).await.is_none() {
            tracing::warn!("the main thread does not answer; ending the process without it");
            (self.exit)(code);
        }
    }

    async fn at_most<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.clock.sleep(limit) => None,
        }
    }

    fn code(&self) -> i32 {
        *self.exit_code.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since(earlier: Instant, later: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}

#[cfg(test)]
#[path = "shutdown_tests.rs"]
mod tests;
