use proptest::prelude::*;
use reqwest::header::HeaderValue;

use super::*;

fn dated(unix_seconds: u64) -> HeaderMap {
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds);
    HeaderMap::from_iter([(DATE, HeaderValue::from_str(&httpdate::fmt_http_date(date)).expect("header"))])
}

#[test]
fn a_clock_that_is_off_is_measured_and_one_that_agrees_again_is_believed() {
    let difference = ClockDifference::default();
    let note = |headers: &HeaderMap, now| {
        difference.note(headers, now, now, || "http://backend".into());
        difference.seconds()
    };
    assert_eq!(note(&dated(10_000), 10_000), 0);
    assert_eq!(note(&dated(10_000), 10_091), 90);
    assert_eq!(note(&dated(10_090), 10_000), -90);
    let mut cached = dated(10_000);
    cached.insert(AGE, HeaderValue::from_static("90"));
    assert_eq!(note(&cached, 10_000), -90, "a cache's reply says nothing");
    assert_eq!(note(&HeaderMap::new(), 10_000), -90, "nor does one without a date");
    assert_eq!(note(&dated(10_003), 10_000), 0, "within what tokens are forgiven");
    assert_eq!((described(90).as_str(), described(-90).as_str()), ("90 s ahead of", "90 s behind"));
}

proptest! {
    /// However long a reply takes, clocks that agree are never said to differ.
    #[test]
    fn a_slow_reply_is_no_difference(sent in 1_000_000u64..1_000_000_000, took in 0u64..600, made in 0u64..600) {
        prop_assert_eq!(measure(&dated(sent + made.min(took)), sent, sent + took), Some(0));
    }

    #[test]
    fn nothing_overflows(date in 0u64..200_000_000_000, sent: u64, received: u64) {
        let _any = measure(&dated(date), sent, received);
    }
}
