//! Load by `wrk`, from cores of its own, and what it cost the server.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::cpu_affinity::{Side, pinned};

const TOLD: &str = "LOAD ";
/// Of the processor, in a second, as `/proc` counts it on Linux.
const TICKS: f64 = 100.0;

/// What wrk does: a script, and what it is told before.
pub struct Load {
    pub script: &'static str,
    /// Lua that sets what the script needs.
    pub before: String,
    pub connections: usize,
}

/// One run of wrk.
#[derive(Deserialize)]
pub struct Loaded {
    requests: f64,
    microseconds: f64,
    /// Median latency.
    pub p50_us: f64,
    /// The latency that one of a hundred exceeds.
    pub p99_us: f64,
    /// Replies of 400 and more.
    pub refused: f64,
    /// Requests without a reply.
    pub broken: f64,
    /// Processor time of the server for each request.
    #[serde(default)]
    pub server_us: f64,
}

impl Loaded {
    pub fn per_second(&self) -> f64 {
        self.requests * 1e6 / self.microseconds
    }

    pub fn count(&self) -> f64 {
        self.requests
    }

    /// Fails unless every request was answered, and well.
    pub fn is_good(&self, what: &str) -> Result<()> {
        let Self { refused, broken, .. } = self;
        ensure!(*refused == 0.0 && *broken == 0.0, "{what}: {refused} refused, {broken} without a reply");
        Ok(())
    }
}

/// `wrk`, found where `cargo xtask bench` says it is.
pub struct Wrk {
    program: PathBuf,
    folder: TempDir,
}

impl Wrk {
    pub fn find() -> Result<Self> {
        let program = std::env::var_os("WRK_BIN")
            .context("WRK_BIN is not set: run `cargo xtask bench`, which provides wrk")?;
        Ok(Self { program: program.into(), folder: tempfile::Builder::new().prefix("wrk-").tempdir()? })
    }

    /// Loads the server at `url`, which consists of the processes that `server` tells, for so many seconds.
    pub fn run(
        &self,
        url: &str,
        server: impl Fn() -> Result<Vec<u32>>,
        load: &Load,
        seconds: usize,
    ) -> Result<Loaded> {
        let script = self.folder.path().join("load.lua");
        fs::write(&script, format!("{}\n{}\n{}", load.before, include_str!("load/told.lua"), load.script))?;
        let mut command = Command::new(&self.program);
        command.args(["--threads", "2", "--timeout", "10s"]);
        command.args(["--connections", &load.connections.to_string(), "--duration", &format!("{seconds}s")]);
        command.arg("--script").arg(&script).arg(url);
        let before: HashMap<u32, f64> = used_by(server()?).collect();
        let output = pinned(Side::Client, &command).output().context("wrk does not start")?;
        // Processes that came meanwhile, such as those for further connections to the database, have worked for this only.
        let spent = |(id, used): (u32, f64)| used - before.get(&id).unwrap_or(&0.0);
        let spent: f64 = used_by(server()?).map(spent).sum();
        let said = String::from_utf8_lossy(&output.stdout);
        let line = said.lines().find_map(|line| line.strip_prefix(TOLD));
        let why = || format!("wrk told no figures: {said}{}", String::from_utf8_lossy(&output.stderr));
        let mut loaded: Loaded = serde_json::from_str(line.with_context(why)?)?;
        ensure!(loaded.requests > 0.0, "no request was answered: {said}");
        loaded.server_us = spent * 1e6 / loaded.requests;
        Ok(loaded)
    }
}

/// Processor seconds that each of these processes has used, if it still runs.
pub fn used_by(processes: Vec<u32>) -> impl Iterator<Item = (u32, f64)> {
    processes.into_iter().filter_map(|id| Some((id, used(id)?)))
}

fn used(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |index: usize| rest.split_whitespace().nth(index)?.parse::<f64>().ok();
    Some((field(11)? + field(12)?) / TICKS)
}
