//! The dedicated server of the demo: started by the backend for a room, or by hand where the backend starts none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::interrupt;
use crate::process::{self, Running};

/// Pause between two looks at a server that ends.
const PAUSE: Duration = Duration::from_millis(20);

/// A dedicated server.
pub enum Server {
    /// The backend has started it for a room.
    OnDemand(RoomServer),
    /// The demo has.
    ByHand { process: Running, _home: tempfile::TempDir },
}

/// A server that the backend has started. Dropping it ends it.
pub struct RoomServer {
    /// Where the backend keeps what it prints, and how it ended.
    folder: PathBuf,
    pid: i32,
    /// Bytes of its output that were read.
    read: usize,
}

impl Server {
    /// Lines it has printed since this was last asked.
    pub fn new_lines(&mut self) -> Vec<String> {
        match self {
            Self::OnDemand(server) => server.new_lines(),
            Self::ByHand { process, .. } => process.new_lines(),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<String>> {
        match self {
            Self::OnDemand(server) => server.ended(),
            Self::ByHand { process, .. } => Ok(process.ended()?.map(said)),
        }
    }

    /// Sends SIGTERM and waits until it has ended in good order.
    pub fn terminate(&mut self, timeout: Duration) -> Result<()> {
        match self {
            Self::OnDemand(server) => process::terminate_process(server.pid),
            Self::ByHand { process, .. } => process.terminate(),
        }
        let end = Instant::now() + timeout;
        loop {
            interrupt::check()?;
            match self.ended()? {
                Some(how) if how == GOOD => return Ok(()),
                Some(how) => bail!("the server ended {how} after SIGTERM\n{}", self.tail()),
                None if Instant::now() >= end => {
                    bail!("the server did not end within {timeout:?}\n{}", self.tail())
                }
                None => thread::sleep(PAUSE),
            }
        }
    }

    /// Its last lines.
    pub fn tail(&self) -> String {
        match self {
            Self::OnDemand(server) => server.output(),
            Self::ByHand { process, .. } => process.tail(),
        }
    }
}

const GOOD: &str = "with exit code 0";

fn said(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("with exit code {code}"))
}

impl RoomServer {
    /// The server whose output and process the backend keeps in a folder of `logs`, once it was started.
    pub fn find(logs: &Path) -> Option<Self> {
        let folders = fs::read_dir(logs).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        folders.into_iter().find_map(|folder| {
            let processes: Value =
                serde_json::from_slice(&fs::read(folder.join("process.json")).ok()?).ok()?;
            let pid = i32::try_from(processes["server"]["pid"].as_i64()?).ok().filter(|pid| *pid > 1)?;
            Some(Self { folder, pid, read: 0 })
        })
    }

    fn output(&self) -> String {
        fs::read(self.folder.join("output.log"))
            .map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output).into_owned())
    }

    /// The whole ones.
    fn new_lines(&mut self) -> Vec<String> {
        let output = self.output();
        let fresh = output.get(self.read..).unwrap_or_default();
        let whole = fresh.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        fresh[..whole].lines().map(str::to_owned).collect()
    }

    fn ended(&self) -> Result<Option<String>> {
        let Ok(text) = fs::read(self.folder.join("ended.json")) else { return Ok(None) };
        let ending: Value =
            serde_json::from_slice(&text).context("the backend wrote how the server ended")?;
        Ok(Some(match ending["code"].as_i64() {
            Some(code) => format!("with exit code {code}"),
            None => format!("not in good order: {ending}"),
        }))
    }
}

impl Drop for RoomServer {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(None)) {
            process::kill_process_group(self.pid);
        }
    }
}
