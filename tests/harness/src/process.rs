//! A child process with its log, its signals and its end.

use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::log::Log;
use crate::until;

/// A running child. Dropping it kills its whole process group, so that a failing test leaves nothing behind.
pub struct Process {
    name: String,
    child: Child,
    log: Log,
    readers: [UnixStream; 2],
}

impl Process {
    /// Starts `command` in a process group of its own and follows what it prints.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;

        // Not pipes: only sockets can be closed while somebody waits for what comes next.
        let [(out, out_reader), (err, err_reader)] = [UnixStream::pair()?, UnixStream::pair()?];
        command.stdin(Stdio::null()).stdout(OwnedFd::from(out)).stderr(OwnedFd::from(err)).process_group(0);
        let child = command.spawn().with_context(|| format!("{name}: cannot start {command:?}"))?;
        // It holds the other ends, which are to end with the child.
        drop(command);
        let log = Log::default();
        log.follow(out_reader.try_clone()?);
        log.follow(err_reader.try_clone()?);
        Ok(Self { name: name.to_owned(), child, log, readers: [out_reader, err_reader] })
    }

    /// Reads no more of what it prints, as when the other end of a pipe is gone: from here on its writes fail.
    pub fn close_output(&self) -> Result<()> {
        for reader in &self.readers {
            reader.shutdown(Shutdown::Both)?;
        }
        self.log.wait_for_end();
        Ok(())
    }

    /// What it has printed.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends `signal` to the process itself, not to its group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send(self.id(), signal).with_context(|| format!("{}: cannot send {signal:?}", self.name))
    }

    /// Waits for its end, at most [`crate::WAIT_TIMEOUT`]; the log is whole afterwards.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let ended = until(&format!("{} to end", self.name), || Ok(self.child.try_wait()?));
        match ended {
            Ok(status) => {
                self.log.wait_for_end();
                Ok(status)
            }
            Err(error) => bail!("{error:#}\n{}", self.log.tail()),
        }
    }

    /// Waits for its end and fails unless it exits with `code`.
    pub fn wait_for_exit(&mut self, code: i32) -> Result<()> {
        let status = self.wait()?;
        if status.code() == Some(code) {
            return Ok(());
        }
        bail!("{} ended with {status}, expected exit code {code}\n{}", self.name, self.log.tail())
    }

    /// Ends it without warning, as a power cut would, and its children with it.
    pub fn kill(&mut self) -> Result<()> {
        kill_group(self.id());
        self.child.wait().with_context(|| format!("{}: cannot reap", self.name))?;
        self.log.wait_for_end();
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already reaped when the test waited for it; then the group is gone and its id must not be used.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_group(self.id());
            let _status_is_irrelevant_now = self.child.wait();
        }
    }
}

/// Sends `signal` to the process `id`.
pub fn send(id: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no such process id")?;
    Ok(kill_process(pid, signal)?)
}

fn kill_group(id: u32) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // The group may have ended by itself a moment ago.
        let _already_gone = kill_process_group(pid, Signal::KILL);
    }
}
