//! `cargo xtask test`: everything that can be checked, in stages, with one summary.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::browser::Browser;
use crate::godot::Engine;
use crate::postgres::Postgres;
use crate::process::Running;
use crate::summary::{self, Counts, Outcome, Stage};
use crate::{
    backend, bench, browser, chaos, cjk_font, deploy, differential, display, engine, godot, interrupt,
    library, postgres, powercut, relay_client, schemathesis, server_query, sim, workspace, wycheproof,
};

/// Bounds for builds and stages that hang: far above what they take on two cores.
const BUILD: Duration = Duration::from_mins(40);
const STAGE: Duration = Duration::from_mins(25);
/// Tests of one stage that may need a second attempt.
const MAX_FLAKY: usize = 2;

/// Options of `cargo xtask test`.
#[derive(Args)]
pub struct Options {
    /// Runs only this stage; may be repeated
    #[arg(long, value_enum)]
    only: Vec<Kind>,
    /// Runs only tests whose name contains this
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Unit, property, simulation and contract tests
    Rust,
    /// The token verifier on the vectors of the Wycheproof project, if they are there
    Wycheproof,
    /// The token verifier against PyJWT, on changed tokens
    Differential,
    /// Requests made from the OpenAPI document, against a running backend
    Schemathesis,
    /// The recipes for clouds, with programs in place of the clouds
    Recipes,
    /// A real game server, asked by clients that are not ours
    ServerQuery,
    /// The relay, spoken to by a client that is not ours
    RelayClient,
    /// Suites inside the engine
    Engine,
    /// Real backend, real Godot processes, real signals and faults
    EndToEnd,
    /// 6,000 seeds of the simulation, and the failpoints that it has to notice
    Sim,
    /// Trials with random faults, judged by an independent checker, and the failpoints that it has to notice
    Chaos,
    /// Power cuts under the journal, and the failpoints that have to lose data
    Powercut,
    /// That the benchmarks work, and what can be counted rather than timed
    Bench,
}

/// What the stages share. A failure to build or get a need fails those stages that have it.
struct Needs {
    engine: Result<Engine, String>,
    postgres: Result<Postgres, String>,
    xvfb: Result<PathBuf, String>,
    browser: Result<Browser, String>,
    cjk_font: Result<PathBuf, String>,
    backend: Result<PathBuf, String>,
}

