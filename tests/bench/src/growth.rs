//! What a request costs as the tables grow: to 100,000 registered servers and 1,000,000 players.

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use crate::Options;
use crate::backend::load::Wrk;
use crate::backend::population::{self, Population};
use crate::backend::routes::{Askers, HOLDER};
use crate::backend::subject::{Base, Subject};
use crate::machine::Machine;
use crate::results::{Report, ratios};

/// Of small documents: what is asked is what their number costs, and a million of 2 KiB would take the disk's time alone.
const DOCUMENT: usize = 256;
const FULL: [Population; 3] = [of(1_000, 1_000), of(10_000, 100_000), of(100_000, 1_000_000)];
const QUICK: [Population; 2] = [of(100, 500), of(1_000, 2_000)];
const SECONDS: usize = 1;
/// Above what was saved before, and in the round before.
const STEP: u64 = 1_000_000;
const COST: &str = "processor_us_per_request";

const fn of(servers: usize, players: usize) -> Population {
    Population { servers, players, document: DOCUMENT }
}

/// Measures, tells, and says whether all costs stay flat.
pub fn run(options: &Options) -> Result<bool> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sizes: &[Population] = if options.quick { &QUICK } else { &FULL };
    let mut report = Report::new("growth", Machine::this()?);
    for base in [Base::Sqlite, Base::Postgres] {
        let mut subject = Subject::start(base, "bench_growth")?;
        for (index, size) in sizes.iter().enumerate() {
            test_harness::print_line!("{}: {} servers, {} players", base.name(), size.servers, size.players);
            one_size(options, &runtime, &mut subject, *size, index as u64, &mut report)?;
        }
    }
    let (smallest, largest) = (sizes[0], sizes[sizes.len() - 1]);
    for (name, by) in ROUTES {
        for base in [Base::Sqlite, Base::Postgres] {
            let at = |size: Population| report.rounds(&scenario(name, by(size)), COST, base.name()).to_vec();
            let growth = ratios(&at(largest), &at(smallest));
            let what =
                format!("{name}, {}: cost with {} over that with {}", base.name(), by(largest), by(smallest));
            report.judge(&what, growth, true, 1.5);
        }
    }
    report.publish(&options.folder)?;
    for (name, by) in ROUTES {
        let counted = if by(of(1, 0)) == 1 { "registered servers" } else { "players with a document" };
        let file: String = name.chars().filter(|one| one.is_alphanumeric() || *one == ' ').collect();
        let title = format!("{name}: processor time per request");
        report.lines(
            &options.folder,
            &file.replace(' ', "-"),
            &format!("{name} "),
            COST,
            &title,
            (counted, "µs of backend and database"),
        )?;
    }
    // Of little, only that every request was answered well counts, and that was looked at.
    Ok(options.quick || report.is_met())
}

/// What of a population grows.
type Counted = fn(Population) -> usize;

/// The routes, and what each of them might have to look through.
const ROUTES: [(&str, Counted); 7] = [
    ("rooms, page of 50", |size| size.servers),
    ("rooms, of one map", |size| size.servers),
    ("heartbeat", |size| size.servers),
    ("validate", |size| size.players),
    ("load of one player", |size| size.players),
    ("save of 100 documents", |size| size.players),
    ("guest login", |size| size.players),
];

fn scenario(name: &str, size: usize) -> String {
    format!("{name} {size}")
}

fn one_size(
    options: &Options,
    runtime: &Runtime,
    subject: &mut Subject,
    size: Population,
    index: u64,
    report: &mut Report,
) -> Result<()> {
    subject.grow(runtime, size)?;
    let saved = Askers::saved(size);
    runtime.block_on(population::hold(&subject.database, &population::server_id(HOLDER), 0, saved))?;
    let askers = Askers::log_in(&subject.backend.url(), &subject.key, size)?;
    let wrk = Wrk::find()?;
    for round in 0..options.rounds as u64 {
        let turn = index * options.rounds as u64 + round + 1;
        for route in askers.routes(&format!("growth-{turn}"), turn * STEP)? {
            let Some((_, by)) = ROUTES.iter().find(|(name, _)| *name == route.name) else { continue };
            let loaded = wrk.run(&subject.backend.url(), || subject.processes(runtime), &route.load, SECONDS);
            let loaded = loaded.with_context(|| format!("{} with {}", route.name, by(size)))?;
            loaded.is_good(route.name)?;
            let scenario = scenario(route.name, by(size));
            report.add(&scenario, COST, subject.base.name(), loaded.server_us);
            report.add(&scenario, "p99_us", subject.base.name(), loaded.p99_us);
            report.add(&scenario, "requests_per_second", subject.base.name(), loaded.per_second());
        }
    }
    Ok(())
}
