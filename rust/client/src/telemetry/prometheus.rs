//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::Write as _;

use super::snapshot::{Distribution, Family, Series, Value};

/// Its media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics as text. One without series is left out.
pub fn encode(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.series.is_empty()) {
        let metric = family.metric;
        // Writing to a String cannot fail, here and below.
        let _infallible = writeln!(text, "# HELP {} {}", metric.name, escape_help(metric.description));
        let _infallible = writeln!(text, "# TYPE {} {}", metric.name, metric.kind.name());
        for series in &family.series {
            match &series.value {
                Value::Number(number) => sample(&mut text, family, "", series, None, *number),
                Value::Distribution(distribution) => histogram(&mut text, family, series, distribution),
            }
        }
    }
    text
}

fn histogram(text: &mut String, family: &Family, series: &Series, distribution: &Distribution) {
    let mut below = 0;
    let bounds = distribution.bounds.iter().copied().chain([f64::INFINITY]);
    for (bound, count) in bounds.zip(&distribution.counts) {
        below += count;
        sample(text, family, "_bucket", series, Some(bound), below as f64);
    }
    sample(text, family, "_sum", series, None, distribution.sum);
    sample(text, family, "_count", series, None, below as f64);
}

fn sample(text: &mut String, family: &Family, suffix: &str, series: &Series, bound: Option<f64>, value: f64) {
    text.push_str(family.metric.name);
    text.push_str(suffix);
    let named = family.metric.labels.iter().zip(&series.labels);
    let labels = named.map(|(name, value)| format!("{name}=\"{}\"", escape_label(value)));
    let labels: Vec<String> = labels.chain(bound.map(|bound| format!("le=\"{}\"", number(bound)))).collect();
    if !labels.is_empty() {
        let _infallible = write!(text, "{{{}}}", labels.join(","));
    }
    let _infallible = writeln!(text, " {}", number(value));
}

/// As Go reads a number.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn escape_label(text: &str) -> String {
    escape_help(text).replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use backend_settings::metrics::{FLUSH_LATENCY, PEERS_REFUSED, REQUEST_SECONDS};

    use super::*;

    #[test]
    fn it_is_written_as_the_format_has_it() {
        let mut distribution = Distribution::new(&[0.005, 1.0]);
        for value in [0.004, 0.5, 3.0] {
            distribution.record(value);
        }
        let series = |labels: &[&str], value| Series {
            labels: labels.iter().map(|label| (*label).to_owned().into()).collect(),
            value,
        };
        let families = [
            Family::number(&FLUSH_LATENCY, 0.25),
            Family { metric: &PEERS_REFUSED, series: vec![series(&["a\"b\\c\nd"], Value::Number(7.0))] },
            Family {
                metric: &REQUEST_SECONDS,
                series: vec![series(&["/v1/rooms"], Value::Distribution(distribution))],
            },
            Family { metric: &PEERS_REFUSED, series: Vec::new() },
        ];
        let text = encode(&families);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        let expected = [
            "# TYPE backend_client_flush_latency_seconds gauge",
            "backend_client_flush_latency_seconds 0.25",
            "# TYPE backend_client_peers_refused_total counter",
            "backend_client_peers_refused_total{code=\"a\\\"b\\\\c\\nd\"} 7",
            "# TYPE backend_client_request_seconds histogram",
            "backend_client_request_seconds_bucket{route=\"/v1/rooms\",le=\"0.005\"} 1",
            "backend_client_request_seconds_bucket{route=\"/v1/rooms\",le=\"1\"} 2",
            "backend_client_request_seconds_bucket{route=\"/v1/rooms\",le=\"+Inf\"} 3",
            "backend_client_request_seconds_sum{route=\"/v1/rooms\"} 3.504",
            "backend_client_request_seconds_count{route=\"/v1/rooms\"} 3",
        ];
        assert_eq!(samples, expected);
        assert!(text.ends_with('\n'));
    }
}
