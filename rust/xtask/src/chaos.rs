//! `cargo xtask chaos`: trials with real processes and real faults, each judged by an independent checker, and the
//! controls that show that the checker notices what it has to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::postgres::{self, Postgres};
use crate::process::{self, Running};
use crate::summary::Counts;
use crate::{backend, godot, library, workspace};

/// Bounds a run that hangs: what it may take in all, and per trial on one core.
const STARTING: Duration = Duration::from_mins(5);
const PER_TRIAL: Duration = Duration::from_secs(15);
/// Most trials until a planted bug is noticed.
const CONTROL_TRIALS: u64 = 300;
/// Honest trials of one run of all tests.
const STAGE_TRIALS: u64 = 200;
/// Exit code of the orchestrator when the checker found something.
const FOUND: i32 = 1;

/// Options of `cargo xtask chaos`.
#[derive(Args)]
pub struct Options {
    /// How many trials; with --control the most until it is noticed
    #[arg(long)]
    trials: Option<u64>,
    /// Decides the trials; drawn, and printed, if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Plays the plan of this history.jsonl instead, --trials times, for its timing varies
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Trials at a time; twice the number of cores if not given, because trials mostly wait
    #[arg(long)]
    jobs: Option<usize>,
    /// Goes on after a failure
    #[arg(long)]
    keep_going: bool,
    /// In every n-th trial one of the game servers is a real headless Godot
    #[arg(long)]
    godot_every: Option<u64>,
    /// Plants this bug and plays until the checker notices it; fails if it does not
    #[arg(long, value_enum)]
    control: Option<Control>,
}

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Control {
    /// The client acknowledges a save locally before it is in the journal
    EarlyAck,
    /// The client repeats a save under a new number
    FreshSequence,
    /// The backend applies saves of servers that have lost their player
    NoEpochCheck,
}

impl Control {
    const ALL: [Self; 3] = [Self::EarlyAck, Self::FreshSequence, Self::NoEpochCheck];

    /// The feature of the client crate or of the backend that plants it.
    const fn name(self) -> &'static str {
        match self {
            Self::EarlyAck => "planted-early-ack",
            Self::FreshSequence => "planted-fresh-sequence",
            Self::NoEpochCheck => "planted-no-epoch-check",
        }
    }
}

/// The programs of a run.
struct Programs {
    orchestrator: PathBuf,
    game_server: PathBuf,
    backend: PathBuf,
}

