//! What a call takes while its reply is out: the growth of the process with many submitted, to a server that holds all
//! replies back.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backend_client::protocol::routes;
use backend_client::protocol::validation::Validate;
use clap::Args;
use reqwest::Client;
use serde_json::json;
use test_harness::process::Process;
use tokio::task::JoinSet;

use crate::Options;
use crate::bare_server::{BareServer, HELD, KEY};
use crate::cpu_affinity::{Side, pinned};
use crate::engine::{self, Figures, Project};
use crate::machine::Machine;
use crate::results::Report;

const SCENARIO: &str = "held back";
const MEASURE: &str = "bytes_per_call";
/// As many as the addon has.
const WORKERS: usize = 2;
/// Until everything that can be on the wire is.
const SETTLED: Duration = Duration::from_secs(3);

/// What the process of bare reqwest is told.
#[derive(Args)]
pub struct Held {
    /// Base URL of the server
    #[arg(long)]
    url: String,
    /// Calls, all at once
    #[arg(long)]
    count: usize,
}

/// Measures and tells. There is no goal but to know.
pub fn run(options: &Options) -> Result<bool> {
    let count = if options.quick { 50 } else { 1_000 };
    let project = Project::with(&options.library)?;
    let mut report = Report::new("memory", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        for way in ["raw reqwest", "addon", "request_per_call"] {
            // One each: what the last contestant left behind is not there.
            let server = BareServer::start()?;
            let found = if way == "raw reqwest" {
                raw(server.url(), count)?
            } else {
                let runs = format!("warm:1,memory:{count}:{}", SETTLED.as_secs());
                project.measure(way, server.url(), &runs)?
            };
            let figure = found.iter().find_map(|figures| figures.get("resident_bytes"));
            let grown = figure.and_then(serde_json::Value::as_f64).context("it told no figures")?;
            report.add(SCENARIO, MEASURE, way, grown / count as f64);
            let connections = server.counts()?.connections;
            report.add(SCENARIO, "connections", way, connections as f64);
        }
    }
    let title = format!("Memory per call in bytes, {count} submitted and none answered");
    report.plot(&options.folder, "per-call", SCENARIO, MEASURE, &title)?;
    report.publish(&options.folder)?;
    Ok(true)
}

fn raw(url: &str, count: usize) -> Result<Vec<Figures>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["held", "--url", url, "--count", &count.to_string()]);
    let mut process = Process::start("raw", pinned(Side::Client, &command))?;
    process.wait_for_exit(0)?;
    engine::figures_of(process.log())
}

/// The process of bare reqwest: nothing limits what is on the wire.
pub fn wait(held: &Held) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let url = format!("{}{}", held.url, routes::VALIDATE);
    let call = |token: String| {
        let request = client.post(&url).bearer_auth(KEY).json(&Validate { token, server_id: None });
        async move { request.send().await?.error_for_status()?.bytes().await }
    };
    runtime.block_on(async {
        call("warm".to_owned()).await?;
        let before = resident()?;
        let mut calls = JoinSet::new();
        for _ in 0..held.count {
            calls.spawn(call(format!("{HELD}.{}.y", "x".repeat(200))));
        }
        tokio::time::sleep(SETTLED).await;
        let grown = resident()?.saturating_sub(before);
        let figures = json!({ "run": "memory", "failed": 0, "resident_bytes": grown });
        test_harness::print_line!("{}{figures}", engine::FIGURES);
        anyhow::Ok(())
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// Bytes of this process in memory (proc_pid_status(5)).
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
