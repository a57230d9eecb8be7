//! A hundred thousand registered servers on one backend, with a heartbeat of each every 30 seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backend_client::api::transport::HttpTransport;
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::registration::Heartbeat;
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Options;
use crate::backend::load::used_by;
use crate::backend::population::{Population, server_id};
use crate::backend::subject::{Base, Subject};
use crate::machine::Machine;
use crate::results::Report;

const WAY: &str = "backend";
const P99: &str = "p99_ms";
const CORES: &str = "backend_cores";
const FAILED: &str = "failed";

const ABOUT: &str = "100,000 servers (300 in a quick run) are registered. Each sends a heartbeat every 30 s (3 s), half of them with \
    another number of players each time. The heartbeats leave through 256 connections that stay open, as a load balancer would send \
    them: this machine cannot open one for each server. Each is sent when it is due, and latencies count from then. \
    `backend_cores` is the processor time of the backend in each second, `all_cores` that and PostgreSQL's.";

struct Size {
    servers: usize,
    interval: Duration,
    connections: usize,
    warm_up: Duration,
    measured: Duration,
}

const FULL: Size = Size {
    servers: 100_000,
    interval: Duration::from_secs(30),
    connections: 256,
    warm_up: Duration::from_secs(5),
    // A heartbeat of each.
    measured: Duration::from_secs(30),
};
const QUICK: Size = Size {
    servers: 300,
    interval: Duration::from_secs(3),
    connections: 16,
    warm_up: Duration::from_secs(1),
    measured: Duration::from_secs(2),
};

/// What some of the servers found.
#[derive(Default)]
struct Found {
    latencies: Vec<Duration>,
    failures: usize,
    first_failure: Option<String>,
}

/// Measures, tells, and says whether the goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    sqlx::any::install_default_drivers();
    let size = if options.quick { &QUICK } else { &FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = Report::new("fleet", Machine::this()?);
    report.explain(ABOUT);
    for base in [Base::Sqlite, Base::Postgres] {
        let mut subject = Subject::start(base, "bench_fleet")?;
        subject.grow(&runtime, Population { servers: size.servers, players: 0, document: 0 })?;
        for round in 1..=options.rounds {
            test_harness::print_line!("{}, round {round} of {}", base.name(), options.rounds);
            one(&runtime, &subject, size, round, &mut report)?;
        }
        let rounds = |report: &Report, measure: &str| report.rounds(base.name(), measure, WAY).to_vec();
        let failed = rounds(&report, FAILED).iter().sum();
        report.judge(&format!("{}: heartbeats that failed", base.name()), vec![failed], true, 0.0);
        for (what, measure, goal) in
            [("p99 of a heartbeat (ms)", P99, 50.0), ("cores of the backend", CORES, 1.0)]
        {
            let values = rounds(&report, measure);
            report.judge(&format!("{}: {what}", base.name()), values, true, goal);
        }
    }
    report.publish(&options.folder)?;
    Ok(if options.quick { report.counts_are_met() } else { report.is_met() })
}

fn one(runtime: &Runtime, subject: &Subject, size: &Size, round: usize, report: &mut Report) -> Result<()> {
    let key = ServerKey::parse(&subject.key)?;
    let mut found = Found::default();
    let (backend, all) = runtime.block_on(async {
        let start = Instant::now();
        let begin = start + size.warm_up;
        let end = begin + size.measured;
        let mut tasks = JoinSet::new();
        for lane in 0..size.connections {
            let servers = (lane..size.servers).step_by(size.connections).collect();
            let beats =
                Beats { key: key.clone(), servers, fleet: size.servers, interval: size.interval, round };
            tasks.spawn(beats.send(connection(&subject.backend.url())?, start, begin, end));
        }
        sleep_until(begin).await;
        let before: HashMap<u32, f64> = used_by(subject.all_processes().await?).collect();
        sleep_until(end).await;
        let processes = subject.all_processes().await?;
        let backend = processes.first().copied();
        // Connections to the database that came meanwhile have worked for this only.
        let spent: Vec<(u32, f64)> =
            used_by(processes).map(|(id, used)| (id, used - before.get(&id).unwrap_or(&0.0))).collect();
        while let Some(ended) = tasks.join_next().await {
            let Found { latencies, failures, first_failure } = ended?;
            found.latencies.extend(latencies);
            found.failures += failures;
            found.first_failure = found.first_failure.take().or(first_failure);
        }
        let of = |id: Option<u32>| {
            let counted = spent.iter().filter(|(process, _)| id.is_none_or(|id| id == *process));
            counted.map(|(_, seconds)| seconds).sum::<f64>()
        };
        anyhow::Ok((of(backend), of(None)))
    })?;
    if let Some(failure) = &found.first_failure {
        test_harness::print_line!("{} heartbeats failed, the first one: {failure}", found.failures);
    }
    found.latencies.sort_unstable();
    let last = found.latencies.len().checked_sub(1).context("no heartbeat was answered")?;
    let at = |part: f64| found.latencies[(last as f64 * part) as usize].as_secs_f64() * 1e3;
    let seconds = size.measured.as_secs_f64();
    for (measure, value) in [
        ("heartbeats_per_second", found.latencies.len() as f64 / seconds),
        ("median_ms", at(0.5)),
        (P99, at(0.99)),
        ("longest_ms", at(1.0)),
        (CORES, backend / seconds),
        ("all_cores", all / seconds),
        (FAILED, found.failures as f64),
    ] {
        report.add(subject.base.name(), measure, WAY, value);
    }
    Ok(())
}

/// The heartbeats of the servers that share a connection.
struct Beats {
    key: ServerKey,
    servers: Vec<usize>,
    /// How many servers there are in all.
    fleet: usize,
    interval: Duration,
    /// Numbers of heartbeats go on where the round before ended.
    round: usize,
}

impl Beats {
    /// Sends what is due until `end`, and counts what was due from `begin` on.
    async fn send(self, backend: HttpBackend, start: Instant, begin: Instant, end: Instant) -> Found {
        let mut found = Found::default();
        for turn in 0u32.. {
            for number in &self.servers {
                let place = *number as f64 / self.fleet as f64;
                let due = start + self.interval * turn + self.interval.mul_f64(place);
                if due >= end {
                    return found;
                }
                sleep_until(due).await;
                let sequence = (self.round * 1_000) as u64 + u64::from(turn);
                let changes = if number % 2 == 0 { 0 } else { sequence as usize };
                let body = Heartbeat {
                    sequence,
                    players: ((number + changes) % 16) as u32,
                    revocations_after: Some(1),
                    ..Heartbeat::default()
                };
                let reply = backend.heartbeat(&self.key, &server_id(*number), &body).await;
                match reply {
                    Ok(_) if due >= begin => found.latencies.push(due.elapsed()),
                    Ok(_) => {}
                    Err(error) => {
                        found.failures += 1;
                        found.first_failure.get_or_insert_with(|| error.to_string());
                    }
                }
            }
        }
        found
    }
}

fn connection(url: &str) -> Result<HttpBackend> {
    // An error is counted rather than repeated.
    let config = Config { base_url: url.to_owned(), retry_attempts: 1, ..Config::default() };
    let transport = Arc::new(HttpTransport::new(&config)?);
    Ok(HttpBackend::new(config, transport, Arc::new(SystemClock))?)
}
