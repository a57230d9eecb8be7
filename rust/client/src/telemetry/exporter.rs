//! Exports metrics and spans to a collector: OTLP over HTTP, in JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value as Json;

use super::instruments::CounterSet;
use super::measured_transport::unix_nanos;
use super::otlp::{self, Resource};
use super::snapshot::Family;
use super::spans::SpanBuffer;
use crate::api::retry;
use crate::api::transport::{HttpReply, HttpRequest, Transport, TransportError};
use crate::error::ClientError;

/// Longest time of one export.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest interval between two exports.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Collects everything that is measured, on a worker.
pub type Collect = Arc<dyn Fn() -> Vec<Family> + Send + Sync>;

/// Where and how to export.
pub struct Settings {
    /// Base URL of the collector. `/v1/metrics` and `/v1/traces` are appended.
    pub endpoint: String,
    /// `name=value`, separated by commas, with percent-encoded values.
    pub headers: String,
    /// Time between two exports.
    pub interval: Duration,
    /// Who exports.
    pub resource: Resource,
}

/// Exports of one process.
pub struct Exporter {
    transport: Arc<dyn Transport>,
    metrics_url: Url,
    traces_url: Url,
    headers: HeaderMap,
    interval: Duration,
    resource: Resource,
    collect: Collect,
    spans: Option<&'static SpanBuffer>,
    exports: &'static CounterSet,
    /// Nanoseconds since 1970.
    started: u64,
}

/// What became of an export.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The collector takes it never.
    Rejected,
    /// It may pass, after this time at the earliest.
    Failed(Option<Duration>),
}

impl Exporter {
    /// Exports what `collect` collects and, if wanted, what is in `spans`.
    pub fn new(
        settings: Settings,
        transport: Arc<dyn Transport>,
        collect: Collect,
        spans: Option<&'static SpanBuffer>,
        exports: &'static CounterSet,
    ) -> Result<Self, ClientError> {
        if let Some(spans) = spans {
            spans.enable();
        }
        Ok(Self {
            transport,
            metrics_url: signal_url(&settings.endpoint, "v1/metrics")?,
            traces_url: signal_url(&settings.endpoint, "v1/traces")?,
            headers: parse_headers(&settings.headers)?,
            interval: settings.interval.max(MIN_INTERVAL),
            resource: settings.resource,
            collect,
            spans,
            exports,
            started: unix_nanos(),
        })
    }

    /// Exports at the interval, until it is dropped.
    pub async fn run(&self) {
        let mut paused_until = Instant::now();
        let mut works = None;
        loop {
            // A fleet that was started at the same time does not export at the same time.
            tokio::time::sleep(retry::jittered(self.interval)).await;
            if Instant::now() < paused_until {
                continue;
            }
            let outcome = self.export_within(TIMEOUT).await;
            if let Outcome::Failed(Some(asked)) = outcome {
                paused_until = Instant::now() + asked;
            }
            // Once when it fails, and once when it works again: the next export repeats what counts.
            let sent = outcome == Outcome::Sent;
            if works.replace(sent) != Some(sent) {
                self.report(sent);
            }
        }
    }

    /// Exports what there is now, for the last time.
    pub async fn export_last(&self, within: Duration) {
        let _counted = self.export_within(within).await;
    }

    fn report(&self, sent: bool) {
        let url = self.shown();
        if sent {
            tracing::info!("metrics are exported to {url}");
        } else {
            tracing::warn!(
                "metrics cannot be exported to {url}: check otlp_endpoint or OTEL_EXPORTER_OTLP_ENDPOINT, and that the collector \
                 accepts OTLP over HTTP with JSON (usually port 4318). Further attempts are logged at level debug"
            );
        }
    }

    /// Without what may be secret.
    fn shown(&self) -> String {
        let host = self.metrics_url.host_str().unwrap_or_default();
        let port = self.metrics_url.port_or_known_default().unwrap_or_default();
        format!("{}://{host}:{port}{}", self.metrics_url.scheme(), self.metrics_url.path())
    }

    async fn export_within(&self, timeout: Duration) -> Outcome {
        let metrics = otlp::metrics(&self.resource, &(self.collect)(), self.started, unix_nanos());
        let outcome = self.post(&self.metrics_url, "metrics", &metrics, timeout).await;
        let Some(buffer) = self.spans else { return outcome };
        let spans = buffer.take();
        if !spans.is_empty() {
            let traces = otlp::traces(&self.resource, &spans);
            if let Outcome::Failed(_) = self.post(&self.traces_url, "traces", &traces, timeout).await {
                // Metrics count on; spans have to be sent again.
                buffer.push(spans);
            }
        }
        outcome
    }

