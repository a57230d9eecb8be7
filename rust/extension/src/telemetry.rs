//! Metrics of a dedicated server for Prometheus and OpenTelemetry, and monitors of Godot's debugger.
//!
//! The main thread samples what only it may read; everything else happens on the workers.

mod collection;
mod monitors;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backend_client::Config;
use backend_client::api::lazy_transport::LazyTransport;
use backend_client::error::ClientError;
use backend_client::telemetry::exporter::{Exporter, Settings, parse_pairs};
use backend_client::telemetry::{endpoint, prometheus};
use backend_settings::{
    METRICS_ADDRESS, OTLP_ENDPOINT, OTLP_HEADERS, OTLP_INTERVAL, OTLP_TRACES, ProjectSetting,
    RESOURCE_ATTRIBUTES, SERVICE_NAME,
};
use godot::classes::Os;
use godot::prelude::*;
use tokio::sync::OnceCell;

use crate::config::{self, project_settings};
use crate::metrics;
use crate::runtime::worker_threads::{self, background_tasks};

pub use collection::frame;

/// Interval of exports that the specification of OpenTelemetry has as its default.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// Longest time that the process waits for its last export.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_SERVICE_NAME: &str = "game-server";

static EXPORTER: OnceCell<Arc<Exporter>> = OnceCell::const_new();

/// Main thread, once the main loop begins.
pub fn start() {
    if godot::init::is_editor_hint() {
        return;
    }
    monitors::add();
    // Project Settings are exported to players too, whose games must neither open a port nor send anything.
    if !config::is_dedicated_server() {
        return;
    }
    let (address, endpoint) = (setting(&METRICS_ADDRESS), setting(&OTLP_ENDPOINT));
    if address.is_none() && endpoint.is_none() {
        return;
    }
    collection::start();
    for outcome in [address.map(|text| answer_scrapes(&text)), endpoint.map(export)].into_iter().flatten() {
        if let Err(error) = outcome {
            // The game goes on: it does not depend on whoever watches it.
            tracing::error!("{}", error.message);
        }
    }
}

/// Main thread, when the engine quits.
pub fn close() {
    monitors::remove();
    collection::stop();
    let in_time = worker_threads::time_left().is_none_or(|left| left > LAST_EXPORT_TIMEOUT * 2);
    if let Some(exporter) = EXPORTER.get().filter(|_| in_time) {
        let exporter = Arc::clone(exporter);
        background_tasks::spawn(async move {
            // A collector that does not answer holds up nobody.
            let _late =
                tokio::time::timeout(LAST_EXPORT_TIMEOUT, exporter.export_last(LAST_EXPORT_TIMEOUT)).await;
        });
    }
}

fn answer_scrapes(address: &str) -> Result<(), ClientError> {
    let listener = endpoint::bind(endpoint::parse_address(address)?)?;
    let address =
        listener.local_addr().map_err(|error| ClientError::field("metrics_address", error.to_string()))?;
    tracing::info!("metrics for Prometheus are at http://{address}/metrics");
    let render = Arc::new(|| prometheus::encode(&collection::collect()));
    worker_threads::handle()?.spawn(endpoint::serve(listener, render));
    Ok(())
}

fn export(endpoint: String) -> Result<(), ClientError> {
    let settings = Settings {
        endpoint,
        headers: config::override_for(&OTLP_HEADERS.overrides).unwrap_or_default(),
        interval: interval()?,
        resource: resource(),
    };
    let wants_spans =
        config::override_for(&OTLP_TRACES.overrides).is_none_or(|exporter| exporter.trim() != "none");
    let transport =
        Arc::new(LazyTransport::new(Config { tls_roots: config::general_tls_roots(), ..Config::default() }));
    let spans = wants_spans.then_some(&metrics::REQUESTS.spans);
    let exporter =
        Exporter::new(settings, transport, Arc::new(collection::collect), spans, &metrics::EXPORTS)?;
    let exporter = Arc::new(exporter);
    let running = Arc::clone(&exporter);
    // Set once: the main loop begins once.
    let _first = EXPORTER.set(exporter);
    worker_threads::handle()?.spawn(async move { running.run().await });
    Ok(())
}

fn interval() -> Result<Duration, ClientError> {
    let Some(text) = config::override_for(&OTLP_INTERVAL.overrides) else { return Ok(DEFAULT_INTERVAL) };
    let millis = text.trim().parse::<u64>().ok().filter(|millis| *millis >= 1_000);
    millis.map(Duration::from_millis).ok_or_else(|| {
        let rule = "must be milliseconds, at least 1000. Nothing is exported";
        ClientError::field("OTEL_METRIC_EXPORT_INTERVAL", rule)
    })
}

/// Who exports. Attributes of the environment replace our own; a service name of its own setting replaces both.
fn resource() -> Vec<(String, String)> {
    let text = config::override_for(&RESOURCE_ATTRIBUTES.overrides).unwrap_or_default();
    let service = config::override_for(&SERVICE_NAME.overrides).map(|name| ("service.name".to_owned(), name));
    let instance = format!("{}-{}", host_name(), std::process::id());
    let own = [
        ("service.name", DEFAULT_SERVICE_NAME.to_owned()),
        ("service.instance.id", instance),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("telemetry.sdk.name", "backend_client".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    // No attribute twice: the protocol forbids it.
    let all: BTreeMap<String, String> = own.chain(parse_pairs(&text)).chain(service).collect();
    all.into_iter().collect()
}

fn host_name() -> String {
    let named = Os::singleton().get_environment("HOSTNAME").to_string();
    if named.is_empty() { "game-server".to_owned() } else { named }
}

fn setting(setting: &ProjectSetting) -> Option<String> {
    let text = config::override_for(&setting.overrides).unwrap_or_else(|| project_settings::text(setting));
    (!text.trim().is_empty()).then_some(text)
}
