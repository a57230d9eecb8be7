//! Servers that end before they register, and are started again. Counted in memory: a backend that restarts counts anew, within the
//! start timeout all the same.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Time between the end of a server and its second start. Doubled from attempt to attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// What follows when a server is seen that has ended before it registered.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It is started again after this time; seen for the first time.
    Pause(Duration),
    /// The pause is not over yet.
    Wait,
    /// The pause is over.
    Start,
    /// That was the last attempt of so many.
    Fail { attempts: u32 },
}

/// The attempts of the allocations that start.
#[derive(Default)]
pub struct Restarts(HashMap<String, Attempts>);

#[derive(Default)]
struct Attempts {
    ended: u32,
    /// When the next one begins. None: it runs.
    next_at: Option<Instant>,
}

impl Restarts {
    /// The server of an allocation is seen to have ended. It is started up to `most` times, and not after `deadline`.
    pub fn ended(&mut self, allocation_id: &str, most: u32, now: Instant, deadline: Instant) -> Next {
        let attempts = self.0.entry(allocation_id.to_owned()).or_default();
        if let Some(at) = attempts.next_at {
            return if now < at { Next::Wait } else { Next::Start };
        }
        attempts.ended += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (attempts.ended - 1).min(16)).min(MAX_PAUSE);
        if attempts.ended >= most || now + pause >= deadline {
            return Next::Fail { attempts: attempts.ended };
        }
        attempts.next_at = Some(now + pause);
        Next::Pause(pause)
    }

    /// The next attempt begins.
    pub fn begin(&mut self, allocation_id: &str) {
        if let Some(attempts) = self.0.get_mut(allocation_id) {
            attempts.next_at = None;
        }
    }

    /// Forgets the allocations that do not start any more.
    pub fn keep(&mut self, starts: impl Fn(&str) -> bool) {
        self.0.retain(|allocation_id, _| starts(allocation_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_until_the_last_attempt() {
        let (mut restarts, begun) = (Restarts::default(), Instant::now());
        let (mut now, deadline) = (begun, begun + Duration::from_secs(3600));
        let mut pauses = Vec::new();
        let attempts = loop {
            match restarts.ended("one", 8, now, deadline) {
                Next::Pause(pause) => {
                    pauses.push(pause.as_millis());
                    assert_eq!(restarts.ended("one", 8, now, deadline), Next::Wait);
                    now += pause;
                    // Until it has begun.
                    assert_eq!(restarts.ended("one", 8, now, deadline), Next::Start);
                    assert_eq!(restarts.ended("one", 8, now, deadline), Next::Start);
                    restarts.begin("one");
                }
                Next::Fail { attempts } => break attempts,
                next => panic!("{next:?}"),
            }
        };
        assert_eq!((attempts, pauses), (8, vec![500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]));
    }

    #[test]
    fn none_begins_after_the_deadline() {
        let (mut restarts, now) = (Restarts::default(), Instant::now());
        let soon = now + FIRST_PAUSE;
        assert_eq!(restarts.ended("one", 3, now, soon), Next::Fail { attempts: 1 });
        assert_eq!(restarts.ended("two", 1, now, now + MAX_PAUSE), Next::Fail { attempts: 1 });
        assert_eq!(restarts.ended("three", 3, now, now + MAX_PAUSE), Next::Pause(FIRST_PAUSE));
        restarts.keep(|allocation_id| allocation_id == "two");
        assert_eq!(restarts.ended("three", 3, now, now + MAX_PAUSE), Next::Pause(FIRST_PAUSE));
    }
}
