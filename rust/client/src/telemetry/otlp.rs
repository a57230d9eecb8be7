//! OpenTelemetry's protocol in its JSON encoding: `ExportMetricsServiceRequest` and `ExportTraceServiceRequest`. Ids are hex,
//! enums are numbers, and 64-bit integers are decimal texts.

use std::fmt::Write as _;

use backend_settings::metrics::Kind;
use serde_json::{Value as Json, json};

use super::snapshot::{Distribution, Family, Series, Value};
use super::spans::{Attribute, Span};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: since the process started.
const CUMULATIVE: u8 = 2;
/// `SPAN_KIND_CLIENT`.
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
const SCOPE: &str = "backend_client";

/// Who exports: attributes of the resource.
pub type Resource = Vec<(String, String)>;

/// Metrics as they were at `now`, with what was counted since `start`; both in nanoseconds since 1970.
pub fn metrics(resource: &Resource, families: &[Family], start: u64, now: u64) -> Json {
    let metrics: Vec<Json> = families
        .iter()
        .filter(|family| !family.series.is_empty())
        .map(|family| metric(family, start, now))
        .collect();
    json!({ "resourceMetrics": [{
        "resource": { "attributes": attributes(resource) },
        "scopeMetrics": [{ "scope": scope(), "metrics": metrics }],
    }] })
}

/// Spans that have ended.
pub fn traces(resource: &Resource, spans: &[Span]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(resource) },
        "scopeSpans": [{ "scope": scope(), "spans": spans }],
    }] })
}

fn scope() -> Json {
    json!({ "name": SCOPE, "version": env!("CARGO_PKG_VERSION") })
}

fn metric(family: &Family, start: u64, now: u64) -> Json {
    let points: Vec<Json> = family.series.iter().map(|series| point(family, series, start, now)).collect();
    let kind = family.metric.kind;
    let mut metric = json!({
        "name": name(family),
        "description": family.metric.description,
        "unit": family.metric.unit,
    });
    let (member, data) = match kind {
        Kind::Counter => (
            "sum",
            json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true }),
        ),
        Kind::Gauge => ("gauge", json!({ "dataPoints": points })),
        Kind::Histogram => {
            ("histogram", json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE }))
        }
    };
    metric[member] = data;
    metric
}

/// Without the endings that say kind and unit, which are fields of their own here. Prometheus adds them when it receives the
/// metric, so that its name is the same on both ways.
fn name(family: &Family) -> &'static str {
    let name = family.metric.name;
    let name = name.strip_suffix("_total").unwrap_or(name);
    let ending = match family.metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => return name,
    };
    name.strip_suffix(ending).unwrap_or(name)
}

fn point(family: &Family, series: &Series, start: u64, now: u64) -> Json {
    let named = family.metric.labels.iter().zip(&series.labels);
    let attributes: Vec<Json> =
        named.map(|(name, value)| attribute(name, json!({ "stringValue": value }))).collect();
    let mut point = json!({ "attributes": attributes, "timeUnixNano": now.to_string() });
    if family.metric.kind != Kind::Gauge {
        point["startTimeUnixNano"] = start.to_string().into();
    }
    match &series.value {
        Value::Number(number) if family.metric.kind == Kind::Counter => {
            point["asInt"] = (*number as i64).to_string().into();
        }
        Value::Number(number) => point["asDouble"] = json!(number),
        Value::Distribution(distribution) => histogram(&mut point, distribution),
    }
    point
}

fn histogram(point: &mut Json, distribution: &Distribution) {
    let counts: Vec<String> = distribution.counts.iter().map(u64::to_string).collect();
    point["count"] = distribution.count().to_string().into();
    point["sum"] = json!(distribution.sum);
    point["bucketCounts"] = counts.into();
    point["explicitBounds"] = json!(distribution.bounds);
}

