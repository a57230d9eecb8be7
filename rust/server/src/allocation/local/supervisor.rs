//! `backend-server room-process`: runs one server, keeps the end of what it prints, and records how it ended. It outlives the
//! backend, so that a server neither loses its output nor is stopped by it when the backend restarts.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::super::host_folder::{EARLIER_LOG_FILE, LOG_FILE, PORT_FILE};
use super::process::{self, Claim, Ending, Process, Processes};

/// What has left the server's process group may keep the pipe open for ever.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs `command`, its arguments after it, until it ends. Nothing is run if the folder was released, or if another supervisor was first:
/// a backend that was killed may have started one that comes late.
pub fn run(folder: &Path, log_bytes: u64, command: &[OsString]) -> anyhow::Result<()> {
    let supervisor = Process::of(i32::try_from(std::process::id())?)?;
    let mut processes = Processes { supervisor, server: None };
    let claim = Claim::wait_for(folder)?;
    if process::is_claimed(folder) || !folder.join(PORT_FILE).exists() {
        return Ok(());
    }
    processes.write(folder)?;
    drop(claim);
    let ending = match supervise(folder, log_bytes, command, &mut processes) {
        Ok(status) => Ending { code: status.code(), signal: status.signal(), error: None },
        Err(error) => Ending { code: None, signal: None, error: Some(format!("{error:#}")) },
    };
    ending.write(folder)
}

fn supervise(
    folder: &Path,
    log_bytes: u64,
    command: &[OsString],
    processes: &mut Processes,
) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = command.split_first().context("there is no command")?;
    let mut log = RotatingLog::create(folder, log_bytes)?;
    let (reader, writer) = io::pipe()?;
    let mut server = Command::new(program);
    server.args(arguments).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let mut child = server.spawn().with_context(|| program.display().to_string())?;
    // With it, our ends of the pipe that the server writes to.
    drop(server);
    let pid = i32::try_from(child.id())?;
    // Failing that, nobody could end it any more.
    let recorded = Process::of(pid).and_then(|server| {
        processes.server = Some(server);
        processes.write(folder)
    });
    let group = Pid::from_raw(pid).context("a process without an id")?;
    if let Err(error) = recorded {
        let _ended = kill_process_group(group, Signal::KILL);
        child.wait()?;
        return Err(error);
    }
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let copied = copy(reader, &mut log);
        let _gone = done.send(copied);
    });
    // Its id, and with it that of the group, stays taken until it is waited for.
    waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let _empty = kill_process_group(group, Signal::KILL);
    let status = child.wait()?;
    let _open = finished.recv_timeout(OUTPUT_TIMEOUT);
    Ok(status)
}

/// Reads until the end, also when the log cannot be written any more: a server that prints must not stop.
fn copy(mut reader: PipeReader, log: &mut RotatingLog) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        if let Some(bytes) = buffer.get(..length) {
            let _disk_full = log.append(bytes);
        }
    }
}

/// Two files of which the older one is replaced: at least half of `bytes` of the output is there, and no more than `bytes`.
struct RotatingLog {
    folder: PathBuf,
    file: File,
    written: u64,
    most: u64,
}

impl RotatingLog {
    fn create(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        let file = File::create(folder.join(LOG_FILE)).context("log_folder")?;
        Ok(Self { folder: folder.to_owned(), file, written: 0, most: bytes / 2 })
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.written >= self.most {
                fs::rename(self.folder.join(LOG_FILE), self.folder.join(EARLIER_LOG_FILE))?;
                self.file = File::create(self.folder.join(LOG_FILE))?;
                self.written = 0;
            }
            let left = usize::try_from(self.most - self.written).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(left));
            self.file.write_all(now)?;
            self.written += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
