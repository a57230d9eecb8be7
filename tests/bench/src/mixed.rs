//! Everything at once, at its real pace: servers with heartbeats, some of them with players whom they save, and clients that
//! list and join. What a part of the backend is worth is judged by what it saves here.

mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use test_harness::programs;
use tokio::runtime::Runtime;

use crate::backend::population::{self, Population};
use crate::backend::subject::{Base, Subject};
use crate::machine::Machine;
use crate::results::Report;
use traffic::{Fleet, Found, Kind, PLAYERS_PER_HOLDER, Traffic};

const OWN: &str = "backend";
const COST: &str = "server_us_per_request";

const ABOUT: &str = "1,000 servers (100 in a quick run) send heartbeats when the backend directs them to: every 30 s, every 5 s while \
    they hold players. A fifth of them hold 16 players each, and save a quarter of them every 2 s. A client for every fifth server lists \
    rooms every 5 s, half of them those of one map, and joins one every 10 s: list, ticket, validation by the game server. Each has \
    connections of its own. Requests are sent when they are due, however long the ones before take, and latencies count from then. \
    `server_us_per_request` is processor time of the backend, and of PostgreSQL's connections, for the same offered work: the figure \
    that decides. `requests_per_second` is what was offered. Latencies are those of a machine that does other work as well.";

struct Size {
    fleet: Fleet,
    warm_up: Duration,
    measured: Duration,
}

const FULL: Size = Size {
    fleet: Fleet { servers: 1_000, holders: 200, clients: 200, document: 2_048 },
    // Every server that holds players has sent a heartbeat, every client has listed.
    warm_up: Duration::from_secs(5),
    measured: Duration::from_secs(20),
};
const QUICK: Size = Size {
    fleet: Fleet { servers: 100, holders: 20, clients: 20, document: 512 },
    warm_up: Duration::from_secs(1),
    measured: Duration::from_secs(5),
};

#[derive(Args)]
pub struct MixedOptions {
    #[command(flatten)]
    common: crate::Options,
    /// Another build of the backend that takes turns with this one. Can be given several times
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = contestant)]
    against: Vec<(String, PathBuf)>,
}

fn contestant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("must be NAME=PROGRAM")?;
    Ok((name.to_owned(), program.into()))
}

/// Measures, tells, and says whether every request was answered.
pub fn run(options: &MixedOptions) -> Result<bool> {
    sqlx::any::install_default_drivers();
    let size = if options.common.quick { QUICK } else { FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut contestants = vec![(OWN.to_owned(), programs::backend_server()?)];
    contestants.extend(options.against.iter().cloned());
    let mut report = Report::new("mixed", Machine::this()?);
    report.explain(ABOUT);
    for round in 1..=options.common.rounds {
        test_harness::print_line!("round {round} of {}", options.common.rounds);
        for base in [Base::Sqlite, Base::Postgres] {
            for contestant in &contestants {
                one(&runtime, base, contestant, &size, &mut report)?;
            }
        }
        report.unjudge();
        judge(&mut report, &contestants);
        report.write(&options.common.folder)?;
    }
    for base in [Base::Sqlite, Base::Postgres] {
        let file = format!("cost-{}", base.name().to_lowercase());
        let title = format!("{}: processor time for each request of the mix, in µs", base.name());
        report.plot(&options.common.folder, &file, base.name(), COST, &title)?;
    }
    report.publish(&options.common.folder)?;
    Ok(report.counts_are_met())
}

/// One contestant on one database, both fresh.
fn one(
    runtime: &Runtime,
    base: Base,
    (name, program): &(String, PathBuf),
    size: &Size,
    report: &mut Report,
) -> Result<()> {
    let fleet = size.fleet;
    let mut subject = Subject::start_program(program, base, "bench_mixed")?;
    let players = fleet.holders * PLAYERS_PER_HOLDER;
    subject.grow(runtime, Population { servers: fleet.servers, players, document: fleet.document })?;
    for holder in 0..fleet.holders {
        let (id, first) = (population::server_id(holder), holder * PLAYERS_PER_HOLDER);
        runtime.block_on(population::hold(&subject.database, &id, first, PLAYERS_PER_HOLDER))?;
    }
    let (url, key) = (subject.backend.url(), subject.key.clone());
    let found = runtime.block_on(async {
        let traffic = Arc::new(Traffic::prepare(&url, &key, fleet).await?);
        traffic.run(size.warm_up, size.measured, async || subject.all_processes().await).await
    });
    let found = found.with_context(|| format!("{name} on {}", base.name()))?;
    take(report, base.name(), name, size, &found)
}

fn take(report: &mut Report, scenario: &str, way: &str, size: &Size, found: &Found) -> Result<()> {
    if let Some(failure) = &found.first_failure {
        test_harness::print_line!("{way} on {scenario}: {} failed, the first one: {failure}", found.failures);
    }
    let requests = found.requests() as f64;
    report.add(scenario, "failed", way, found.failures as f64);
    report.add(scenario, "requests_per_second", way, requests / size.measured.as_secs_f64());
    report.add(scenario, COST, way, found.server_seconds * 1e6 / requests);
    report.add(scenario, "backend_us_per_request", way, found.backend_seconds * 1e6 / requests);
    for kind in Kind::ALL {
        for (quantile, part) in [("p50", 0.5), ("p99", 0.99)] {
            let latency = found.quantile_us(kind, part)?;
            report.add(scenario, &format!("{}_{quantile}_us", kind.name()), way, latency);
        }
    }
    Ok(())
}

/// Errors are judged; costs are compared.
fn judge(report: &mut Report, contestants: &[(String, PathBuf)]) {
    for base in [Base::Sqlite, Base::Postgres] {
        for (name, _) in contestants {
            let failed = report.rounds(base.name(), "failed", name).iter().sum();
            report.judge(&format!("{}, {name}: requests that failed", base.name()), vec![failed], true, 0.0);
        }
    }
}
