//! `chaos`: plays trials with real processes and real faults, several at a time, and has each judged by the checker.
//!
//! The orchestrator only makes things happen and writes down what it sees. Whether that is right is decided by
//! `check_history.py`, which shares no code with anything here.

mod aftermath;
mod backups;
mod faults;
mod game_server;
mod ground_truth;
mod history;
mod home;
mod plan;
mod players;
mod program;
mod sizes;
mod trial;
mod volume;
mod worlds;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use serde::Deserialize;
use test_database::TestDatabase;
use test_harness::backend::Backend;
use test_harness::programs;

use ground_truth::GroundTruth;
use home::Home;
use plan::{Database, Plan, TrialKind};
use trial::Arena;

/// Most trials at a time unless asked for: each may take a dozen connections of PostgreSQL.
const MAX_JOBS: usize = 12;

/// Exit code of the checker when the rule that was to be broken is.
const WANTED_RULE_BROKEN: i32 = 3;

#[derive(Parser)]
#[command(name = "chaos", about = "Fault injection with real processes")]
struct Options {
    /// How many trials
    #[arg(long, default_value_t = 20)]
    trials: u64,
    /// Decides the trials
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plays the plan in the first line of this history instead
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Trials at a time
    #[arg(long)]
    jobs: Option<usize>,
    /// Plays on after a failure, to find more of them
    #[arg(long)]
    keep_going: bool,
    /// In every n-th trial one of the game servers is a real headless Godot (GODOT4_BIN)
    #[arg(long)]
    godot_every: Option<u64>,
    /// Plays trials of this kind only
    #[arg(long, value_enum)]
    only: Option<TrialKind>,
    /// Fails, too, if faults or outcomes of some kind were too rare
    #[arg(long)]
    coverage: bool,
    /// Goes on after failures until this rule of the checker was broken
    #[arg(long)]
    until_broken: Option<String>,
    /// Keeps the histories of trials that pass as well
    #[arg(long)]
    keep_histories: bool,
    /// The built game server
    #[arg(long, env = "CHAOS_SERVER_BIN")]
    server: PathBuf,
    /// The checker
    #[arg(long, env = "CHAOS_CHECKER")]
    checker: PathBuf,
    /// A PostgreSQL in which databases may be made
    #[arg(long, env = "TEST_POSTGRES_URL")]
    postgres_url: String,
    /// Where trials leave their histories; those that pass are removed
    #[arg(long, env = "CHAOS_FOLDER")]
    folder: PathBuf,
}

