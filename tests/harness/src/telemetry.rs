//! Who collects metrics: a scrape by the Prometheus text format, and a receiver of OpenTelemetry's protocol. Both are strict:
//! what the formats forbid fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// Samples by name and labels, as they are written: `name{label="value"}`.
#[derive(Debug)]
pub struct Scrape {
    /// The text.
    pub text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Scrapes `url`.
    pub fn of(url: &str) -> Result<Self> {
        let reply = reqwest::blocking::get(url)?;
        ensure!(reply.status().as_u16() == 200, "{url} answered {}", reply.status());
        let media_type = reply.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_text = media_type.is_some_and(|value| value.starts_with("text/plain; version=0.0.4"));
        ensure!(is_text, "{url} answered with {media_type:?}");
        Self::parse(reply.text()?)
    }

    /// The value of a sample; `None` if there is none.
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// The sum of the samples of a metric, over all labels.
    pub fn sum(&self, metric: &str) -> f64 {
        let of_metric = |sample: &str| sample.split('{').next() == Some(metric);
        self.samples.iter().filter(|(sample, _)| of_metric(sample)).map(|(_, value)| value).sum()
    }

    fn parse(text: String) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut kinds: BTreeMap<String, String> = BTreeMap::new();
        let mut samples = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(|| line.to_owned())?;
                ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                ensure!(
                    kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "a metric comes twice: {line}"
                );
                name.clone_into(&mut current);
            } else if line.starts_with("# HELP ") {
                ensure!(line.split(' ').count() > 3, "no text: {line}");
            } else {
                let (sample, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
                let name = sample.split('{').next().unwrap_or_default();
                let is_histogram = kinds.get(&current).is_some_and(|kind| kind == "histogram");
                let suffix =
                    name.strip_prefix(&current).with_context(|| format!("outside its metric: {line}"))?;
                let allowed: &[&str] = if is_histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
                ensure!(allowed.contains(&suffix), "{line}");
                ensure!(!sample.contains('{') || sample.ends_with('}'), "{line}");
                let value = if value == "+Inf" { f64::INFINITY } else { value.parse()? };
                ensure!(samples.insert(sample.to_owned(), value).is_none(), "a sample comes twice: {line}");
            }
        }
        check_histograms(&kinds, &samples)?;
        Ok(Self { text, samples })
    }
}

/// The last bucket has all values.
fn check_histograms(kinds: &BTreeMap<String, String>, samples: &BTreeMap<String, f64>) -> Result<()> {
    for (sample, value) in samples {
        let Some((before, _)) = sample.split_once("le=\"+Inf\"") else { continue };
        let (name, labels) = before.split_once("_bucket{").with_context(|| sample.clone())?;
        ensure!(kinds.get(name).is_some_and(|kind| kind == "histogram"), "no histogram: {sample}");
        let labels = labels.trim_end_matches(',');
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let count = samples.get(&format!("{name}_count{labels}"));
        ensure!(count == Some(value), "the last bucket is not the count: {sample} {value}, {count:?}");
    }
    Ok(())
}

/// A request that the receiver took.
#[derive(Debug, Clone)]
pub struct Export {
    /// `/v1/metrics` or `/v1/traces`.
    pub path: String,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: Value,
}

/// A receiver of OTLP over HTTP with JSON. It answers as the protocol demands, and notes what breaks the protocol.
pub struct OtlpReceiver {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Result<Export, String>>>>,
}

impl OtlpReceiver {
    /// Listens on a free port of this machine, to the end of the test.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let taken: Arc<Mutex<Vec<Result<Export, String>>>> = Arc::default();
        let own = Arc::clone(&taken);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let outcome = receive(stream).map_err(|error| format!("{error:#}"));
                own.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            }
        });
        Ok(Self { address, taken })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The exports so far. Fails if one broke the protocol.
    pub fn exports(&self) -> Result<Vec<Export>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        taken.into_iter().map(|one| one.map_err(anyhow::Error::msg)).collect()
    }
}

