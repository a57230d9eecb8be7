//! When a failed attempt is repeated, and after how long.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::platform::rng;

const MIN_INTERVAL: Duration = Duration::from_millis(200);
const MAX_INTERVAL: Duration = Duration::from_secs(30);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Exponential backoff with full jitter: a random time up to 200 ms · 2ⁿ, at most 30 s. `attempt` counts from 0.
///
/// Full jitter, because servers that lost the same backend at the same moment must not come back at the same moment.
pub fn backoff(attempt: u32) -> Duration {
    backoff_within(attempt, MAX_INTERVAL)
}

/// The same with another longest time. Cutting what [`backoff`] gives would give that very time again and again.
pub fn backoff_within(attempt: u32, longest: Duration) -> Duration {
    ceiling(attempt, longest).mul_f64(rng::fraction())
}

fn ceiling(attempt: u32, longest: Duration) -> Duration {
    MIN_INTERVAL.saturating_mul(1 << attempt.min(16)).min(longest)
}

/// How long to wait before the attempt that follows `attempt`, if the reply asked for `asked`.
pub fn pause(asked: Option<Duration>, attempt: u32) -> Duration {
    pause_within(asked, attempt, MAX_INTERVAL)
}

/// The same with another longest time, for when nothing was asked for.
///
/// At least half of the backoff's ceiling: a reply that asks for no time, or for one that is past, is no invitation to
/// come at once. And up to a fifth longer than asked: all who were told the same must not come at the same moment.
pub fn pause_within(asked: Option<Duration>, attempt: u32, longest: Duration) -> Duration {
    let Some(asked) = asked else { return backoff_within(attempt, longest) };
    let least = ceiling(attempt, longest).mul_f64(0.5 + 0.5 * rng::fraction());
    asked.mul_f64(1.0 + 0.2 * rng::fraction()).max(least)
}

/// [`pause_within`] that is never longer than `longest`, whatever was asked for: a proxy may ask for minutes.
pub fn pause_at_most(asked: Option<Duration>, attempt: u32, longest: Duration) -> Duration {
    // Less by the fifth that is added.
    pause_within(asked.map(|asked| asked.min(longest * 5 / 6)), attempt, longest)
}

/// `nominal`, or up to 20 % less, so that heartbeats of a fleet spread out. Not more: whoever waits for a server to be heard
/// of counts on the interval.
pub fn jittered(nominal: Duration) -> Duration {
    nominal.mul_f64(0.8 + 0.2 * rng::fraction())
}

/// How long the backend asks to wait (RFC 9110 §10.2.3: seconds or a date), at most 5 minutes.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            // By the sender's own clock, where it is told: this machine's may be another.
            let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
            until.duration_since(date.unwrap_or_else(SystemTime::now)).unwrap_or_default()
        }
    };
    Some(asked.min(MAX_RETRY_AFTER))
}

/// Statuses that say "not now" rather than "no".
pub const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    const MINUTE: Duration = Duration::from_secs(60);

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).expect("header"))])
    }

    #[test]
    fn retry_after_reads_seconds_and_dates_and_is_clamped() {
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("86400")), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after(&headers("Thu, 01 Jan 1970 00:00:00 GMT")), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers("Fri, 31 Dec 9999 00:00:00 GMT")), Some(MAX_RETRY_AFTER));
        assert_eq!(retry_after(&headers("-1")), None);
        assert_eq!(retry_after(&headers("soon")), None);
    }

    #[test]
    fn a_date_is_meant_by_the_clock_of_who_sent_it() {
        let mut told = headers("Thu, 01 Jan 2015 00:00:09 GMT");
        assert_eq!(retry_after(&told), Some(Duration::ZERO));
        told.insert(DATE, HeaderValue::from_static("Thu, 01 Jan 2015 00:00:02 GMT"));
        assert_eq!(retry_after(&told), Some(Duration::from_secs(7)));
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_kept_but_never_shorter_than_the_backoff(asked in 0u64..300, attempt in 0u32..100) {
            let asked = Duration::from_secs(asked);
            let drawn = pause(Some(asked), attempt);
            prop_assert!(drawn >= asked && drawn >= ceiling(attempt, MAX_INTERVAL) / 2);
            prop_assert!(drawn <= asked.mul_f64(1.21).max(MAX_INTERVAL));
            prop_assert!(pause(None, attempt) <= MAX_INTERVAL);
            prop_assert!(pause_within(Some(Duration::ZERO), attempt, MIN_INTERVAL) <= MIN_INTERVAL);
            prop_assert!(pause_at_most(Some(asked), attempt, MINUTE) <= MINUTE);
            prop_assert!(pause_at_most(Some(asked), attempt, MINUTE) >= asked.min(MINUTE * 5 / 6));
        }

        #[test]
        fn backoff_stays_under_its_ceiling(attempt in 0u32..1_000) {
            prop_assert!(backoff(attempt) <= MAX_INTERVAL);
            prop_assert!(backoff(0) <= MIN_INTERVAL);
            prop_assert!(backoff_within(attempt, MIN_INTERVAL / 2) < MIN_INTERVAL / 2, "not that very time");
        }

        #[test]
        fn jitter_is_a_fifth_at_most_and_never_longer(seconds in 1u64..1_000) {
            let nominal = Duration::from_secs(seconds);
            let drawn = jittered(nominal);
            prop_assert!(drawn >= nominal.mul_f64(0.79) && drawn <= nominal);
        }
    }
}
