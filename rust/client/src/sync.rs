//! State that tasks change while others wait for a change of it. Not a `tokio::sync::watch`: that sends copies of its value or
//! lends it under a read lock, and the stores' state is changed in place by both sides.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::platform::clock::Clock;

/// A value behind a lock, and word of its progress.
pub(crate) struct Condition<T> {
    value: Mutex<T>,
    progress: Notify,
}

impl<T> Condition<T> {
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), progress: Notify::new() }
    }

    /// The value. A task that panicked while it had it left it whole: no change of it spans a panic.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for something.
    pub fn progressed(&self) {
        self.progress.notify_waiters();
    }

    /// Waits until `done` holds; false when `within` is over first.
    pub async fn wait_until(&self, clock: &dyn Clock, within: Duration, done: impl Fn(&T) -> bool) -> bool {
        let reached = async {
            loop {
                // Hears everything from here on, also what comes before it is awaited.
                let progressed = self.progress.notified();
                if done(&self.lock()) {
                    return;
                }
                progressed.await;
            }
        };
        tokio::select! {
            biased;
            () = reached => true,
            () = clock.sleep(within) => false,
        }
    }
}