/// Runs it all; fails unless all passed.
pub fn run(options: &Options) -> ExitCode {
    let wants = |kind| options.only.is_empty() || options.only.contains(&kind);
    let mut stages = Vec::new();
    let mut prepared = None;
    timed(&mut stages, "prepare", || {
        prepared = Some(prepare(wants)?);
        Ok(Outcome::Ran(Counts::default()))
    });
    if let Some(needs) = prepared {
        let filter = options.filter.as_deref();
        if wants(Kind::Rust) {
            timed(&mut stages, "rust", || Ok(Outcome::Ran(rust_tests(&needs, filter)?)));
            if filter.is_none() {
                timed(&mut stages, "doc examples", || Ok(Outcome::Ran(doc_tests(&needs)?)));
            }
        }
        // These have no tests to choose from.
        if wants(Kind::Sim) && filter.is_none() {
            timed(&mut stages, "sim", || sim::stage().map(Outcome::Ran));
        }
        if wants(Kind::Wycheproof) && filter.is_none() {
            timed(&mut stages, "wycheproof", wycheproof::stage);
        }
        if wants(Kind::Differential) && filter.is_none() {
            timed(&mut stages, "differential", differential::stage);
        }
        if wants(Kind::Schemathesis) && filter.is_none() {
            timed(&mut stages, "schemathesis", || {
                schemathesis::stage(found(&needs.backend)?).map(Outcome::Ran)
            });
        }
        if wants(Kind::Recipes) && filter.is_none() {
            timed(&mut stages, "recipes", deploy::stage);
        }
        if wants(Kind::ServerQuery) && filter.is_none() {
            timed(&mut stages, "server-query", || {
                server_query::stage(found(&needs.engine)?, found(&needs.backend)?)
            });
        }
        if wants(Kind::RelayClient) && filter.is_none() {
            timed(&mut stages, "relay-client", || relay_client::stage(found(&needs.backend)?));
        }
        if wants(Kind::Engine) {
            timed(&mut stages, "engine", || {
                engine::run(found(&needs.engine)?, found(&needs.backend)?, filter).map(Outcome::Ran)
            });
        }
        if wants(Kind::EndToEnd) {
            timed(&mut stages, "end-to-end", || Ok(Outcome::Ran(end_to_end(&needs, filter)?)));
        }
        if wants(Kind::Chaos) && filter.is_none() {
            timed(&mut stages, "chaos", || {
                let postgres = found(&needs.postgres)?;
                chaos::stage(found(&needs.backend)?, postgres.url(), found(&needs.engine)?).map(Outcome::Ran)
            });
        }
        if wants(Kind::Powercut) && filter.is_none() {
            timed(&mut stages, "powercut", powercut::stage);
        }
        if wants(Kind::Bench) && filter.is_none() {
            timed(&mut stages, "bench", || Ok(Outcome::Ran(bench::stage(found(&needs.engine)?))));
        }
    }
    let total = summary::total(&stages);
    let good = total.failed == 0 && total.passed > 0;
    if total.passed == 0 && total.failed == 0 {
        eprintln!("no test ran");
    }
    println!("{}", summary::report(&stages));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn timed(stages: &mut Vec<Stage>, name: &str, work: impl FnOnce() -> Result<Outcome>) {
    println!("\n== {name}");
    let begin = Instant::now();
    let result = interrupt::check().and_then(|()| work());
    let took = begin.elapsed();
    let mut stage =
        Stage { name: name.to_owned(), counts: Counts::default(), failure: None, not_run: None, took };
    match result {
        Ok(Outcome::Ran(counts)) => stage.counts = counts,
        Ok(Outcome::NotRun(why)) => {
            println!("{name} was not run: {why}");
            stage.not_run = Some(why);
        }
        Err(error) => {
            println!("{name} failed: {error:#}");
            stage.failure = Some(format!("{error:#}"));
        }
    }
    println!("== {name} took {:.1} s", took.as_secs_f64());
    stages.push(stage);
}

fn prepare(wants: impl Fn(Kind) -> bool) -> Result<Needs> {
    let unneeded = || "not needed".to_owned();
    let with_engine =
        [Kind::ServerQuery, Kind::Engine, Kind::EndToEnd, Kind::Chaos, Kind::Bench].into_iter().any(&wants);
    let backend = said(backend::build());
    let engine = if with_engine {
        said(library::build(library::Profile::Debug).and_then(|_in_place| godot::provide()))
    } else {
        Err(unneeded())
    };
    let postgres = if wants(Kind::Rust) || wants(Kind::EndToEnd) || wants(Kind::Chaos) {
        println!("starting PostgreSQL");
        said(postgres::provide().and_then(|programs| Postgres::start(&programs)))
    } else {
        Err(unneeded())
    };
    let xvfb = if wants(Kind::EndToEnd) { said(display::provide()) } else { Err(unneeded()) };
    let browser = if wants(Kind::EndToEnd) { said(browser::provide()) } else { Err(unneeded()) };
    let cjk_font = if wants(Kind::EndToEnd) { said(cjk_font::provide()) } else { Err(unneeded()) };
    interrupt::check()?;
    Ok(Needs { engine, postgres, xvfb, browser, cjk_font, backend })
}

fn said<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| {
        let text = format!("{error:#}");
        println!("{text}");
        text
    })
}