fn receive(stream: TcpStream) -> Result<Export> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the request ended in its head: {head:?}");
    }
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").context("no content-length")?.parse()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
    let checked = || -> Result<Value> {
        ensure!(method == "POST", "{head}");
        ensure!(header("content-type").as_deref() == Some("application/json"), "{head}");
        let body: Value = serde_json::from_slice(&body)?;
        match path.as_str() {
            "/v1/metrics" => check_metrics(&body)?,
            "/v1/traces" => check_traces(&body)?,
            _ => bail!("no signal has the path {path}"),
        }
        Ok(body)
    };
    let checked = checked();
    let (status, reply) =
        if checked.is_ok() { ("200 OK", "{}") } else { ("400 Bad Request", "{\"message\":\"no\"}") };
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reply}",
        reply.len()
    )?;
    Ok(Export {
        path,
        head: head.clone(),
        body: checked.with_context(|| String::from_utf8_lossy(&body).into_owned())?,
    })
}

fn check_metrics(body: &Value) -> Result<()> {
    let mut names = BTreeSet::new();
    for metric in scoped(body, "resourceMetrics", "scopeMetrics", "metrics")? {
        let metric = object(&metric, &["name", "description", "unit", "sum", "gauge", "histogram"])?.clone();
        let name = text(&metric, "name")?;
        ensure!(!name.is_empty() && names.insert(name.to_owned()), "no name, or a metric twice: {name}");
        text(&metric, "description")?;
        text(&metric, "unit")?;
        let kinds: Vec<&str> =
            ["sum", "gauge", "histogram"].into_iter().filter(|kind| metric.contains_key(*kind)).collect();
        let [kind] = kinds[..] else { bail!("{name} has the data {kinds:?}") };
        let members: &[&str] = match kind {
            "sum" => &["dataPoints", "aggregationTemporality", "isMonotonic"],
            "gauge" => &["dataPoints"],
            _ => &["dataPoints", "aggregationTemporality"],
        };
        let data = object(&metric[kind], members)?;
        ensure!(data.len() == members.len(), "{name} lacks some of {members:?}");
        ensure!(kind == "gauge" || data["aggregationTemporality"] == 2, "{name} is not cumulative");
        ensure!(kind != "sum" || data["isMonotonic"] == true, "{name} may shrink");
        let points = data["dataPoints"].as_array().with_context(|| format!("{name} has no points"))?;
        ensure!(!points.is_empty(), "{name} has no points");
        for point in points {
            check_point(kind, point).with_context(|| name.to_owned())?;
        }
    }
    ensure!(!names.is_empty(), "no metrics");
    Ok(())
}

fn check_point(kind: &str, point: &Value) -> Result<()> {
    let common = ["attributes", "timeUnixNano"];
    let own: &[&str] = match kind {
        "sum" => &["startTimeUnixNano", "asInt"],
        "gauge" => &["asDouble"],
        _ => &["startTimeUnixNano", "count", "sum", "bucketCounts", "explicitBounds"],
    };
    let allowed: Vec<&str> = common.iter().chain(own).copied().collect();
    let point = object(point, &allowed)?;
    ensure!(point.len() == allowed.len(), "{point:?} lacks some of {allowed:?}");
    check_attributes(&point["attributes"])?;
    let now = integer(&point["timeUnixNano"])?;
    ensure!(now > 1_500_000_000_000_000_000, "no time in nanoseconds: {now}");
    ensure!(kind == "gauge" || integer(&point["startTimeUnixNano"])? <= now, "it ends before it starts");
    match kind {
        "sum" => integer(&point["asInt"]).map(drop)?,
        "gauge" => ensure!(point["asDouble"].is_number(), "{point:?}"),
        _ => {
            let counts = point["bucketCounts"].as_array().context("no buckets")?;
            let bounds = point["explicitBounds"].as_array().context("no bounds")?;
            ensure!(counts.len() == bounds.len() + 1, "{} buckets, {} bounds", counts.len(), bounds.len());
            let bounds: Vec<f64> = bounds.iter().filter_map(Value::as_f64).collect();
            ensure!(bounds.is_sorted() && bounds.len() + 1 == counts.len(), "{bounds:?}");
            let total: u64 = counts.iter().map(integer).sum::<Result<u64>>()?;
            ensure!(total == integer(&point["count"])?, "the buckets are not the count: {point:?}");
            ensure!(point["sum"].is_number(), "{point:?}");
        }
    }
    Ok(())
}

