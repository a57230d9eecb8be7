//! A transport that counts requests, measures their time and records a span for each, if spans are wanted.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use backend_protocol::routes;
use backend_settings::metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_IN_FLIGHT};
use reqwest::Url;

use super::instruments::{CounterSet, Gauge, HistogramSet};
use super::snapshot::Family;
use super::spans::{Attribute, Span, SpanBuffer};
use crate::api::transport::{self, HttpReply, HttpRequest, StreamedReply, Transport, TransportError};
use crate::platform::rng;

/// In seconds.
const BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is measured of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    requests: CounterSet,
    seconds: HistogramSet,
    in_flight: Gauge,
    /// Spans of requests.
    pub spans: SpanBuffer,
}

impl RequestMetrics {
    /// No requests yet.
    pub const fn new() -> Self {
        Self {
            requests: CounterSet::new(&REQUESTS),
            seconds: HistogramSet::new(&REQUEST_SECONDS, BOUNDS),
            in_flight: Gauge::new(&REQUESTS_IN_FLIGHT),
            spans: SpanBuffer::new(),
        }
    }

    /// Everything that was measured.
    pub fn collect(&self) -> [Family; 4] {
        [self.requests.collect(), self.seconds.collect(), self.in_flight.collect(), self.spans.collect()]
    }

    /// Requests so far.
    pub fn requests(&self) -> Family {
        self.requests.collect()
    }

    /// Requests without a response yet.
    pub fn in_flight(&self) -> Family {
        self.in_flight.collect()
    }
}

impl Default for RequestMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Another transport, measured.
pub struct MeasuredTransport {
    inner: Arc<dyn Transport>,
    metrics: &'static RequestMetrics,
    /// Path of the backend's base URL, without a slash at its end.
    prefix: String,
}

impl MeasuredTransport {
    /// Measures what goes through `inner` to the backend at `base_url`.
    pub fn new(inner: Arc<dyn Transport>, metrics: &'static RequestMetrics, base_url: &str) -> Self {
        let prefix = Url::parse(base_url).map(|url| url.path().trim_end_matches('/').to_owned());
        Self { inner, metrics, prefix: prefix.unwrap_or_default() }
    }

    fn begin(&self, request: &HttpRequest) -> Measurement {
        let route = request.url.path().strip_prefix(&self.prefix).and_then(routes::route_of);
        self.metrics.in_flight.add(1);
        Measurement {
            metrics: self.metrics,
            route: route.unwrap_or("other"),
            began: Instant::now(),
            status: Cow::Borrowed("cancelled"),
            span: self.metrics.spans.is_enabled().then(|| span(request, route)),
        }
    }
}

#[async_trait]
impl Transport for MeasuredTransport {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        let mut measurement = self.begin(&request);
        let outcome = self.inner.send(request).await;
        measurement.status = status(outcome.as_ref().map(|reply| reply.status));
        outcome
    }

    async fn open(&self, request: HttpRequest) -> Result<StreamedReply, TransportError> {
        let mut measurement = self.begin(&request);
        let outcome = self.inner.open(request).await;
        measurement.status = status(outcome.as_ref().map(|reply| reply.status));
        outcome
    }
}

fn status(outcome: Result<u16, &TransportError>) -> Cow<'static, str> {
    match outcome {
        Ok(status) => status.to_string().into(),
        Err(TransportError::Connect(_)) => "connect".into(),
        Err(TransportError::Tls(_)) => "tls".into(),
        Err(TransportError::Timeout) => "timeout".into(),
        Err(TransportError::Broken(_)) => "broken".into(),
        Err(TransportError::TooLarge) => "too_large".into(),
    }
}

/// A request under way. Counted when it is dropped: a call that is given up drops its request.
struct Measurement {
    metrics: &'static RequestMetrics,
    route: &'static str,
    began: Instant,
    status: Cow<'static, str>,
    span: Option<Span>,
}

impl Drop for Measurement {
    fn drop(&mut self) {
        let status = std::mem::take(&mut self.status);
        self.metrics.in_flight.add(-1);
        self.metrics.seconds.record([self.route.into()], self.began.elapsed().as_secs_f64());
        if let Some(mut span) = self.span.take() {
            span.end = unix_nanos();
            match status.parse::<u16>() {
                Ok(code) => {
                    span.is_error = code >= 400;
                    span.attributes.push(("http.response.status_code", Attribute::Integer(code.into())));
                }
                Err(_) => span.is_error = true,
            }
            if span.is_error {
                span.attributes.push(("error.type", Attribute::Text(status.clone().into_owned())));
            }
            self.metrics.spans.push([span]);
        }
        self.metrics.requests.increment([self.route.into(), status]);
    }
}

/// A span by the semantic conventions for HTTP clients. Of the URL it has the template only.
fn span(request: &HttpRequest, route: Option<&'static str>) -> Span {
    let method = request.method.as_str();
    let mut attributes = vec![("http.request.method", Attribute::Text(method.to_owned()))];
    if let Some(route) = route {
        attributes.push(("url.template", Attribute::Text(route.to_owned())));
    }
    if let Some(host) = request.url.host_str() {
        attributes.push(("server.address", Attribute::Text(host.to_owned())));
    }
    if let Some(port) = request.url.port_or_known_default() {
        attributes.push(("server.port", Attribute::Integer(port.into())));
    }
    // With it, the request is found in the backend's log.
    let id = request.headers.get(transport::REQUEST_ID).and_then(|id| id.to_str().ok());
    if let Some(id) = id {
        attributes.push(("backend_client.request_id", Attribute::Text(id.to_owned())));
    }
    let mut span_id = [0; 8];
    span_id.copy_from_slice(&rng::random_uuid().as_bytes()[..8]);
    Span {
        trace_id: *rng::random_uuid().as_bytes(),
        span_id,
        name: route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
        start: unix_nanos(),
        end: 0,
        attributes,
        is_error: false,
    }
}

/// Wall clock: nanoseconds since 1970.
pub(super) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
