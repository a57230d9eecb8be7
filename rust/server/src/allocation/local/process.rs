//! Processes that outlive the one that started them: how they are recognised, and how they ended.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::super::CANNOT_BE_STARTED;
use super::super::host_folder::{read, write};

/// What a folder holds of the processes of its server. The supervisor that makes this file has claimed the server.
pub const FILE: &str = "process.json";
/// How they ended.
pub const ENDING_FILE: &str = "ended.json";

/// A process. Its id alone may be another process's by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Ticks from the start of the machine to the start of the process.
    start_time: u64,
    /// Changes with each start of the machine.
    boot_id: String,
}

impl Process {
    /// The process with this id, which may have ended but was not waited for yet.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let (_, start_time) = stat(pid).with_context(|| format!("process {pid} is not there"))?;
        Ok(Self { pid, start_time, boot_id: boot_id() })
    }

    /// Whether it is there, and is the same one. One that was not waited for yet has ended.
    pub fn runs(&self) -> bool {
        stat(self.pid).is_some_and(|(has_ended, start_time)| !has_ended && start_time == self.start_time)
            && boot_id() == self.boot_id
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether a process has ended, and its start time: fields 3 and 22 of `/proc/PID/stat`. The name before them, in parentheses,
/// may contain anything.
fn stat(pid: i32) -> Option<(bool, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    Some((has_ended, fields.nth(18)?.parse().ok()?))
}

/// The processes of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    pub supervisor: Process,
    /// The server itself, which leads a process group. None: not started yet.
    pub server: Option<Process>,
}

impl Processes {
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        read(&folder.join(FILE))
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        write(&folder.join(FILE), self)
    }

    pub fn any_runs(&self) -> bool {
        self.supervisor.runs() || self.server.as_ref().is_some_and(Process::runs)
    }

    /// Sends a signal to the server and what it has started. Returns whether it was there to receive it.
    pub fn signal_server(&self, signal: Signal) -> bool {
        let server = self.server.as_ref().filter(|server| server.pid > 1 && server.runs());
        server
            .and_then(|server| Pid::from_raw(server.pid))
            .is_some_and(|group| kill_process_group(group, signal).is_ok())
    }
}

/// Whether a supervisor has begun in the folder, now or in the past. The file may be damaged.
pub fn is_claimed(folder: &Path) -> bool {
    folder.join(FILE).exists() || folder.join(ENDING_FILE).exists()
}

/// The right to say who supervises the server of a folder, or that nobody does. One at a time has it, among all processes.
pub struct Claim {
    folder: File,
}

impl Claim {
    /// Waits until nobody else has it, which takes as long as a file to be written.
    pub fn wait_for(folder: &Path) -> anyhow::Result<Self> {
        let opened = File::open(folder).and_then(|opened| opened.lock().map(|()| opened));
        Ok(Self { folder: opened.with_context(|| format!("{} cannot be locked", folder.display()))? })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A process that is being started has a copy of the open folder, and with it the lock, until it runs its program.
        let _closed_anyway = self.folder.unlock();
    }
}

/// How a server ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Why it could not be started. The operator's paths may be in it.
    pub error: Option<String>,
}

impl Ending {
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        read(&folder.join(ENDING_FILE))
    }

    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        write(&folder.join(ENDING_FILE), self)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.error, self.code, self.signal) {
            (Some(_), _, _) => out.write_str(CANNOT_BE_STARTED),
            (None, Some(code), _) => write!(out, "it ended with exit code {code}"),
            (None, None, Some(signal)) => write!(out, "it was ended by signal {signal}"),
            (None, None, None) => out.write_str("it ended"),
        }
    }
}
