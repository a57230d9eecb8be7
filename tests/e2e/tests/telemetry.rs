//! What a game server measures reaches those who collect it, and nobody else.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fixture::{self, Fixture};
use test_harness::telemetry::{Export, OtlpReceiver, Scrape};
use test_harness::until;

const HEADER: &str = "authorization=Bearer%20canary-of-the-collector-1847";

/// The URL that the server has logged.
fn metrics_url(server: &Fixture) -> Result<String> {
    let line = server.log().wait_for("metrics for Prometheus are at http://")?;
    let (_, url) = line.split_once(" at ").context("no URL")?;
    let url = url.split(['"', ' ']).next().unwrap_or_default().to_owned();
    ensure!(url.starts_with("http://127.0.0.1:") && url.ends_with("/metrics"), "not of this machine: {url}");
    Ok(url)
}

/// Scrapes until `wanted` is so.
fn scrape_until(url: &str, what: &str, wanted: impl Fn(&Scrape) -> bool) -> Result<Scrape> {
    let mut last = String::new();
    let found = until(what, || {
        let scrape = Scrape::of(url)?;
        last.clone_from(&scrape.text);
        Ok(wanted(&scrape).then_some(scrape))
    });
    found.with_context(|| last)
}

fn is(scrape: &Scrape, sample: &str, value: f64) -> bool {
    scrape.value(sample).is_some_and(|found| (found - value).abs() < 1e-9)
}

