//! Godot processes: a project, its arguments, and a home of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::log::Log;
use crate::process::{self, Process};
use crate::programs;

/// A Godot process about to be started.
pub struct Launch {
    name: String,
    project: PathBuf,
    engine: Vec<String>,
    user: Vec<String>,
    environment: Vec<(String, String)>,
    pid_one: bool,
    ignores_hangups: bool,
    disk: Option<(PathBuf, String)>,
    home: Option<PathBuf>,
}

/// A running Godot process. Dropping it kills it.
pub struct Godot {
    process: Process,
    signalled: u32,
    _home: Option<TempDir>,
}

impl Launch {
    /// Runs the project in `folder` of the workspace without a window.
    pub fn headless(name: &str, folder: &str) -> Self {
        Self::new(name, folder, &["--headless"])
    }

    /// Runs the project in `folder` in a window on the X display `display`.
    pub fn windowed(name: &str, folder: &str, display: &str) -> Self {
        Self::new(name, folder, &["--rendering-driver", "opengl3", "--audio-driver", "Dummy"])
            .env("DISPLAY", display)
    }

    fn new(name: &str, folder: &str, engine: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            project: programs::workspace().join(folder),
            engine: engine.iter().map(|argument| (*argument).to_owned()).collect(),
            user: Vec::new(),
            environment: Vec::new(),
            pid_one: false,
            ignores_hangups: false,
            disk: None,
            home: None,
        }
    }

    /// An argument of the engine, before `--`.
    #[must_use]
    pub fn engine_arg(mut self, argument: impl Into<String>) -> Self {
        self.engine.push(argument.into());
        self
    }

    /// An argument of the game, after `--`.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.user.push(argument.into());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.to_owned(), value.as_ref().to_string_lossy().into_owned()));
        self
    }

    /// Runs it as process 1 of a process namespace of its own, as in a container.
    #[must_use]
    pub fn with_pid_one(mut self) -> Self {
        self.pid_one = true;
        self
    }

    /// Starts it with SIGHUP ignored, by `nohup`.
    #[must_use]
    pub fn with_nohup(mut self) -> Self {
        self.ignores_hangups = true;
        self
    }

    /// Mounts a disk at `folder`, in memory and with `options` such as `size=1m`, that this process alone sees and that is
    /// gone with it. [`Godot::inside`] leads there.
    #[must_use]
    pub fn with_disk(mut self, folder: &Path, options: &str) -> Self {
        self.disk = Some((folder.to_owned(), options.to_owned()));
        self
    }

    /// Keeps what belongs to its user in `home`, with other processes there and after its end.
    #[must_use]
    pub fn with_home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_owned());
        self
    }

    /// What starts it, with everything it keeps for its user in `home`.
    pub fn command(&self, home: &Path) -> Result<Command> {
        import(&self.project)?;
        let engine = programs::godot()?;
        let mut command = match &self.disk {
            _ if self.pid_one => in_a_namespace(&engine),
            Some((folder, options)) => with_a_disk(&engine, folder, options),
            None if self.ignores_hangups => {
                let mut command = Command::new("nohup");
                command.arg(&engine);
                command
            }
            None => Command::new(&engine),
        };
        command
            .arg("--path")
            .arg(&self.project)
            .args(&self.engine)
            .arg("--")
            .args(&self.user)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        at_home_in(&mut command, home);
        Ok(command)
    }

    /// Starts it.
    pub fn start(self) -> Result<Godot> {
        // Its own home: saved sessions of one process must not log in another, nor those of an earlier run.
        let own = match self.home {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("godot-").tempdir()?),
        };
        let home = self.home.as_deref().or(own.as_ref().map(TempDir::path)).context("no home")?;
        let command = self.command(home)?;
        let process = Process::start(&self.name, command)?;
        // The engine's banner: from here on it has replaced whatever launched it.
        process.log().wait_for("Godot Engine v")?;
        let signalled = if self.pid_one { first_process(process.id())? } else { process.id() };
        Ok(Godot { process, signalled, _home: own })
    }
}

impl Godot {
    /// What it has printed.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.is_running()
    }

    /// Its process id as seen from here.
    pub fn id(&self) -> u32 {
        self.signalled
    }

    /// `path` as the engine sees it, with the disks that are its own.
    pub fn inside(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.signalled)).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Closes the other end of its standard output and standard error.
    pub fn close_output(&self) -> Result<()> {
        self.process.close_output()
    }

    /// Sends `signal` to the engine.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(self.signalled, signal)
    }

    /// Waits for its end; fails unless it exits with `code` and its log is clean.
    pub fn finish(&mut self, code: i32) -> Result<()> {
        self.finish_despite(code, &[])
    }

    /// [`Godot::finish`], not minding log lines that contain one of `expected`.
    pub fn finish_despite(&mut self, code: i32, expected: &[&str]) -> Result<()> {
        self.process.wait_for_exit(code)?;
        self.log().check_clean(expected)
    }

    /// Waits for its end and returns the exit code; fails when a signal ended it, which is a crash.
    pub fn wait(&mut self) -> Result<i32> {
        let status = self.process.wait()?;
        status.code().with_context(|| format!("ended with {status}\n{}", self.log().tail()))
    }

    /// Ends it without warning, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }
}

/// Points everything the engine keeps for its user into `home`.
fn at_home_in(command: &mut Command, home: &Path) {
    command.env("HOME", home);
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
        command.env(name, home.join(name.to_lowercase()));
    }
}

fn in_a_namespace(engine: &Path) -> Command {
    let mut command = unshare();
    command.args(["--pid", "--mount-proc", "--fork", "--kill-child"]).arg(engine);
    command
}

fn with_a_disk(engine: &Path, folder: &Path, options: &str) -> Command {
    let mut command = unshare();
    command
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o \"$1\" disk \"$0\" && shift && exec \"$@\""])
        .arg(folder)
        .arg(options)
        .arg(engine);
    command
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

/// The outer process id of the child of `unshare`, checked to be process 1 inside.
fn first_process(unshare: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"))?;
    let child: u32 = children.trim().parse().with_context(|| format!("unshare has children {children:?}"))?;
    let status = fs::read_to_string(format!("/proc/{child}/status"))?;
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
    ensure!(inner.split_whitespace().last() == Some("1"), "not process 1 of its namespace: {inner}");
    Ok(child)
}

/// Imports the project once: before that the engine knows neither its extensions nor its class names.
fn import(project: &Path) -> Result<()> {
    const EXTENSION: &str = "res://addons/backend_client/backend_client.gdextension";
    ensure!(project.join("project.godot").is_file(), "{} is no Godot project", project.display());
    let cache = project.join(".godot");
    fs::create_dir_all(&cache)?;
    // Test programs run side by side; one imports, the others wait.
    let lock = File::create(cache.join("import.lock"))?;
    lock.lock()?;
    let extensions = cache.join("extension_list.cfg");
    let known = fs::read_to_string(&extensions).is_ok_and(|known| known.contains(EXTENSION));
    if known && cache.join("global_script_class_cache.cfg").is_file() {
        return Ok(());
    }
    let home = tempfile::Builder::new().prefix("godot-").tempdir()?;
    let mut command = Command::new(programs::godot()?);
    command.args(["--headless", "--import", "--path"]).arg(project);
    at_home_in(&mut command, home.path());
    let mut process = Process::start("godot --import", command)?;
    process.wait_for_exit(0)?;
    process.log().check_clean(&[])
}
