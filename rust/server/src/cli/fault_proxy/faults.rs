//! Which faults there are, and how they are switched.

use std::io::BufRead as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use backend_protocol::Code;
use serde::Deserialize;
use tokio::sync::watch;

use crate::cli::output;

const MAX_LATENCY_MS: u64 = 60_000;

/// How requests fail from now on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Added to each request.
    pub latency: Duration,
    /// Connections are cut and refused.
    pub offline: bool,
    /// Requests are refused with this, and do not reach the backend.
    pub error: Option<Code>,
    /// Requests reach the backend, and the connection is cut instead of a reply.
    pub lost_replies: bool,
    /// Percentage of the requests with `error` or `lost_replies`.
    pub share: u32,
    /// How often the tokens were expired.
    pub expirations: u64,
    /// When they were expired the last time, in seconds since 1970.
    pub expired_at: u64,
}

/// A line of standard input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Line {
    latency_ms: u64,
    offline: bool,
    error: Option<ErrorKind>,
    lost_replies: bool,
    share: u32,
    /// Not a state: expires the access tokens that there are.
    expire_tokens: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum ErrorKind {
    Internal,
    RateLimited,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            offline: false,
            error: None,
            lost_replies: false,
            share: 100,
            expire_tokens: false,
        }
    }
}

impl Faults {
    /// The faults that a line of standard input switches on.
    fn changed_by(&self, line: &str) -> anyhow::Result<Self> {
        let line: Line = serde_json::from_str(line).context("standard input: not a line of faults")?;
        ensure!(
            line.latency_ms <= MAX_LATENCY_MS,
            "standard input: latency_ms is {}, and at most {MAX_LATENCY_MS}",
            line.latency_ms
        );
        ensure!((1..=100).contains(&line.share), "standard input: share is {}, and 1 to 100", line.share);
        let mut faults = Self {
            latency: Duration::from_millis(line.latency_ms),
            offline: line.offline,
            error: line.error.map(|kind| match kind {
                ErrorKind::Internal => Code::Internal,
                ErrorKind::RateLimited => Code::RateLimited,
            }),
            lost_replies: line.lost_replies,
            share: line.share,
            ..*self
        };
        if line.expire_tokens {
            faults.expirations += 1;
            faults.expired_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        }
        Ok(faults)
    }

    /// For people.
    fn in_words(&self, before: &Self) -> String {
        let mut words = Vec::new();
        if self.expirations != before.expirations {
            words.push("access tokens expired".to_owned());
        }
        if self.offline {
            words.push("offline".to_owned());
        }
        if !self.latency.is_zero() {
            words.push(format!("latency {} ms", self.latency.as_millis()));
        }
        let share =
            if self.share == 100 { String::new() } else { format!(" for {} % of requests", self.share) };
        if let Some(code) = self.error {
            words.push(format!("{}{share}", code.status()));
        }
        if self.lost_replies {
            words.push(format!("lost replies{share}"));
        }
        if words.is_empty() { "none".to_owned() } else { words.join(", ") }
    }
}

/// The faults, changed by each line. When standard input ends, they have no source any more.
pub fn read_from_standard_input() -> watch::Receiver<Faults> {
    let (sender, receiver) = watch::channel(Faults::default());
    // A thread: reading standard input cannot be cancelled, and must not keep the process from ending.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let before = sender.borrow().clone();
            match before.changed_by(&line) {
                Ok(faults) => {
                    let words = faults.in_words(&before);
                    let _at_end = sender.send(faults);
                    let _closed = output::line(format_args!("faults: {words}"));
                }
                Err(error) => tracing::error!("{error:#}"),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_replaces_the_faults_and_names_what_is_wrong_with_it() {
        let none = Faults::default();
        let line = r#"{"latency_ms": 300, "error": "rate_limited", "share": 50, "expire_tokens": true}"#;
        let faults = none.changed_by(line).unwrap();
        assert_eq!(faults.latency, Duration::from_millis(300));
        assert_eq!((faults.error, faults.share, faults.expirations), (Some(Code::RateLimited), 50, 1));
        assert_eq!(faults.in_words(&none), "access tokens expired, latency 300 ms, 429 for 50 % of requests");
        let next = faults.changed_by(r#"{"offline": true}"#).unwrap();
        assert_eq!((next.error, next.share, next.expirations), (None, 100, 1));
        assert_eq!(next.in_words(&faults), "offline");
        for (line, named) in [
            (r#"{"latency_ms": 60001}"#, "latency_ms"),
            (r#"{"share": 0}"#, "share"),
            (r#"{"error": "teapot"}"#, "teapot"),
            (r#"{"late": 1}"#, "late"),
            ("300", "300"),
        ] {
            let error = format!("{:#}", none.changed_by(line).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
