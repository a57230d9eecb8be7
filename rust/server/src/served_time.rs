//! Until when heartbeats could be stored, as one process knows it. `jobs::served` records it.

use std::sync::{Mutex, PoisonError};

use crate::config::Config;

/// A shorter time without the database is not taken for an outage. Checks that are late are not, either.
const MIN_OUTAGE_MS: i64 = 12_000;

/// When this process last reached the database, by the database's clock.
#[derive(Default)]
pub struct Served(Mutex<Reached>);

#[derive(Default)]
struct Reached {
    at: i64,
    /// After an outage, nothing is recorded for one lease: until then, servers may not have sent a heartbeat again.
    held_until: i64,
}

impl Served {
    /// Notes that the process begins to serve.
    pub fn begin(&self, now: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Reached { at: now, held_until: 0 };
    }

    /// Notes that the database was reached. Returns whether it may be recorded.
    pub fn reach(&self, config: &Config, now: i64) -> bool {
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = i64::from(config.lease_seconds) * 1_000;
        // A heartbeat may be late by this much.
        let slack = lease - i64::from(config.heartbeat_seconds) * 1_000;
        if now - reached.at > (slack / 2).max(MIN_OUTAGE_MS) {
            reached.held_until = now + lease;
        }
        reached.at = now;
        // The clock may have been set back.
        reached.held_until = reached.held_until.min(now + lease);
        if now >= reached.held_until {
            reached.held_until = 0;
        }
        reached.held_until == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_for_a_lease_after_an_outage() {
        let config = Config { lease_seconds: 60, heartbeat_seconds: 30, ..Config::default() };
        let served = Served::default();
        let start = 1_800_000_000_000;
        served.begin(start);
        let reach = |seconds: i64| served.reach(&config, start + seconds * 1_000);
        assert!(reach(5) && reach(20), "a check may be late");
        assert!(!reach(36) && !reach(51) && !reach(66) && !reach(81) && !reach(95), "servers have until 96");
        assert!(reach(96) && reach(101));
        assert!(!reach(200), "the next outage");
        assert!(!reach(100) && !reach(115) && !reach(130) && !reach(145), "the clock was set back");
        assert!(reach(160));
        assert!(reach(90), "and once more");
    }
}
