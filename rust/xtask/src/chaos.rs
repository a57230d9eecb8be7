//! `cargo xtask chaos`: trials with real processes and real faults, each judged by an independent checker, and the
//! controls that show that the checker notices what it has to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::godot::Engine;
use crate::postgres::{self, Postgres};
use crate::process::{self, Running};
use crate::summary::Counts;
use crate::{backend, godot, library, workspace};

/// Bounds a run that hangs: what it may take in all, and per trial on one core.
const STARTING: Duration = Duration::from_mins(5);
const PER_TRIAL: Duration = Duration::from_secs(15);
/// Most trials until an active failpoint is noticed.
const CONTROL_TRIALS: u64 = 300;
/// Honest trials of one run of all tests, and in which of them there is a real Godot.
const STAGE_TRIALS: u64 = 160;
const STAGE_GODOT_EVERY: u64 = 20;
/// Kinds of trials that only the real engine can play.
const GODOT_ONLY: [&str; 2] = ["closed-pipes", "double-signals"];
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
    /// Plays trials of this kind only, such as `restored-backup`; `--only help` lists them
    #[arg(long)]
    only: Option<String>,
    /// Fails, too, if faults or outcomes of some kind were too rare
    #[arg(long, conflicts_with = "replay")]
    coverage: bool,
    /// Plants this bug and plays until the checker notices it; fails if it does not
    #[arg(long, value_enum)]
    control: Option<Control>,
}

/// A failpoint to activate.
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

    /// The feature of the client crate or of the backend that activates it.
    const fn name(self) -> &'static str {
        match self {
            Self::EarlyAck => "failpoint-early-ack",
            Self::FreshSequence => "failpoint-fresh-sequence",
            Self::NoEpochCheck => "failpoint-no-epoch-check",
        }
    }

    /// The rule of the checker that it has to break.
    const fn breaks(self) -> &'static str {
        match self {
            Self::EarlyAck => "local_acknowledgements_are_covered",
            Self::FreshSequence => "everything_is_applied_once",
            Self::NoEpochCheck => "nothing_fenced_is_applied",
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
    engine: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<ExitCode> {
    let programs = build(backend::build()?)?;
    let postgres = postgres::provide().and_then(|programs| Postgres::start(&programs))?;
    let seed = options.seed.unwrap_or_else(drawn_seed);
    if let Some(control) = options.control {
        let trials = options.trials.unwrap_or(CONTROL_TRIALS);
        control_is_noticed(control, &programs, postgres.url(), trials, seed)?;
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
    if options.coverage {
        more.push("--coverage".to_owned());
    }
    let mut godot_every = options.godot_every;
    if let Some(kind) = &options.only {
        more.push(format!("--only={kind}"));
        if GODOT_ONLY.contains(&kind.as_str()) {
            godot_every = Some(1);
        }
    }
    let mut engine = None;
    if let Some(every) = godot_every {
        library::build(library::Profile::Debug)?;
        more.push(format!("--godot-every={every}"));
        engine = Some(with_game(&godot::provide()?)?);
    } else if options.replay.is_some() {
        // There may be one in it.
        engine = godot::provide().ok().map(|engine| engine.binary);
    }
    let trials = options.trials.unwrap_or(if options.replay.is_some() { 1 } else { 20 });
    let run =
        Run { name: "chaos", programs: &programs, postgres_url: postgres.url(), trials, seed, more, engine };
    Ok(if play(run)?.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The stage of `cargo xtask test`: the checker's own test, honest trials, and every control. Each counts once.
pub fn stage(backend: &Path, postgres_url: &str, engine: &Engine) -> Result<Counts> {
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
        more: vec!["--coverage".to_owned(), format!("--godot-every={STAGE_GODOT_EVERY}")],
        engine: Some(with_game(engine)?),
    };
    count("honest trials", play(honest).and_then(|(good, line)| if good { Ok(()) } else { bail!(line) }));
    for control in Control::ALL {
        let noticed = control_is_noticed(control, &programs, postgres_url, CONTROL_TRIALS, seed);
        count(control.name(), noticed);
    }
    Ok(counts)
}

/// The engine's binary, once it knows the game that is played with it.
fn with_game(engine: &Engine) -> Result<PathBuf> {
    engine.import(&workspace::root().join("tests/fixtures/game"))?;
    Ok(engine.binary.clone())
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
    workspace::root().join("tests/chaos/check_history.py")
}

fn build(backend: PathBuf) -> Result<Programs> {
    println!("building chaos and chaos-server");
    let programs = ["--bin", "chaos", "--bin", "chaos-server"];
    build_in_place("chaos", "chaos", &programs, None)?;
    Ok(Programs { orchestrator: built("chaos"), game_server: aside("chaos-server", "honest")?, backend })
}

fn build_in_place(what: &str, package: &str, programs: &[&str], feature: Option<&str>) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["build", "--quiet", "--package", package]).args(programs);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    process::run(&format!("building {what}"), command)
}

fn built(program: &str) -> PathBuf {
    workspace::target().join("debug").join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

/// A copy of a built program where no other variant of it goes.
fn aside(program: &str, variant: &str) -> Result<PathBuf> {
    let folder = runs().join("bin").join(variant);
    fs::create_dir_all(&folder)?;
    let own = folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    // Not in place: the one before may be running.
    let fresh = own.with_extension("new");
    fs::copy(built(program), &fresh)?;
    fs::rename(&fresh, &own)?;
    Ok(own)
}

/// Builds with the bug in it. What is in its usual place is the honest one again afterwards, which costs nothing: cargo
/// keeps what it has built with other features.
fn with_failpoint(control: Control, honest: &Programs) -> Result<Programs> {
    let name = control.name();
    let mut programs = Programs {
        orchestrator: honest.orchestrator.clone(),
        game_server: honest.game_server.clone(),
        backend: honest.backend.clone(),
    };
    let (package, program, feature, changed) = match control {
        Control::EarlyAck | Control::FreshSequence => {
            ("chaos", "chaos-server", format!("backend-client/{name}"), &mut programs.game_server)
        }
        Control::NoEpochCheck => ("backend-server", "backend-server", name.to_owned(), &mut programs.backend),
    };
    println!("building {program} with {name}");
    build_in_place(program, package, &["--bin", program], Some(&feature))?;
    *changed = aside(program, name)?;
    build_in_place(program, package, &["--bin", program], None)?;
    Ok(programs)
}

fn control_is_noticed(
    control: Control,
    honest: &Programs,
    postgres_url: &str,
    trials: u64,
    seed: u64,
) -> Result<()> {
    let programs = with_failpoint(control, honest)?;
    let name = control.name();
    // A process that dies or hangs would be noticed, too, but would not show that this bug is.
    let more = vec![format!("--until-broken={}", control.breaks())];
    let run = Run { name, programs: &programs, postgres_url, trials, seed, more, engine: None };
    let (good, line) = play(run)?;
    ensure!(!good, "{name} was not noticed in {trials} trials: {line}");
    let broken = line.split(' ').find_map(|word| word.strip_prefix("broken=")).unwrap_or_default();
    ensure!(
        broken.split(',').any(|rule| rule == control.breaks()),
        "{name} broke {broken}, but not {}: {line}",
        control.breaks()
    );
    println!("control {name}: noticed");
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
    if let Some(engine) = &run.engine {
        command.env("GODOT4_BIN", engine);
    }
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