fn check_traces(body: &Value) -> Result<()> {
    let members =
        ["traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"];
    for span in scoped(body, "resourceSpans", "scopeSpans", "spans")? {
        let span = object(&span, &members)?;
        for (id, letters) in [("traceId", 32), ("spanId", 16)] {
            let id = text(span, id)?;
            let is_hex = id.len() == letters && id.bytes().all(|letter| letter.is_ascii_hexdigit());
            ensure!(is_hex && id.bytes().any(|letter| letter != b'0'), "no id: {id}");
        }
        ensure!(!text(span, "name")?.is_empty(), "no name");
        ensure!(span["kind"] == 3, "no client: {}", span["kind"]);
        ensure!(
            integer(&span["startTimeUnixNano"])? <= integer(&span["endTimeUnixNano"])?,
            "it ends before it starts"
        );
        check_attributes(&span["attributes"])?;
        if let Some(status) = span.get("status") {
            ensure!(object(status, &["code", "message"])?["code"] == 2, "{status}");
        }
    }
    Ok(())
}

/// What lies below resource and scope, both checked.
fn scoped(body: &Value, outer: &str, middle: &str, inner: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for resource in object(body, &[outer])?.get(outer).and_then(Value::as_array).context("no resources")? {
        let resource = object(resource, &["resource", middle])?;
        let attributes = &object(&resource["resource"], &["attributes"])?["attributes"];
        check_attributes(attributes)?;
        let has_name =
            attributes.as_array().is_some_and(|all| all.iter().any(|one| one["key"] == "service.name"));
        ensure!(has_name, "no service.name: {attributes}");
        for scope in resource[middle].as_array().context("no scopes")? {
            let scope = object(scope, &["scope", inner])?;
            ensure!(
                !text(object(&scope["scope"], &["name", "version"])?, "name")?.is_empty(),
                "a scope without a name"
            );
            all.extend(scope[inner].as_array().context("no data")?.iter().cloned());
        }
    }
    Ok(all)
}

/// Keys are there once, and values have one type each.
fn check_attributes(attributes: &Value) -> Result<()> {
    let mut keys = BTreeSet::new();
    for attribute in attributes.as_array().with_context(|| format!("no attributes: {attributes}"))? {
        let attribute = object(attribute, &["key", "value"])?;
        let key = text(attribute, "key")?;
        ensure!(!key.is_empty() && keys.insert(key), "an attribute without a key, or twice: {key}");
        let value = object(&attribute["value"], &["stringValue", "intValue"])?;
        ensure!(value.len() == 1, "{value:?}");
        match value.get("intValue") {
            Some(number) => integer(number).map(drop)?,
            None => text(value, "stringValue").map(drop)?,
        }
    }
    Ok(())
}

/// An object with no other members than these.
fn object<'a>(value: &'a Value, members: &[&str]) -> Result<&'a Map<String, Value>> {
    let object = value.as_object().with_context(|| format!("no object: {value}"))?;
    let strange = object.keys().find(|key| !members.contains(&key.as_str()));
    ensure!(strange.is_none(), "the member {strange:?} is none of {members:?}");
    Ok(object)
}

fn text<'a>(object: &'a Map<String, Value>, member: &str) -> Result<&'a str> {
    object.get(member).and_then(Value::as_str).with_context(|| format!("no text {member}: {object:?}"))
}

/// 64-bit integers are decimal texts.
fn integer(value: &Value) -> Result<u64> {
    let text = value.as_str().with_context(|| format!("no decimal text: {value}"))?;
    text.parse().with_context(|| text.to_owned())
}
