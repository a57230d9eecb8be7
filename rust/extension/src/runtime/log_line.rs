//! An event as a line of the log: for people, or as a JSON object of the same shape as the backend's. Neither holds what looks
//! like a secret.

use std::fmt::{Debug, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backend_client::telemetry::redaction::{REDACTED, is_secret_field, redact};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, Visit};

/// As people read it: the message, then the fields.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _infallible = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name if is_secret_field(name) => write!(self.0, " {name}={REDACTED}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// The event for people, with a space at its beginning.
pub fn text(event: &Event<'_>) -> String {
    let mut line = Text::default();
    event.record(&mut line);
    redact(&line.0).into_owned()
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let value = if is_secret_field(field.name()) { REDACTED.into() } else { value };
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, redact(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, redact(&format!("{value:?}")).into());
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    fields: Map<String, Value>,
    target: &'a str,
}

/// The event as a JSON object on one line.
pub fn json(event: &Event<'_>) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = Line {
        timestamp: rfc_3339(now),
        level: metadata.level().as_str(),
        fields: fields.0,
        target: metadata.target(),
    };
    // Texts and numbers can always be written.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The time `since` 1970 in UTC, with microseconds (RFC 3339 §5.6).
fn rfc_3339(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted in eras of 400 years that begin with a March: a leap day is then the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Subscriber;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    #[test]
    fn times_are_written_as_the_standard_has_them() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc_3339(Duration::from_secs(seconds)), written);
        }
        assert_eq!(rfc_3339(Duration::from_nanos(1_234_567)), "1970-01-01T00:00:00.001234Z");
    }

    /// Keeps what is logged, both ways.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().expect("no panic").push((text(event), json(event)));
        }
    }

    #[test]
    fn neither_way_shows_a_secret() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(kept.clone());
        let (key, jwt) = ("gsk_live_0123456789abcdef", "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2ln");
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(%key, password = "canary", attempt = 2, ok = true, "refused: {jwt}\n\"quoted\"");
        });
        let lines = kept.0.lock().expect("no panic");
        let (text, json) = &lines[0];
        for line in [text, json] {
            assert!(
                !line.contains("0123456789abcdef") && !line.contains("canary") && !line.contains("eyJ"),
                "{line}"
            );
        }
        assert!(text.starts_with(" refused: [redacted]") && text.contains("attempt=2"), "{text}");
        assert!(!json.contains('\n'));
        let parsed: Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(parsed["level"], "WARN");
        assert_eq!(parsed["fields"]["message"], "refused: [redacted]\n\"quoted\"");
        assert_eq!(parsed["fields"]["password"], REDACTED);
        assert_eq!((&parsed["fields"]["attempt"], &parsed["fields"]["ok"]), (&2.into(), &true.into()));
        assert!(parsed["target"].as_str().is_some_and(|target| target.starts_with("backend_extension::")));
    }
}
