//! The interval of `collect_saves`.

use std::cell::Cell;
use std::time::Instant;

/// Counts the time from the first look, and from each time that it was due.
#[derive(Default)]
pub struct AutosaveTimer(Cell<Option<Instant>>);

impl AutosaveTimer {
    /// Whether `interval` seconds have passed, which begins the next; never for 0.
    pub fn is_due(&self, interval: f64) -> bool {
        let now = Instant::now();
        let since = self.0.get().unwrap_or_else(|| {
            self.0.set(Some(now));
            now
        });
        let due = interval > 0.0 && (now - since).as_secs_f64() >= interval;
        if due {
            self.0.set(Some(now));
        }
        due
    }
}