/// What a run is to do.
struct Run<'a> {
    name: &'a str,
    programs: &'a Programs,
    postgres_url: &'a str,
    trials: u64,
    seed: u64,
    more: Vec<String>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let programs = build(backend::build()?)?;
    let postgres = postgres::provide().and_then(|programs| Postgres::start(&programs))?;
    let seed = options.seed.unwrap_or_else(drawn_seed);
    if let Some(control) = options.control {
        control_is_noticed(
            control,
            &programs,
            postgres.url(),
            options.trials.unwrap_or(CONTROL_TRIALS),
            seed,
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut more = Vec::new();
    if let Some(history) = &options.replay {
        let history = history.canonicalize().with_context(|| history.display().to_string())?;
        more.push(format!("--replay={}", history.display()));
    }
    if let Some(jobs) = options.jobs {
        more.push(format!("--jobs={jobs}"));
    }
    if options.keep_going {
        more.push("--keep-going".to_owned());
    }
    if let Some(every) = options.godot_every {
        library::build(library::Profile::Debug)?;
        let engine = godot::provide()?;
        engine.import(&workspace::root().join("tests/fixtures/game"))?;
        more.push(format!("--godot-every={every}"));
        more.push(format!("--godot={}", engine.binary.display()));
    }
    let trials = options.trials.unwrap_or(if options.replay.is_some() { 1 } else { 20 });
    let run = Run { name: "chaos", programs: &programs, postgres_url: postgres.url(), trials, seed, more };
    Ok(if play(run)?.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stage of `cargo xtask test`: the checker's own test, honest trials, and every control. Each counts once.
pub fn stage(backend: &Path, postgres_url: &str) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut count = |what: &str, good: Result<()>| match good {
        Ok(()) => counts.passed += 1,
        Err(error) => {
            println!("FAIL {what}: {error:#}");
            counts.failed += 1;
        }
    };
    let programs = build(backend.to_owned())?;
    let seed = drawn_seed();
    count("the checker's own test", test_checker());
    let honest = Run {
        name: "chaos",
        programs: &programs,
        postgres_url,
        trials: STAGE_TRIALS,
        seed,
        more: Vec::new(),
    };
    count("honest trials", play(honest).and_then(|(good, line)| if good { Ok(()) } else { bail!(line) }));
    for control in Control::ALL {
        let noticed = control_is_noticed(control, &programs, postgres_url, CONTROL_TRIALS, seed);
        count(control.name(), noticed);
    }
    Ok(counts)
}

fn drawn_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as u64 % 1_000_000
}

fn test_checker() -> Result<()> {
    let mut command = workspace::python();
    command.arg(checker()).arg("--self-test");
    process::run("the checker's own test", command)
}

fn checker() -> PathBuf {
    workspace::root().join("tests/check_history.py")
}

fn build(backend: PathBuf) -> Result<Programs> {
    let orchestrator = build_one("end-to-end", "chaos", None)?;
    Ok(Programs { orchestrator, game_server: build_one("end-to-end", "chaos-server", None)?, backend })
}

fn build_one(package: &str, program: &str, feature: Option<&str>) -> Result<PathBuf> {
    println!("building {program}{}", feature.map(|name| format!(" with {name}")).unwrap_or_default());
    let mut command = workspace::cargo();
    command.args(["build", "--package", package, "--bin", program]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    process::run(&format!("building {program}"), command)?;
    Ok(workspace::target().join("debug").join(format!("{program}{}", std::env::consts::EXE_SUFFIX)))
}

/// Builds with the bug in it, aside: the program in its usual place is the honest one again afterwards.
fn plant(control: Control, honest: &Programs) -> Result<Programs> {
    let (package, program, feature) = match control {
        Control::EarlyAck | Control::FreshSequence => {
            ("end-to-end", "chaos-server", format!("backend-client/{}", control.name()))
        }
        Control::NoEpochCheck => ("backend-server", "backend-server", control.name().to_owned()),
    };
    let folder = runs().join("bin").join(control.name());
    fs::create_dir_all(&folder)?;
    let planted = folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    let built = build_one(package, program, Some(&feature))?;
    // A program that still runs cannot be written to.
    match fs::remove_file(&planted) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::copy(&built, &planted)?;
    build_one(package, program, None)?;
    let mut programs = Programs {
        orchestrator: honest.orchestrator.clone(),
        game_server: honest.game_server.clone(),
        backend: honest.backend.clone(),
    };
    match control {
        Control::NoEpochCheck => programs.backend = planted,
        _ => programs.game_server = planted,
    }
    Ok(programs)
}

fn control_is_noticed(
    control: Control,
    honest: &Programs,
    postgres_url: &str,
    trials: u64,
    seed: u64,
) -> Result<()> {
    let programs = plant(control, honest)?;
    let run = Run { name: control.name(), programs: &programs, postgres_url, trials, seed, more: Vec::new() };
    let (good, line) = play(run)?;
    ensure!(!good, "{} was not noticed in {trials} trials: {line}", control.name());
    // A process that dies or hangs would be noticed, too, but would not show that this bug is.
    ensure!(
        !line.contains("nothing_went_wrong_by_itself"),
        "{} failed for another reason: {line}",
        control.name()
    );
    println!("control {}: noticed", control.name());
    Ok(())
}

/// Plays trials; whether the checker has nothing to say against them, and its line.
fn play(run: Run<'_>) -> Result<(bool, String)> {
    let mut command = std::process::Command::new(&run.programs.orchestrator);
    command
        .current_dir(workspace::root())
        .args(["--trials", &run.trials.to_string(), "--seed", &run.seed.to_string()])
        .args(&run.more)
        .env("CHAOS_SERVER_BIN", &run.programs.game_server)
        .env("BACKEND_SERVER_BIN", &run.programs.backend)
        .env("CHAOS_CHECKER", checker())
        .env("CHAOS_FOLDER", runs())
        .env("TEST_POSTGRES_URL", run.postgres_url)
        .env_remove("BACKEND_URL")
        .env_remove("BACKEND_SERVER_KEY");
    let mut running = Running::start_echoing(run.name, command, |_| true)?;
    let trials = u32::try_from(run.trials).unwrap_or(u32::MAX);
    let status = running.wait(STARTING + PER_TRIAL.saturating_mul(trials))?;
    let lines = running.lines();
    let verdict =
        lines.iter().rfind(|line| line.starts_with("chaos: PASS ") || line.starts_with("chaos: FAIL "));
    match (status.code(), verdict) {
        (Some(0), Some(line)) => Ok((true, line.clone())),
        (Some(FOUND), Some(line)) => Ok((false, line.clone())),
        _ => bail!("the trials could not be played ({status})\n{}", running.tail()),
    }
}

/// Where trials leave what they have to show.
fn runs() -> PathBuf {
    workspace::provisions().join("chaos")
}
