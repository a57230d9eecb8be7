//! Bare reqwest with the addon's worker threads and limit: what the machine can do with this HTTP stack.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backend_client::protocol::routes;
use backend_client::protocol::validation::{Validate, Validated};
use clap::Args;
use reqwest::Client;
use serde_json::json;
use test_harness::process::Process;
use tokio::task::JoinSet;

use crate::bare_server::KEY;
use crate::cpu_affinity::{Side, pinned};
use crate::engine::{self, Figures};

/// As many as the addon has.
const WORKERS: usize = 2;

#[derive(Args)]
pub struct Options {
    /// Base URL of the server
    #[arg(long)]
    url: String,
    /// Requests on the wire at a time
    #[arg(long)]
    in_flight: usize,
    /// Scenarios, such as `burst:20000`, with commas
    #[arg(long)]
    runs: String,
}

/// Runs the scenarios in a process of its own.
pub fn measure(url: &str, in_flight: usize, runs: &str) -> Result<Vec<Figures>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["raw", "--url", url, "--in-flight", &in_flight.to_string(), "--runs", runs]);
    let mut process = Process::start("raw", pinned(Side::Client, &command))?;
    process.wait_for_exit(0)?;
    engine::figures_of(process.log())
}

/// The process itself.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    for run in options.runs.split(',') {
        let words: Vec<&str> = run.split(':').collect();
        let count: usize = words.get(1).context("how many?")?.parse()?;
        let mut figures = match words[0] {
            "warm" => {
                runtime.block_on(burst(&client, &options.url, options.in_flight, count))?;
                json!({})
            }
            "burst" => {
                let took = runtime.block_on(burst(&client, &options.url, options.in_flight, count))?;
                json!({ "calls_per_second": count as f64 / took.as_secs_f64() })
            }
            "loop" => {
                let in_flight = words.get(2).context("how many at a time?")?.parse()?;
                let took = runtime.block_on(burst(&client, &options.url, in_flight, count))?;
                json!({ "calls_per_second": count as f64 / took.as_secs_f64() })
            }
            "single" => json!({ "latency_ms": runtime.block_on(single(&client, &options.url, count))? }),
            other => bail!("no scenario {other}"),
        };
        figures["run"] = run.into();
        figures["failed"] = 0.into();
        test_harness::print_line!("{}{figures}", engine::FIGURES);
    }
    Ok(())
}

async fn burst(client: &Client, url: &str, in_flight: usize, count: usize) -> Result<Duration> {
    let url: Arc<str> = format!("{url}{}", routes::VALIDATE).into();
    let begun = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..in_flight {
        let (client, url, begun) = (client.clone(), Arc::clone(&url), Arc::clone(&begun));
        callers.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                call(&client, &url).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(begin.elapsed())
}

/// Median in milliseconds.
async fn single(client: &Client, url: &str, count: usize) -> Result<f64> {
    let url = format!("{url}{}", routes::VALIDATE);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begin = Instant::now();
        call(client, &url).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

async fn call(client: &Client, url: &str) -> Result<()> {
    let body = Validate { token: format!("e30.{}.y", "x".repeat(200)), server_id: None };
    let reply = client.post(url).bearer_auth(KEY).json(&body).send().await?;
    ensure!(reply.status().is_success(), "{}", reply.status());
    let validated: Validated = reply.json().await?;
    ensure!(validated.player_id == "player-1", "somebody else");
    Ok(())
}
