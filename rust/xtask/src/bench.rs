//! `cargo xtask bench`: figures of the product and of what it is held against, from one run on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::godot::{self, Engine};
use crate::packages::{self, Installed, Wanted};
use crate::postgres::{self, Postgres};
use crate::process::{self, Running};
use crate::relocate::relocate;
use crate::summary::Counts;
use crate::{guards, library, workspace};

/// Bound for a benchmark that hangs.
const BENCH: Duration = Duration::from_mins(30);

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    /// Which; all without a name
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Little of everything in a debug build: shows that it works, not how fast; figures go to `target/bench/`
    #[arg(long)]
    quick: bool,
    /// Rounds that the contestants of a comparison take turns in; medians are over them
    #[arg(long)]
    rounds: Option<usize>,
    /// For `mixed`: another build of the backend that takes turns with this one. Can be given several times
    #[arg(long, value_name = "NAME=PROGRAM")]
    against: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Calls to the backend against bare reqwest and the engine's own ways
    Calls,
    /// A token judged on the game server against the bare check of its signature
    Validation,
    /// Everybody logs in at once: guests, and players with passwords
    Login,
    /// A heartbeat of a game server against the same request with bare reqwest
    Heartbeat,
    /// Each route of the backend, on SQLite and on PostgreSQL, against a handler that does nothing
    Backend,
    /// A fleet and its players at their real pace, on SQLite and on PostgreSQL: what the backend takes for it
    Mixed,
    /// 100,000 registered servers with a heartbeat every 30 s on one backend, on SQLite and on PostgreSQL
    Fleet,
    /// What a request costs as the backend's tables grow
    Growth,
    /// Passes over pools of up to 100,000 matchmaking tickets: cost, waits, gaps of skill
    Matchmaking,
    /// What is counted instead of timed: instructions and allocations of a token check, against checked-in numbers
    Guards,
    /// A game's start with the addon and without
    Startup,
    /// A game that does nothing, and a server that only waits, with the addon and without
    Idle,
    /// What calls take while their replies are out
    Memory,
    /// The library that players get
    Size,
    /// Every player's document at once, against bare reqwest and a pool of HTTPRequest
    Flush,
    /// A long list of rooms in the game, against JSON.parse_string
    Rooms,
    /// A change at all followers, hundreds of pings, a long list that changes, a room from its request to the ticket
    LiveRooms,
    /// How fast saves are safe: acknowledgement, SIGTERM, outage
    Saves,
    /// What a world of 1 GiB takes: time, memory, bytes on the wire
    World,
}

/// Runs those named one after the other; fails where a goal is missed. Tables, JSON and plots go to `docs/benchmarks/`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let names = if options.names.is_empty() { Name::value_variants() } else { &options.names };
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 });
    let engine = godot::provide()?;
    let mut missed = Vec::new();
    for name in names {
        if measure(&engine, *name, options.quick, rounds, &options.against)? != ExitCode::SUCCESS {
            missed.push(name.as_str());
        }
    }
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("goals missed: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// That each comparison works, and that what it counts is within its guard: the stage of `cargo xtask test`.
pub fn stage(engine: &Engine) -> Counts {
    let mut counts = Counts::default();
    for name in Name::value_variants() {
        let why = match measure(engine, *name, true, 1, &[]) {
            Ok(ExitCode::SUCCESS) => {
                counts.passed += 1;
                continue;
            }
            Ok(_) => "what it counts is not as it should be".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        println!("FAIL bench {}: {why}", name.as_str());
        counts.failed += 1;
    }
    counts
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Validation => "validation",
            Self::Login => "login",
            Self::Heartbeat => "heartbeat",
            Self::Backend => "backend",
            Self::Mixed => "mixed",
            Self::Fleet => "fleet",
            Self::Growth => "growth",
            Self::Matchmaking => "matchmaking",
            Self::Guards => "guards",
            Self::Startup => "startup",
            Self::Idle => "idle",
            Self::Memory => "memory",
            Self::Size => "size",
            Self::Flush => "flush",
            Self::Rooms => "rooms",
            Self::LiveRooms => "live-rooms",
            Self::Saves => "saves",
            Self::World => "world",
        }
    }
}

/// What is shipped against what it could be: in a release build, like the library itself.
fn measure(engine: &Engine, name: Name, quick: bool, rounds: usize, against: &[String]) -> Result<ExitCode> {
    if name == Name::Guards {
        return Ok(if guards::hold()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let profile = if quick { library::Profile::Debug } else { library::Profile::Release };
    let library = library::build(profile)?;
    let mut command = built("bench", if quick { "dev" } else { "release" })?;
    command.arg(name.as_str()).arg("--library").arg(library.path).env("GODOT4_BIN", &engine.binary);
    let mut postgres = None;
    if matches!(name, Name::Backend | Name::Growth) {
        command.env("WRK_BIN", wrk()?);
    }
    if matches!(name, Name::Backend | Name::Fleet | Name::Growth | Name::Mixed) {
        let postgres = postgres.insert(Postgres::start_durable(&postgres::provide()?)?);
        command.env("TEST_POSTGRES_URL", postgres.url());
    }
    if name == Name::Mixed {
        command.args(against.iter().flat_map(|contestant| ["--against", contestant]));
    }
    command.args(quick.then_some("--quick")).args(["--rounds", &rounds.to_string()]);
    let folder = if quick { scratch()? } else { workspace::root().join("docs/benchmarks") };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    command.arg("--folder").arg(folder).arg("--scratch").arg(scratch()?);
    judged(&format!("bench-{}", name.as_str()), command)
}

/// wrk, fetched if the machine has none.
fn wrk() -> Result<PathBuf> {
    if let Some(path) = workspace::on_path(&["wrk"]) {
        return Ok(path);
    }
    let wanted = Wanted { name: "wrk", suite: None, packages: &["wrk"], installed: Installed::Nothing };
    let program = PathBuf::from("usr/bin/wrk");
    let root = packages::provide(&wanted, |fresh, root| relocate(fresh, root, &[&program])).context(
        "no wrk on this machine, and it could not be fetched; install it (Debian: apt-get install wrk)",
    )?;
    packages::program(&root, "usr/bin/wrk")
}

/// Where what is not kept goes.
fn scratch() -> Result<PathBuf> {
    let folder = workspace::provisions().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A command that runs `program`, built with `profile` beside the backend.
fn built(program: &str, profile: &str) -> Result<Command> {
    let folder = workspace::target().join(if profile == "dev" { "debug" } else { profile });
    let path = |program: &str| folder.join(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    for (package, program) in [("backend-server", "backend-server"), ("bench", program)] {
        println!("building {program} with profile {profile}");
        let mut command = workspace::cargo();
        command.args(["build", "--package", package, "--bin", program, "--profile", profile]);
        process::run(&format!("building {program}"), command)?;
        ensure!(path(program).is_file(), "{} was not built", path(program).display());
    }
    let mut command = Command::new(path(program));
    command.env("BACKEND_SERVER_BIN", path("backend-server"));
    Ok(command)
}

fn judged(name: &str, command: Command) -> Result<ExitCode> {
    let mut run = Running::start_echoing(name, command, |_| true)?;
    let status = run.wait(BENCH).context("the benchmark hangs")?;
    ensure!(matches!(status.code(), Some(0 | 1)), "the benchmark broke ({status})");
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
