//! How far this machine's clock is from the backend's, by the `Date` of its replies. Tokens are judged by the clock: where
//! the two differ, every player is refused, and nothing else says why.
//!
//! It is only told, never used to judge a token: over plain HTTP anybody in between writes the `Date`.

use std::sync::atomic::{AtomicI64, Ordering};

use backend_token::Leeway;
use reqwest::header::{AGE, DATE, HeaderMap};

/// Seconds by which this machine's clock is ahead of the backend's; negative: behind. 0 within what tokens are forgiven.
#[derive(Debug, Default)]
pub(super) struct ClockDifference(AtomicI64);

impl ClockDifference {
    pub fn seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at a reply that came between the seconds `sent` and `received` of this machine's clock.
    pub fn note(&self, headers: &HeaderMap, sent: u64, received: u64, address: impl FnOnce() -> String) {
        let Some(measured) = measure(headers, sent, received) else { return };
        let differs = measured.unsigned_abs() > Leeway::default().seconds();
        let difference = if differs { measured } else { 0 };
        let before = self.0.swap(difference, Ordering::Relaxed);
        match (before == 0, differs) {
            (true, true) => tracing::warn!(
                "the clock of this machine is {} that of the backend at {}: tokens are judged by the clock, so players \
                 may be refused as expired or not valid yet. Set the clock of whichever machine is wrong, best by NTP",
                described(difference),
                address()
            ),
            (false, false) => tracing::info!("the clock of this machine agrees with the backend's again"),
            _ => {}
        }
    }
}

/// `90 s ahead of`, or `90 s behind`.
pub(crate) fn described(seconds: i64) -> String {
    format!("{} s {}", seconds.unsigned_abs(), if seconds > 0 { "ahead of" } else { "behind" })
}

/// The least difference that explains the reply: it was made between the two, and `Date` has whole seconds.
fn measure(headers: &HeaderMap, sent: u64, received: u64) -> Option<i64> {
    // A cache answered, with a `Date` of before.
    if headers.contains_key(AGE) {
        return None;
    }
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let ahead = i64::try_from(sent.saturating_sub(date.saturating_add(1))).ok()?;
    let behind = i64::try_from(date.saturating_sub(received.max(sent))).ok()?;
    Some(ahead - behind)
}

#[cfg(test)]
mod tests;
