//! Times of one kind, and their quantiles.

use std::time::Duration;

use tokio::time::Instant;

use crate::results::Report;

/// Times of one kind.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds the time from `begin` to each moment.
    pub fn add_all(&mut self, begin: Instant, moments: &[Instant]) {
        self.0.extend(moments.iter().map(|moment| *moment - begin));
    }

    /// Adds median and 99th percentile.
    pub fn add_to(&mut self, report: &mut Report, part: &str, what: &str) {
        report.figure(part, &format!("{what}, p50"), self.quantile(0.5), "ms");
        report.figure(part, &format!("{what}, p99"), self.quantile(0.99), "ms");
    }

    /// The time that `share` (0 to 1) of them do not exceed, in milliseconds; the nearest rank.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).map_or(f64::NAN, |time| milliseconds(*time))
    }
}

/// For the table and the JSON.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
