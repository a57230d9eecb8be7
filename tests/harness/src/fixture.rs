//! The fixture game: a Godot project that does one thing at a time, as a test asks it to.
//!
//! The test and the game talk over a loopback connection, one JSON object per line: `{"do": "save", …}` is
//! answered by `{"ok": …}` or `{"error": …}` when it is done. The game's signals come as `EVENT …` lines in its log.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::backend::free_port;
use crate::godot::{Godot, Launch};
use crate::log::Log;
use crate::{WAIT_TIMEOUT, until};

/// A running fixture game.
pub struct Fixture {
    godot: Godot,
    commands: TcpStream,
    answers: BufReader<TcpStream>,
}

/// A fixture game about to be started.
pub struct FixtureLaunch {
    launch: Launch,
    control: TcpListener,
}

/// A fixture in the role of a dedicated server that listens on a free port; `port()` in its answers tells which.
pub fn server(name: &str, backend_url: &str, key_file: &Path) -> Result<FixtureLaunch> {
    server_of("server", name, backend_url, key_file)
}

/// A fixture in the role of a dedicated server that keeps a world.
pub fn world(name: &str, backend_url: &str, key_file: &Path) -> Result<FixtureLaunch> {
    server_of("world", name, backend_url, key_file)
}

fn server_of(role: &str, name: &str, backend_url: &str, key_file: &Path) -> Result<FixtureLaunch> {
    let launch = launch(name, role, backend_url)?;
    Ok(launch
        .env("BACKEND_SERVER_KEY_FILE", &key_file.to_string_lossy())
        .arg("--server")
        .arg(&format!("--name={name}"))
        .arg(&format!("--port={}", free_port()?)))
}

/// A fixture in the role of a player's client.
pub fn client(name: &str, backend_url: &str) -> Result<FixtureLaunch> {
    launch(name, "client", backend_url)
}

/// A fixture in the role of a player who hosts or joins a room through the relay.
pub fn relay(name: &str, backend_url: &str) -> Result<FixtureLaunch> {
    launch(name, "relay", backend_url)
}

/// A fixture that connects without the addon's handshake.
pub fn unauthenticated_client(name: &str, backend_url: &str) -> Result<FixtureLaunch> {
    launch(name, "unauthenticated_client", backend_url)
}

fn launch(name: &str, role: &str, backend_url: &str) -> Result<FixtureLaunch> {
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    control.set_nonblocking(true)?;
    let launch = Launch::headless(name, "tests/fixtures/game")
        .arg(format!("--role={role}"))
        .arg(format!("--control={}", control.local_addr()?.port()))
        .arg(format!("--backend-url={backend_url}"));
    Ok(FixtureLaunch { launch, control })
}

impl FixtureLaunch {
    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.launch = self.launch.env(name, value);
        self
    }

    /// An argument of the game.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.launch = self.launch.arg(argument);
        self
    }

    /// Runs it as process 1 of a process namespace of its own.
    #[must_use]
    pub fn with_pid_one(mut self) -> Self {
        self.launch = self.launch.with_pid_one();
        self
    }

    /// Starts it with SIGHUP ignored.
    #[must_use]
    pub fn with_nohup(mut self) -> Self {
        self.launch = self.launch.with_nohup();
        self
    }

    /// Mounts a disk of its own at `folder`.
    #[must_use]
    pub fn with_disk(mut self, folder: &Path, options: &str) -> Self {
        self.launch = self.launch.with_disk(folder, options);
        self
    }

    /// Keeps what belongs to its user in `home`, with other processes there and after its end.
    #[must_use]
    pub fn with_home(mut self, home: &Path) -> Self {
        self.launch = self.launch.with_home(home);
        self
    }

    /// Starts it and waits until it takes commands.
    pub fn start(self) -> Result<Fixture> {
        let mut godot = self.launch.start()?;
        let accepted = until("the fixture game to connect", || {
            if !godot.is_running()? {
                bail!("the fixture game ended at once");
            }
            godot.log().check_clean(&[])?;
            Ok(self.control.accept().ok())
        });
        let (commands, _) = accepted.with_context(|| godot.log().tail())?;
        commands.set_nonblocking(false)?;
        commands.set_nodelay(true)?;
        commands.set_read_timeout(Some(WAIT_TIMEOUT))?;
        let answers = BufReader::new(commands.try_clone()?);
        Ok(Fixture { godot, commands, answers })
    }
}

impl Fixture {
    /// Asks for `command` without waiting for the answer.
    pub fn send(&mut self, command: &Value) -> Result<()> {
        let mut line = command.to_string();
        line.push('\n');
        self.commands.write_all(line.as_bytes()).with_context(|| self.godot.log().tail())
    }

    /// The answer to the command sent last.
    pub fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        if !read.as_ref().is_ok_and(|count| *count > 0) {
            let state = if self.godot.is_running()? { "it runs" } else { "it ended" };
            bail!("no answer from the fixture game ({read:?}, {state})\n{}", self.godot.log().tail());
        }
        let mut answer: Value = serde_json::from_str(&line).with_context(|| format!("answer {line:?}"))?;
        match answer.get_mut("ok") {
            Some(value) => Ok(value.take()),
            None => bail!("the fixture game says {answer}\n{}", self.godot.log().tail()),
        }
    }

    /// Asks for `command` and waits for its answer.
    pub fn ask(&mut self, command: &Value) -> Result<Value> {
        self.send(command)?;
        self.answer()
    }

    /// What it has printed.
    pub fn log(&self) -> &Log {
        self.godot.log()
    }

    /// The process, for signals and its end.
    pub fn godot(&mut self) -> &mut Godot {
        &mut self.godot
    }
}
