//! A heartbeat as the addon sends it, on its workers, against the same request with bare reqwest. The main thread has no
//! part in it.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use backend_client::api::transport::HttpTransport;
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::registration::{Heartbeat, HeartbeatReply};
use backend_client::protocol::routes;
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use clap::{Args, ValueEnum};
use reqwest::Client;
use serde_json::json;
use test_harness::process::Process;

use crate::Options;
use crate::bare_server::{BareServer, KEY, SERVER};
use crate::cpu_affinity::{Side, pinned};
use crate::engine;
use crate::load::{Took, run_load};
use crate::machine::Machine;
use crate::results::Report;

/// As many as the addon has.
const WORKERS: usize = 2;
/// On the wire at a time: one server's, and those of a whole fleet through one process, to see what a beat costs.
const IN_FLIGHT: [usize; 2] = [1, 64];
const MEASURES: [&str; 2] = ["beats_per_second", "processor_us_per_beat"];

/// Who beats.
#[derive(Clone, Copy, ValueEnum)]
pub enum Way {
    /// Bare reqwest
    Raw,
    /// The addon's client
    Addon,
}

#[derive(Args)]
pub struct BeatOptions {
    #[arg(value_enum)]
    way: Way,
    /// Base URL of the server
    #[arg(long)]
    url: String,
    /// Requests on the wire at a time
    #[arg(long)]
    in_flight: usize,
    /// How many
    #[arg(long)]
    count: usize,
}

/// Measures and tells.
pub fn run(options: &Options) -> Result<bool> {
    let count = if options.quick { 200 } else { 20_000 };
    let server = BareServer::start()?;
    let mut report = Report::new("heartbeat", Machine::this()?);
    for _ in 0..options.rounds {
        for in_flight in IN_FLIGHT {
            for (way, name) in [("raw", "raw reqwest"), ("addon", "addon")] {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["beat", way, "--url", server.url(), "--in-flight", &in_flight.to_string()]);
                command.args(["--count", &count.to_string()]);
                let mut process = Process::start(way, pinned(Side::Client, &command))?;
                process.wait_for_exit(0)?;
                let figures = engine::figures_of(process.log())?.pop().context("no figures")?;
                for measure in MEASURES {
                    let value = figures.get(measure).and_then(serde_json::Value::as_f64).context(measure)?;
                    report.add(&format!("{in_flight} in flight"), measure, name, value);
                }
            }
        }
    }
    let scenario = format!("{} in flight", IN_FLIGHT[1]);
    let title = "Processor time of the game server per heartbeat, in µs";
    report.plot(&options.folder, "processor", &scenario, MEASURES[1], title)?;
    report.publish(&options.folder)?;
    Ok(true)
}

/// One way, in a process of its own.
pub fn beat(options: &BeatOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let took = runtime.block_on(async {
        match options.way {
            Way::Raw => raw(options).await,
            Way::Addon => addon(options).await,
        }
    })?;
    let count = options.count as f64;
    let figures = json!({ "run": "burst", "failed": 0, MEASURES[0]: count / took.time.as_secs_f64(),
        MEASURES[1]: took.processor.as_secs_f64() * 1e6 / count });
    test_harness::print_line!("{}{figures}", engine::FIGURES);
    Ok(())
}

async fn raw(options: &BeatOptions) -> Result<Took> {
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let url = format!("{}{}", options.url, routes::heartbeat(SERVER));
    measured(options, move |number| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            let reply = client.post(url).bearer_auth(KEY).json(&body(number)).send().await?;
            ensure!(reply.status().is_success(), "{}", reply.status());
            answered(&reply.json().await?)
        }
    })
    .await
}

async fn addon(options: &BeatOptions) -> Result<Took> {
    let config = Config { base_url: options.url.clone(), ..Config::default() };
    let transport = Arc::new(HttpTransport::new(&config)?);
    let backend = Arc::new(HttpBackend::new(config, transport, Arc::new(SystemClock))?);
    let key = ServerKey::parse(KEY)?;
    measured(options, move |number| {
        let (backend, key) = (Arc::clone(&backend), key.clone());
        async move { answered(&backend.heartbeat(&key, SERVER, &body(number)).await?) }
    })
    .await
}

async fn measured<F>(
    options: &BeatOptions,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Result<Took>
where
    F: Future<Output = Result<()>> + Send,
{
    // The first ones open the connections.
    run_load(options.in_flight, options.in_flight, call.clone()).await?;
    run_load(options.in_flight, options.count, call).await
}

fn body(number: usize) -> Heartbeat {
    Heartbeat {
        sequence: number as u64,
        confirmed_sequence: None,
        players: 12,
        revocations_after: Some(1),
        ..Heartbeat::default()
    }
}

fn answered(reply: &HeartbeatReply) -> Result<()> {
    ensure!(reply.heartbeat_seconds > 0, "an odd reply");
    Ok(())
}