#[test]
fn a_scrape_shows_what_happens_on_a_game_server() -> Result<()> {
    let backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let mut server = fixture::server("Measured", &backend.url(), &backend.server_key_file())?
        .env("BACKEND_METRICS_ADDRESS", "0")
        .env("BACKEND_LOG_FORMAT", "json")
        .env("BACKEND_LOG_MODULES", "player_store=trace")
        .start()?;
    let url = metrics_url(&server)?;
    let at_first = Scrape::of(&url)?;
    ensure!(is(&at_first, "backend_client_registered", 0.0), "{}", at_first.text);
    ensure!(is(&at_first, "backend_client_documents_saved_total", 0.0), "{}", at_first.text);

    let room = server.ask(&json!({ "do": "register" }))?;
    let room_id = room["server_id"].as_str().context("no room")?.to_owned();
    server.ask(&json!({ "do": "load_players", "player_ids": [ada.id()] }))?;
    server.ask(&json!({ "do": "save", "key": "purse", "value": { "coins": 7 } }))?;
    server.ask(&json!({ "do": "flush" }))?;
    server.ask(&json!({ "do": "save_unloaded", "player_id": "nobody", "value": {} }))?;
    let mut client =
        fixture::client("client", &backend.url())?.env("BACKEND_METRICS_ADDRESS", "0").start()?;
    client.ask(&json!({ "do": "log_in", "name": "Bob" }))?;
    let ticket = client.ask(&json!({ "do": "ticket", "room_id": room_id }))?;
    for shown in [ticket["ticket"].clone(), json!("no.ticket.at-all")] {
        client.ask(&json!({ "do": "join", "port": room["port"], "ticket": shown }))?;
        client.ask(&json!({ "do": "leave" }))?;
    }
    for (sample, value) in [
        ("backend_client_registered", 1.0),
        ("backend_client_max_players", 16.0),
        ("backend_client_players_held", 1.0),
        ("backend_client_documents_saved_total", 1.0),
        ("backend_client_unsaved_documents", 0.0),
        ("backend_client_save_failures_total{code=\"not_loaded\"}", 1.0),
        ("backend_client_requests_total{route=\"/v1/players/save\",status=\"200\"}", 1.0),
        ("backend_client_peers_verified_total", 1.0),
    ] {
        scrape_until(&url, &format!("{sample} to be {value}"), |scrape| is(scrape, sample, value))?;
    }
    let scrape = scrape_until(&url, "a refusal and frames", |scrape| {
        scrape.sum("backend_client_peers_refused_total") > 0.5
            && scrape.sum("backend_client_frame_seconds_count") > 0.5
    })?;
    ensure!(scrape.sum("process_resident_memory_bytes") > 1e6, "{}", scrape.text);
    ensure!(!client.log().contains("metrics for Prometheus"), "a player's game has opened a port");

    // The main thread stands still, and the endpoint answers.
    let folder = tempfile::tempdir()?;
    let release = folder.path().join("release");
    server.ask(&json!({ "do": "hang", "until": release }))?;
    server.log().wait_for("EVENT hanging")?;
    scrape_until(&url, "the hang to show", |scrape| {
        scrape.sum("backend_client_main_loop_age_seconds") > 0.5
    })?;
    fs::write(&release, "")?;
    server.log().wait_for("EVENT unhung")?;

    // Each of the addon's lines is JSON, and one module has a level of its own.
    let lines = server.log().lines();
    let parsed: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let has_members = |line: &&Value| {
        ["timestamp", "level", "target"].into_iter().all(|member| line[member].is_string())
            && line["fields"].is_object()
    };
    ensure!(!parsed.is_empty() && parsed.iter().all(|line| has_members(&line)), "{parsed:?}");
    ensure!(!lines.iter().any(|line| line.starts_with("backend_client:")), "{}", server.log().tail());
    let is_verbose = |line: &&Value| ["DEBUG", "TRACE"].contains(&line["level"].as_str().unwrap_or_default());
    let elsewhere = parsed
        .iter()
        .filter(is_verbose)
        .find(|line| !line["target"].as_str().is_some_and(|target| target.contains("player_store")));
    ensure!(elsewhere.is_none(), "another module is verbose too: {elsewhere:?}");

    client.ask(&json!({ "do": "quit" }))?;
    client.godot().wait()?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn a_collector_gets_metrics_and_spans_until_the_end() -> Result<()> {
    let backend = Backend::start()?;
    let receiver = OtlpReceiver::start()?;
    let mut server = fixture::server("Exported", &backend.url(), &backend.server_key_file())?
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", HEADER)
        .env("OTEL_METRIC_EXPORT_INTERVAL", "1000")
        .env("OTEL_SERVICE_NAME", "pond")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
        .start()?;
    server.ask(&json!({ "do": "register" }))?;
    let registered = until("metrics and a span of the registration", || {
        let exports = receiver.exports()?;
        let is_registered =
            exports.iter().any(|export| number(export, "backend_client_registered") == Some(1.0));
        let span = exports.iter().any(|export| export.body.to_string().contains("\"POST /v1/servers\""));
        Ok((is_registered && span).then_some(exports))
    })?;
    let first = &registered[0];
    ensure!(first.head.to_lowercase().contains("\r\nauthorization: bearer canary"), "{}", first.head);
    let attributes = &first.body["resourceMetrics"][0]["resource"]["attributes"];
    for (key, value) in [("service.name", "pond"), ("deployment.environment.name", "test")] {
        let wanted = json!({ "key": key, "value": { "stringValue": value } });
        ensure!(attributes.as_array().is_some_and(|all| all.contains(&wanted)), "{attributes}");
    }

    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    ensure!(!server.log().contains("canary-of-the-collector"), "a header is in the log");
    until("an export after the end of the registration", || {
        let last = receiver.exports()?.into_iter().rfind(|export| export.path == "/v1/metrics");
        Ok(last.filter(|export| number(export, "backend_client_registered") == Some(0.0)))
    })?;
    Ok(())
}

/// The number of a metric's first point.
fn number(export: &Export, name: &str) -> Option<f64> {
    let metrics = export.body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array()?;
    let metric = metrics.iter().find(|metric| metric["name"] == name)?;
    metric["gauge"]["dataPoints"][0]["asDouble"].as_f64()
}