    async fn post(&self, url: &Url, signal: &'static str, body: &Json, timeout: Duration) -> Outcome {
        let request = HttpRequest {
            method: Method::POST,
            url: url.clone(),
            headers: self.headers.clone(),
            body: Some(body.to_string().into_bytes()),
            timeout: Some(timeout),
        };
        let outcome = outcome_of(self.transport.send(request).await);
        let name = match outcome {
            Outcome::Sent => "sent",
            Outcome::Rejected => "rejected",
            Outcome::Failed(_) => "failed",
        };
        self.exports.increment([Cow::Borrowed(signal), Cow::Borrowed(name)]);
        outcome
    }
}

fn outcome_of(reply: Result<HttpReply, TransportError>) -> Outcome {
    match reply {
        Ok(reply) if (200..300).contains(&reply.status) => {
            if let Some(message) = partial_success(&reply.body) {
                tracing::warn!(message, "the collector has rejected part of an export");
            }
            Outcome::Sent
        }
        Ok(reply) => {
            tracing::debug!(status = reply.status, "an export failed");
            // By the protocol, nothing else is repeated.
            let may_pass = matches!(reply.status, 429 | 502 | 503 | 504);
            if may_pass { Outcome::Failed(retry::retry_after(&reply.headers)) } else { Outcome::Rejected }
        }
        Err(error) => {
            tracing::debug!(%error, "an export failed");
            Outcome::Failed(None)
        }
    }
}

/// The message of a collector that took part of it.
fn partial_success(body: &[u8]) -> Option<String> {
    let reply: Json = serde_json::from_slice(body).ok()?;
    let message = reply.get("partialSuccess")?.get("errorMessage")?.as_str()?;
    (!message.is_empty()).then(|| message.chars().take(200).collect())
}

fn signal_url(endpoint: &str, path: &str) -> Result<Url, ClientError> {
    let wrong = |why: String| ClientError::field("otlp_endpoint", format!("{why}. Nothing is exported"));
    let example = "write a URL such as http://localhost:4318";
    let mut url = Url::parse(endpoint.trim()).map_err(|error| wrong(format!("{error}: {example}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong(format!("no http:// or https:// URL: {example}")));
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/{path}"));
    Ok(url)
}

/// The headers of every export. An error does not repeat them: they may hold a key.
fn parse_headers(text: &str) -> Result<HeaderMap, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, JSON);
    for (name, value) in parse_pairs(text) {
        let wrong = || {
            let rule =
                "write name=value, separated by commas, with percent-encoded values. Nothing is exported";
            ClientError::field("OTEL_EXPORTER_OTLP_HEADERS", rule)
        };
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// `name=value`, separated by commas, with percent-encoded values.
pub fn parse_pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value.trim()).decode_utf8_lossy();
            (name.trim().to_owned(), value.into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_paths_below_the_endpoint() {
        let url =
            |endpoint| signal_url(endpoint, "v1/metrics").map(String::from).map_err(|error| error.message);
        assert_eq!(url("http://localhost:4318").as_deref(), Ok("http://localhost:4318/v1/metrics"));
        assert_eq!(
            url(" https://otlp.example.org/a/ ").as_deref(),
            Ok("https://otlp.example.org/a/v1/metrics")
        );
        for endpoint in ["", "localhost:4318", "grpc://localhost:4317"] {
            assert!(
                url(endpoint).is_err_and(|message| message.contains("http://localhost:4318")),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let headers =
            parse_headers("authorization=Bearer%20abc=, x-scope = a%2Cb, x-rest=1%+1%2").expect("headers");
        assert_eq!(headers["authorization"], "Bearer abc=");
        assert_eq!(headers["x-scope"], "a,b");
        assert_eq!(headers["x-rest"], "1%+1%2", "what is not percent-encoded stays as it is");
        assert!(!format!("{headers:?}").contains("abc"));
        let error = parse_headers("my key=canary").expect_err("a name with a space");
        assert!(!error.message.contains("canary"), "{error}");
    }

    #[test]
    fn only_what_may_pass_is_repeated() {
        let reply = |status, body: &str| {
            outcome_of(Ok(HttpReply { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }))
        };
        assert_eq!(reply(200, "{}"), Outcome::Sent);
        assert_eq!(
            reply(200, r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"no"}}"#),
            Outcome::Sent
        );
        assert_eq!(reply(400, ""), Outcome::Rejected);
        assert_eq!(reply(500, ""), Outcome::Rejected);
        assert_eq!(reply(503, ""), Outcome::Failed(None));
        assert_eq!(outcome_of(Err(TransportError::Timeout)), Outcome::Failed(None));
    }
}
