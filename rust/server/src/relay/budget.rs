//! How much a player may send, and a room pass on.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What flows in: so many a second, up to so many that lie there.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

/// A budget of messages and bytes. What has to arrive is taken on credit, and its sender waits; the rest is dropped.
pub struct Budget {
    messages: Rate,
    bytes: Rate,
    left: Mutex<Left>,
}

struct Left {
    messages: f64,
    bytes: f64,
    at: Instant,
}

impl Budget {
    pub fn new(messages: Rate, bytes: Rate, now: Instant) -> Self {
        let left = Mutex::new(Left { messages: messages.burst, bytes: bytes.burst, at: now });
        Self { messages, bytes, left }
    }

    /// Takes it if it is there.
    pub fn try_take(&self, messages: usize, bytes: usize, now: Instant) -> bool {
        let mut left = self.refilled(now);
        let is_there = left.messages >= messages as f64 && left.bytes >= bytes as f64;
        if is_there {
            left.messages -= messages as f64;
            left.bytes -= bytes as f64;
        }
        is_there
    }

    /// Takes it, and returns how long to wait until it would have been there.
    pub fn take(&self, messages: usize, bytes: usize, now: Instant) -> Duration {
        let mut left = self.refilled(now);
        left.messages -= messages as f64;
        left.bytes -= bytes as f64;
        let debt = |left: f64, rate: Rate| (-left).max(0.0) / rate.per_second;
        Duration::from_secs_f64(debt(left.messages, self.messages).max(debt(left.bytes, self.bytes)))
    }

    fn refilled(&self, now: Instant) -> std::sync::MutexGuard<'_, Left> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.saturating_duration_since(left.at).as_secs_f64();
        left.at = left.at.max(now);
        let add = |left: f64, rate: Rate| rate.per_second.mul_add(seconds, left).min(rate.burst);
        left.messages = add(left.messages, self.messages);
        left.bytes = add(left.bytes, self.bytes);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_dropped_is_and_what_may_not_waits() {
        let start = Instant::now();
        let rate = |per_second, burst| Rate { per_second, burst };
        let budget = Budget::new(rate(10.0, 2.0), rate(100.0, 50.0), start);
        assert!(budget.try_take(1, 10, start));
        assert!(!budget.try_take(1, 41, start), "more bytes than there are");
        assert!(budget.try_take(1, 40, start));
        assert!(!budget.try_take(1, 0, start), "more messages than there are");
        assert_eq!(budget.take(1, 200, start), Duration::from_secs(2));
        let later = start + Duration::from_secs(2);
        assert!(!budget.try_take(1, 1, later), "the credit is paid back, and nothing more is there");
        assert!(budget.try_take(2, 50, later + Duration::from_secs(60)), "no more than the burst");
        assert!(!budget.try_take(1, 0, start), "time does not run backwards");
    }
}
