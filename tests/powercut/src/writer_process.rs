//! A writer as the orchestrator has it: a process that talks until it is killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::plan::WriterPlan;
use crate::protocol::Line;

/// Longest time a writer takes to get going.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running `powercut-writer`. Dropping it kills it.
pub struct Writer {
    child: Child,
    lines: Receiver<Result<Line>>,
    said: Vec<Line>,
    complaints: Option<JoinHandle<String>>,
}

impl Writer {
    /// Starts `program` on the journals or worlds in `folder`.
    pub fn start(
        program: &Path,
        folder: &Path,
        world_version: &Path,
        players: &str,
        plan: &WriterPlan,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(plan.workload.argument()).arg("--folder").arg(folder);
        command.arg("--world-version").arg(world_version);
        command.args(["--seed", &plan.seed.to_string(), "--players", players]);
        if plan.backend_takes {
            command.arg("--backend-takes");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take().context("no standard output")?;
        // Ends with the pipe, and with the receiver.
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                // A line without an end was cut by the kill: it had not been said.
                let Some(whole) = line.strip_suffix('\n') else { return };
                if sender.send(whole.parse()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let mut stderr = child.stderr.take().context("no standard error")?;
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            let _up_to_the_kill = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        Ok(Self { child, lines, said: Vec::new(), complaints: Some(complaints) })
    }

    /// Waits for a line that satisfies `wanted`; with what the writer complained about when it ends before.
    pub fn wait_for(&mut self, wanted: impl Fn(&Line) -> bool) -> Result<()> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let line = line?;
                    let found = wanted(&line);
                    self.said.push(line);
                    if found {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("the writer is not ready within {START_TIMEOUT:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    return Err(anyhow!("{}", self.complaint()))
                        .context(format!("the writer ended: {status}"));
                }
            }
        }
    }

    /// Kills it, and returns all it said.
    pub fn kill(mut self) -> Result<Vec<Line>> {
        self.child.kill()?;
        self.child.wait()?;
        let mut said = std::mem::take(&mut self.said);
        for line in &self.lines {
            said.push(line?);
        }
        Ok(said)
    }

    fn complaint(&mut self) -> String {
        self.complaints.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ended and reaped before, where that was asked for.
        let _already_ended = self.child.kill();
        let _already_reaped = self.child.wait();
    }
}
