//! Child processes that cannot outlive us: own process group, ended on drop, killed by the kernel if we are killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{interrupt, workspace};

/// Pause between two looks at a child.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a child may take to obey SIGTERM before it is killed. Chaos ends what its trials have started first: killed
/// before that, it leaves backends and mounts behind.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of a log shown when something fails.
const TAIL: usize = 40;

/// A running child whose output is kept, and written to a log file.
pub struct Running {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    log: PathBuf,
    cursor: usize,
    reaped: bool,
}

impl Running {
    /// Starts `command` with its output kept and written to `target/logs/<name>.log`.
    pub fn start(name: &str, command: Command) -> Result<Self> {
        Self::start_echoing(name, command, |_| false)
    }

    /// [`Running::start`], printing each line for which `echo` is true as it comes.
    pub fn start_echoing(
        name: &str,
        command: Command,
        echo: impl Fn(&str) -> bool + Send + Clone + 'static,
    ) -> Result<Self> {
        fs::create_dir_all(workspace::logs())?;
        let log = workspace::logs().join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = bound_to_us(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        let lines = Arc::default();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(follow(stdout, Arc::clone(&lines), file.try_clone()?, echo.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(follow(stderr, Arc::clone(&lines), file, echo));
        }
        Ok(Self { name: name.to_owned(), child, lines, readers, log, cursor: 0, reaped: false })
    }

    /// Lines that have come since this was last asked.
    pub fn new_lines(&mut self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = lines[self.cursor..].to_vec();
        self.cursor = lines.len();
        fresh
    }

    /// Everything it has printed.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that satisfies `wanted`; fails when the process ends or `timeout` is over before.
    pub fn wait_for_line(&mut self, timeout: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + timeout;
        loop {
            interrupt::check()?;
            let ended = self.child.try_wait()?;
            if ended.is_some() {
                self.drain();
            }
            if let Some(line) = self.lines().into_iter().find(|line| wanted(line)) {
                return Ok(line);
            }
            if let Some(status) = ended {
                bail!("{} ended early with {status}\n{}", self.name, self.tail());
            }
            if Instant::now() >= end {
                bail!("{} did not get ready within {timeout:?}\n{}", self.name, self.tail());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Its exit status, once it has ended; its log is whole then.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        interrupt::check()?;
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.drain();
        }
        Ok(status)
    }

    /// Waits for its end, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {timeout:?}\n{}", self.name, self.tail());
            }
            thread::sleep(PAUSE);
        }
    }

    /// Asks it to end, and waits; fails unless it exits with 0 within `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<()> {
        terminate(&self.child);
        let status = self.wait(timeout)?;
        if !status.success() {
            bail!("{} ended with {status} after SIGTERM\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Sends SIGTERM to it.
    pub fn terminate(&self) {
        terminate(&self.child);
    }

    /// Its last lines, and where the rest is.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let shown = lines[lines.len().saturating_sub(TAIL)..].join("\n  | ");
        format!("  last lines of {} ({}):\n  | {shown}", self.name, self.log.display())
    }

    fn drain(&mut self) {
        // A grandchild may keep the pipe open: the log counts as whole after a moment.
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && self.readers.iter().any(|reader| !reader.is_finished()) {
            thread::sleep(PAUSE);
        }
        self.reaped = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped && matches!(self.child.try_wait(), Ok(None)) {
            terminate(&self.child);
            let end = Instant::now() + STOP_TIMEOUT;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(PAUSE);
            }
        }
        // Also what it may have left behind in its group.
        kill_group(&mut self.child);
    }
}

/// Runs `command` to its end with our own output, and fails unless it succeeds.
pub fn run(what: &str, command: Command) -> Result<()> {
    let mut command = bound_to_us(command);
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("cannot start {what}: {command:?}"))?;
    loop {
        if let Err(interrupted) = interrupt::check() {
            terminate(&child);
            thread::sleep(Duration::from_millis(200));
            kill_group(&mut child);
            return Err(interrupted);
        }
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("{what} failed ({status})");
        }
        thread::sleep(PAUSE);
    }
}

/// Runs a short `command` and returns what it printed; fails, with what it said, unless it succeeds.
pub fn output(mut command: Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn follow(
    pipe: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
    mut file: File,
    echo: impl Fn(&str) -> bool + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            // The log file is a convenience: a full disk must not stop the child by a blocked pipe.
            if let Err(error) = writeln!(file, "{line}") {
                eprintln!("cannot write a log: {error}");
            }
            if echo(&line) {
                println!("{line}");
            }
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

/// The same command in a process group of its own, killed by the kernel when we are (Linux, through `setpriv`).
fn bound_to_us(command: Command) -> Command {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        let mut bound = match workspace::on_path(&["setpriv"]).filter(|_| cfg!(target_os = "linux")) {
            Some(setpriv) => {
                let mut wrapped = Command::new(setpriv);
                wrapped.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => wrapped.env(name, value),
                        None => wrapped.env_remove(name),
                    };
                }
                if let Some(folder) = command.get_current_dir() {
                    wrapped.current_dir(folder);
                }
                wrapped
            }
            None => command,
        };
        bound.process_group(0);
        bound
    }
    #[cfg(not(unix))]
    {
        command
    }
}

fn terminate(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        terminate_process(pid);
    }
}

/// Sends SIGTERM.
#[cfg(unix)]
pub fn terminate_process(pid: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = Pid::from_raw(pid) {
        // Already gone is as good as told.
        let _gone = kill_process(pid, Signal::TERM);
    }
}

/// Does nothing: there is no SIGTERM here.
#[cfg(not(unix))]
pub fn terminate_process(_pid: i32) {}

/// Sends SIGKILL to a process and those that it has started.
#[cfg(unix)]
pub fn kill_process_group(pid: i32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(pid) = Pid::from_raw(pid) {
        let _empty_group = kill_process_group(pid, Signal::KILL);
    }
}

/// Does nothing: there are no process groups here.
#[cfg(not(unix))]
pub fn kill_process_group(_pid: i32) {}

fn kill_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        kill_process_group(pid);
    }
    #[cfg(not(unix))]
    {
        let _already_ended = child.kill();
    }
    let _reaped_before = child.wait();
}
