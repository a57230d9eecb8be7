//! Processes on cores of their own, so that contestants share nothing with the server that answers them.

use std::process::Command;
use std::sync::Once;

/// Who runs where on a machine with four cores.
#[derive(Clone, Copy)]
pub enum Side {
    /// Cores 0 and 1.
    Server,
    /// Cores 2 and 3.
    Client,
}

/// `command` on its side's cores; as it is where there are fewer than four, or no `taskset`.
pub fn pinned(side: Side, command: &Command) -> Command {
    static SAID: Once = Once::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let works = cores >= 4 && Command::new("taskset").arg("--version").output().is_ok();
    let mut pinned = if works {
        let mut taskset = Command::new("taskset");
        let cores = match side {
            Side::Server => "0,1",
            Side::Client => "2,3",
        };
        taskset.args(["--cpu-list", cores]).arg(command.get_program());
        taskset
    } else {
        SAID.call_once(|| println!("not pinned: {cores} cores, or no taskset; server and client share them"));
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