fn span(span: &Span) -> Json {
    let attributes = span.attributes.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Text(text) => json!({ "stringValue": text }),
            Attribute::Integer(number) => json!({ "intValue": number.to_string() }),
        };
        attribute(name, value)
    });
    let mut encoded = json!({
        "traceId": hex(&span.trace_id),
        "spanId": hex(&span.span_id),
        "name": span.name,
        "kind": CLIENT,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.to_string(),
        "attributes": attributes.collect::<Vec<Json>>(),
    });
    if span.is_error {
        encoded["status"] = json!({ "code": ERROR });
    }
    encoded
}

fn attributes(resource: &Resource) -> Vec<Json> {
    resource.iter().map(|(name, value)| attribute(name, json!({ "stringValue": value }))).collect()
}

fn attribute(name: &str, value: Json) -> Json {
    json!({ "key": name, "value": value })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use backend_settings::metrics::{FLUSH_LATENCY, PEERS_REFUSED, REQUEST_SECONDS};

    use super::*;

    #[test]
    fn metrics_are_written_as_the_protocol_has_them() {
        let mut distribution = Distribution::new(&[0.5]);
        distribution.record(2.0);
        let series = |label: &str, value| Series { labels: vec![label.to_owned().into()], value };
        let families = [
            Family { metric: &PEERS_REFUSED, series: vec![series("server_full", Value::Number(3.0))] },
            Family::number(&FLUSH_LATENCY, 0.25),
            Family {
                metric: &REQUEST_SECONDS,
                series: vec![series("/v1/rooms", Value::Distribution(distribution))],
            },
        ];
        let resource = vec![("service.name".to_owned(), "pond".to_owned())];
        let json = metrics(&resource, &families, 1, u64::MAX);
        let name = json!([{ "key": "service.name", "value": { "stringValue": "pond" } }]);
        assert_eq!(json["resourceMetrics"][0]["resource"]["attributes"], name);
        let written = &json["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(written[0]["name"], "backend_client_peers_refused");
        let code = json!([{ "key": "code", "value": { "stringValue": "server_full" } }]);
        let now = u64::MAX.to_string();
        let sum = json!({
            "dataPoints": [{ "attributes": code, "startTimeUnixNano": "1", "timeUnixNano": now, "asInt": "3" }],
            "aggregationTemporality": 2,
            "isMonotonic": true,
        });
        assert_eq!(written[0]["sum"], sum);
        assert_eq!(
            (&written[1]["name"], &written[1]["unit"]),
            (&json!("backend_client_flush_latency"), &json!("s"))
        );
        let gauge = json!({ "dataPoints": [{ "attributes": [], "timeUnixNano": now, "asDouble": 0.25 }] });
        assert_eq!(written[1]["gauge"], gauge);
        let point = &written[2]["histogram"]["dataPoints"][0];
        assert_eq!(point["bucketCounts"], json!(["0", "1"]));
        assert_eq!((&point["count"], &point["sum"]), (&json!("1"), &json!(2.0)));
        assert_eq!(point["explicitBounds"], json!([0.5]));
    }

    #[test]
    fn spans_are_written_as_the_protocol_has_them() {
        let one = Span {
            trace_id: [0xab; 16],
            span_id: [1; 8],
            name: "GET /v1/rooms".to_owned(),
            start: 1,
            end: 2,
            attributes: vec![("http.response.status_code", Attribute::Integer(503))],
            is_error: true,
        };
        let json = traces(&Vec::new(), &[one]);
        let expected = json!({
            "traceId": "ab".repeat(16),
            "spanId": "01".repeat(8),
            "name": "GET /v1/rooms",
            "kind": 3,
            "startTimeUnixNano": "1",
            "endTimeUnixNano": "2",
            "attributes": [{ "key": "http.response.status_code", "value": { "intValue": "503" } }],
            "status": { "code": 2 },
        });
        assert_eq!(json["resourceSpans"][0]["scopeSpans"][0]["spans"][0], expected);
    }
}
