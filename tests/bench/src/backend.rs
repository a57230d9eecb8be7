//! The backend itself: each route on SQLite and on PostgreSQL against a handler that does nothing, and saves against the
//! rate of the database below.

pub mod batches;
pub mod load;
pub mod population;
pub mod routes;
pub mod subject;

use anyhow::{Context as _, Result, ensure};

use crate::Options;
use crate::bare_server::BareServer;
use crate::machine::Machine;
use crate::results::{Report, ratios};
use load::{Loaded, Wrk};
use population::Population;
use routes::{Askers, Kind, Route};
use subject::{Base, Subject};
use tokio::runtime::Runtime;

/// The contestant that does nothing.
const EMPTY: &str = "empty handler";
/// The contestant without a backend.
const BARE: &str = "bare transactions";
const SAVES: &str = "save of 100 documents";
/// Of load for each figure.
const SECONDS: usize = 1;
/// Sequences of two runs of the same round and database never meet.
const STEP: u64 = 1_000_000;

const FULL: Population = Population { servers: 1_000, players: 20_000, document: 2_048 };
const QUICK: Population = Population { servers: 100, players: 1_000, document: 512 };

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let population = if options.quick { QUICK } else { FULL };
    let wrk = Wrk::find()?;
    let bare = BareServer::start()?;
    let mut subjects = Vec::new();
    for base in [Base::Sqlite, Base::Postgres] {
        let mut subject = Subject::start(base, "bench_backend")?;
        subject.grow(&runtime, population)?;
        let saved = Askers::saved(population);
        runtime.block_on(population::hold(
            &subject.database,
            &population::server_id(routes::HOLDER),
            0,
            saved,
        ))?;
        let askers = Askers::log_in(&subject.backend.url(), &subject.key, population)?;
        subjects.push((base, subject, askers));
    }
    let mut report = Report::new("backend", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        one_round(options, &runtime, &wrk, &bare, &subjects, round as u64, &mut report)?;
    }
    let reads: Vec<&str> = subjects[0]
        .2
        .routes("", 0)?
        .iter()
        .filter(|route| route.kind == Kind::Read && (route.in_quick || !options.quick))
        .map(|route| route.name)
        .collect();
    judge(&mut report, &reads);
    report.publish(&options.folder)?;
    plots(&report, options, &reads)?;
    // Of little, only that every request was answered well counts, and that was looked at.
    Ok(options.quick || report.is_met())
}

fn one_round(
    options: &Options,
    runtime: &Runtime,
    wrk: &Wrk,
    bare: &BareServer,
    subjects: &[(Base, Subject, Askers)],
    round: u64,
    report: &mut Report,
) -> Result<()> {
    for (base, subject, askers) in subjects {
        let way = base.name();
        let empty = wrk.run(bare.url(), || Ok(vec![bare.id()]), &routes::empty(), SECONDS)?;
        take(report, "nothing", way, &empty)?;
        let since = round * STEP;
        for route in askers.routes(&format!("run-{round}"), since)? {
            if options.quick && !route.in_quick {
                continue;
            }
            if route.kind == Kind::Read {
                take(report, route.name, EMPTY, &empty)?;
            }
            if route.kind == Kind::Saves {
                saves(runtime, wrk, subject, &route, way, since, report)?;
                continue;
            }
            let loaded = wrk.run(&subject.backend.url(), || subject.processes(runtime), &route.load, SECONDS);
            let loaded = loaded.with_context(|| format!("{} on {way}", route.name))?;
            take(report, route.name, way, &loaded)?;
        }
    }
    Ok(())
}

/// Saves through the backend, and the same without it; each counts what the database holds afterwards.
fn saves(
    runtime: &Runtime,
    wrk: &Wrk,
    subject: &Subject,
    route: &Route,
    way: &str,
    since: u64,
    report: &mut Report,
) -> Result<()> {
    let population = subject.population;
    let saved = Askers::saved(population);
    let own = batches::measure(&subject.database, (saved, saved), population.document, since, SECONDS)?;
    report.add(route.name, "documents_per_second", &format!("{BARE}, {way}"), own);
    let before = subject.saves(runtime)?;
    let loaded = wrk.run(&subject.backend.url(), || subject.processes(runtime), &route.load, SECONDS)?;
    let applied = (subject.saves(runtime)? - before) as f64;
    take(report, route.name, way, &loaded)?;
    let sent = loaded.count() * routes::BATCH as f64;
    // A reply may have been on its way when the time was up; its batch was saved.
    ensure!(applied >= sent, "{applied} documents were saved of {sent} that were acknowledged");
    report.add(route.name, "documents_per_second", way, loaded.per_second() * routes::BATCH as f64);
    Ok(())
}

fn take(report: &mut Report, scenario: &str, way: &str, loaded: &Loaded) -> Result<()> {
    loaded.is_good(&format!("{scenario}, {way}"))?;
    report.add(scenario, "requests_per_second", way, loaded.per_second());
    report.add(scenario, "p50_us", way, loaded.p50_us);
    report.add(scenario, "p99_us", way, loaded.p99_us);
    report.add(scenario, "server_us_per_request", way, loaded.server_us);
    Ok(())
}

fn judge(report: &mut Report, reads: &[&'static str]) {
    let speed = "requests_per_second";
    for base in [Base::Sqlite, Base::Postgres] {
        let way = base.name();
        for name in reads {
            let part = ratios(report.rounds(name, speed, way), report.rounds("nothing", speed, way));
            report.judge(&format!("{name}, {way}: part of an empty handler"), part, false, 0.5);
        }
        let documents = |way: &str| report.rounds(SAVES, "documents_per_second", way).to_vec();
        let part = ratios(&documents(way), &documents(&format!("{BARE}, {way}")));
        report.judge(&format!("saves, {way}: part of the database's own rate"), part, false, 0.7);
    }
}

fn plots(report: &Report, options: &Options, names: &[&'static str]) -> Result<()> {
    for name in names {
        let file: String = name.chars().filter(|one| one.is_alphanumeric() || *one == ' ').collect();
        let file = file.to_lowercase().replace(' ', "-");
        let title = format!("{name}: requests per second");
        report.plot(&options.folder, &file, name, "requests_per_second", &title)?;
    }
    let title = "Saves: documents per second, in batches of 100";
    report.plot(&options.folder, "saves", SAVES, "documents_per_second", title)
}