/// What all workers share.
struct Run {
    options: Options,
    folder: PathBuf,
    replayed: Option<Plan>,
    next: AtomicU64,
    stop: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct FirstLine {
    plan: Plan,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            test_harness::print_error_line!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Result<bool> {
    if options.only.is_some_and(TrialKind::needs_godot) && options.godot_every != Some(1) {
        bail!("trials of this kind need the engine: --godot-every 1");
    }
    let replayed = options.replay.as_deref().map(read_plan).transpose()?;
    let folder = options.folder.join(format!("run-{}-{}", options.seed, std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    // A signal that is ignored here, as under `nohup`, would be ignored by the game servers too, which are sent it. One with
    // a handler has its default there.
    signal_hook::flag::register_conditional_default(
        signal_hook::consts::SIGHUP,
        Arc::new(AtomicBool::new(true)),
    )?;
    let cores = thread::available_parallelism().map_or(2, usize::from);
    // Trials mostly wait; each of them runs a backend and two or three servers.
    let jobs = options.jobs.unwrap_or((cores * 2).min(MAX_JOBS));
    let jobs = jobs.clamp(1, usize::try_from(options.trials.max(1))?);
    let run = Run { options, folder, replayed, next: AtomicU64::new(0), stop };
    let run = &run;
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|number| scope.spawn(move || run.work(number))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker")))).collect()
    });
    // A run whose harness broke has no verdict.
    results.into_iter().collect::<Result<Vec<()>>>()?;
    run.sum_up()
}

fn read_plan(path: &Path) -> Result<Plan> {
    let mut line = String::new();
    let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    BufReader::new(file).read_line(&mut line)?;
    let first: FirstLine =
        serde_json::from_str(&line).with_context(|| format!("{} holds no plan", path.display()))?;
    Ok(first.plan)
}

/// A backend on the database at this URL; `None`: a file of its own.
fn home(url: Option<String>) -> Result<Home> {
    let lease = plan::LEASE_SECONDS.to_string();
    let heartbeat = plan::HEARTBEAT_SECONDS.to_string();
    let backend = Backend::start_on(url, &["--lease-seconds", &lease, "--heartbeat-seconds", &heartbeat])?;
    let truth = GroundTruth::new(&backend.database_url())?;
    truth.install()?;
    Ok(Home { backend: Mutex::new(backend), truth })
}

impl Run {
    /// Plays trials until there are no more.
    fn work(&self, number: usize) -> Result<()> {
        let (mut sqlite, mut postgres) = (None, None);
        let result = self.play_all(number, &mut sqlite, &mut postgres);
        if result.is_err() {
            // The others need not go on: a broken harness proves nothing.
            self.stop.store(true, Ordering::Relaxed);
        }
        result
    }

    fn play_all(
        &self,
        number: usize,
        sqlite: &mut Option<Arena>,
        postgres: &mut Option<Arena>,
    ) -> Result<()> {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.options.trials || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let every = self.options.godot_every.unwrap_or(u64::MAX).max(1);
            let godot =
                (self.options.godot_every.is_some() && index.is_multiple_of(every)).then_some(index / every);
            let kind = self.options.only.unwrap_or_else(|| plan::kind_of(index, godot));
            let drawn = || plan::draw(plan::trial_seed(self.options.seed, index), kind, godot.is_some());
            let plan = self.replayed.clone().unwrap_or_else(drawn);
            let slot = if plan.database == Database::Sqlite { &mut *sqlite } else { &mut *postgres };
            let arena = match slot {
                Some(arena) => arena,
                None => slot.insert(self.arena(plan.database, number)?),
            };
            if arena.homes.len() == 1 && plan.kind == TrialKind::ForeignBackends {
                arena.homes.push(home(None)?);
            }
            let folder = self.folder.join(format!("trial-{index}"));
            fs::create_dir_all(&folder)?;
            arena.play(&plan, &folder, &self.stop).with_context(|| format!("trial {index}"))?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.judge(&folder, arena)?;
        }
    }

    fn arena(&self, database: Database, number: usize) -> Result<Arena> {
        // The backend has a file of SQLite's in its own folder.
        let on_server = match database {
            Database::Sqlite => None,
            Database::Postgres => {
                let name = format!("chaos_{}_{number}", std::process::id());
                Some(TestDatabase::postgres_on(&self.options.postgres_url, &name)?)
            }
        };
        let url = on_server.as_ref().map(|database| database.location().to_owned());
        Ok(Arena::new(home(url)?, self.options.server.clone(), on_server))
    }

    /// Has the trial in `folder` judged. Of one that passed nothing is kept but the verdict.
    fn judge(&self, folder: &Path, arena: &Arena) -> Result<()> {
        let mut checker = self.checker();
        checker.arg("--verdicts").arg(self.verdicts());
        if let Some(rule) = &self.options.until_broken {
            checker.args(["--wanted", rule]);
        }
        let status = checker.arg(folder).status()?;
        match status.code() {
            Some(0) if self.options.keep_histories => {}
            Some(0) => fs::remove_dir_all(folder)?,
            Some(1) => {
                for (number, home) in arena.homes.iter().enumerate() {
                    let log = home.backend().log()?.lines().join("\n");
                    fs::write(folder.join(format!("backend-{number}.log")), log)?;
                }
                if !self.options.keep_going && self.options.until_broken.is_none() {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            Some(WANTED_RULE_BROKEN) => self.stop.store(true, Ordering::Relaxed),
            _ => bail!("the checker failed ({status})"),
        }
        Ok(())
    }

    /// The one line of the run, by the checker.
    fn sum_up(&self) -> Result<bool> {
        let seed = self.options.seed.to_string();
        let mut checker = self.checker();
        checker.args(["--seed", &seed, "--summary"]).arg(self.verdicts());
        if self.options.coverage {
            checker.arg("--coverage");
            if let Some(every) = self.options.godot_every {
                checker.args(["--least-godot", &(self.options.trials / every.max(1)).to_string()]);
            }
        }
        let status = checker.status()?;
        Ok(status.success())
    }

    fn checker(&self) -> Command {
        let mut command = Command::new(programs::python());
        command.arg(&self.options.checker);
        command
    }

    fn verdicts(&self) -> PathBuf {
        self.folder.join("verdicts.jsonl")
    }
}