fn found<T>(need: &Result<T, String>) -> Result<&T> {
    need.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn rust_tests(needs: &Needs, filter: Option<&str>) -> Result<Counts> {
    let packages = workspace::without_processes();
    build_tests(&packages)?;
    let postgres = found(&needs.postgres)?;
    let mut command = test_command(&packages, None, filter)?;
    command.env("TEST_POSTGRES_URL", postgres.url()).env("BACKEND_SERVER_BIN", found(&needs.backend)?);
    counted("rust", command)
}

fn doc_tests(needs: &Needs) -> Result<Counts> {
    let mut command = workspace::cargo();
    command.args(["test", "--doc", "--no-fail-fast", "--color=never"]).args(workspace::without_processes());
    command.env("TEST_POSTGRES_URL", found(&needs.postgres)?.url());
    let mut run = Running::start_echoing("doc-examples", command, |line| line.contains("FAILED"))?;
    let status = run.wait(BUILD)?;
    let counts = Counts::of_cargo(&run.lines());
    ensure!(status.success() || counts.failed > 0, "cargo test --doc failed ({status})\n{}", run.tail());
    Ok(counts)
}

fn end_to_end(needs: &Needs, filter: Option<&str>) -> Result<Counts> {
    let packages = workspace::with_processes();
    build_tests(&packages)?;
    let engine = found(&needs.engine)?;
    // Imported once here, so that no test pays for it.
    for project in ["demo", "tests/fixtures/game"] {
        println!("importing {project}");
        engine.import(&workspace::root().join(project))?;
    }
    // Each test runs a backend and up to three engines.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut command = test_command(&packages, Some((cores / 2).clamp(1, 4)), filter)?;
    command
        .env("GODOT4_BIN", &engine.binary)
        .env("BACKEND_SERVER_BIN", found(&needs.backend)?)
        .env("TEST_POSTGRES_URL", found(&needs.postgres)?.url())
        .env("XTASK_BIN", env::current_exe()?)
        .env("XVFB_BIN", found(&needs.xvfb)?)
        .env("CJK_FONT", found(&needs.cjk_font)?)
        .env("CHROMIUM_BIN", &found(&needs.browser)?.chromium)
        .env("CHROMEDRIVER_BIN", &found(&needs.browser)?.driver)
        .env_remove("BACKEND_URL")
        .env_remove("BACKEND_SERVER_KEY");
    match &engine.dri {
        Some(dri) => command.env("LIBGL_DRIVERS_PATH", dri),
        None => {
            command.env("LIBGL_DRIVERS_PATH", env::var_os("LIBGL_DRIVERS_PATH").unwrap_or_else(system_dri))
        }
    };
    counted("end-to-end", command)
}

/// Where a machine with its own Godot has Mesa's drivers.
fn system_dri() -> std::ffi::OsString {
    let candidates =
        fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let found = candidates.map(|path| path.join("dri")).find(|path| path.is_dir());
    found.unwrap_or_else(|| Path::new("/usr/lib/dri").to_owned()).into_os_string()
}

fn has_nextest() -> bool {
    workspace::on_path(&["cargo-nextest"]).is_some()
}

fn build_tests(packages: &[&str]) -> Result<()> {
    println!("building the tests");
    let mut command = workspace::cargo();
    if has_nextest() {
        command.args(["nextest", "run", "--no-run"]).args(packages);
    } else {
        command.args(["test", "--no-run", "--lib", "--bins", "--tests"]).args(packages);
    }
    crate::process::run("building the tests", command)
}

/// The runner: nextest where it is installed, else cargo's own.
fn test_command(packages: &[&str], parallel: Option<usize>, filter: Option<&str>) -> Result<Command> {
    let mut command = workspace::cargo();
    let parallel = parallel.map(|count| count.to_string());
    if has_nextest() {
        // A hanging test is ended and fails, and so does one that leaves processes behind it.
        // Tests with a limit run processes, sockets and engines: one that fails gets a second attempt, and is listed as flaky.
        let retries = u32::from(parallel.is_some());
        let configuration = workspace::provisions().join("nextest.toml");
        // More than there are cores: half of the tests' time is waiting for a timer or another process.
        let threads = std::thread::available_parallelism()?.get().div_ceil(2) * 3;
        fs::write(
            &configuration,
            format!(
                "[profile.default]\nslow-timeout = {{ period = \"60s\", terminate-after = 5 }}\n\
                 final-status-level = \"flaky\"\nretries = {retries}\ntest-threads = {threads}\n"
            ),
        )?;
        command.args([
            "nextest",
            "run",
            "--no-fail-fast",
            "--color=never",
            "--no-tests=pass",
            "--config-file",
        ]);
        command.arg(configuration).args(packages);
        if let Some(count) = parallel {
            command.args(["--test-threads", &count]);
        }
        command.args(filter);
    } else {
        command
            .args(["test", "--no-fail-fast", "--color=never", "--lib", "--bins", "--tests"])
            .args(packages);
        command.args(filter);
        if let Some(count) = parallel {
            command.args(["--", "--test-threads", &count]);
        }
    }
    Ok(command)
}

fn counted(name: &str, command: Command) -> Result<Counts> {
    let nextest = has_nextest();
    let mut run = Running::start_echoing(name, command, |_| true)?;
    let status = run.wait(STAGE).context("the tests hang")?;
    let lines = run.lines();
    let counts = if nextest { Counts::of_nextest(&lines) } else { Counts::of_cargo(&lines) };
    let flaky = summary::flaky(&lines);
    if flaky > MAX_FLAKY {
        println!("{flaky} tests passed at the second attempt only; at most {MAX_FLAKY} may");
        return Ok(Counts { failed: counts.failed + flaky, ..counts });
    }
    if !status.success() && counts.failed == 0 {
        bail!("the test runner failed ({status})\n{}", run.tail());
    }
    Ok(counts)
}
