//! Processes on cores of their own, so that contestants share nothing with the server that answers them.

use std::process::Command;
use std::sync::{Once, OnceLock};

use anyhow::{Result, ensure};

/// Who runs where on a machine with four cores.
#[derive(Clone, Copy)]
pub enum Side {
    /// Cores 0 and 1.
    Server,
    /// Cores 2 and 3.
    Client,
}

impl Side {
    const fn cores(self) -> &'static str {
        match self {
            Self::Server => "0,1",
            Self::Client => "2,3",
        }
    }
}

/// `command` on its side's cores; as it is where there are fewer than four, or no `taskset`.
pub fn pinned(side: Side, command: &Command) -> Command {
    static SAID: Once = Once::new();
    let cores = cores();
    let works = cores >= 4 && Command::new("taskset").arg("--version").output().is_ok();
    let mut pinned = if works {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", side.cores()]).arg(command.get_program());
        taskset
    } else {
        SAID.call_once(|| {
            test_harness::print_line!(
                "not pinned: {cores} cores, or no taskset; server and client share them"
            );
        });
        Command::new(command.get_program())
    };
    pinned.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned
}

/// Puts all threads of a process that runs already, and what it starts from now on, on its side's cores, where [`pinned`]
/// would.
pub fn pin(side: Side, id: u32) -> Result<()> {
    if pinned(side, &Command::new("true")).get_program() != "taskset" {
        return Ok(());
    }
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", side.cores(), &id.to_string()]);
    let output = command.output()?;
    ensure!(output.status.success(), "not pinned: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Cores of the machine: counted once, before this process keeps to some of them.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
