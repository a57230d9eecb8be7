//! What a game server is made of, and the way to talk to it: the client crate's process by its standard streams, Godot by
//! a connection.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use test_harness::godot;

use crate::plan::Kind;

/// Pause between two looks whether Godot has connected.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A program of a game server.
pub enum Program {
    /// The client crate in a process of its own.
    Client {
        /// The executable.
        path: PathBuf,
        /// Its arguments, of which the number of the incarnation is the last.
        arguments: Vec<String>,
    },
    /// The fixture game in headless Godot.
    Godot {
        /// The arguments of the game.
        arguments: Vec<String>,
        /// File with the server key.
        key_file: PathBuf,
        /// What it keeps for its user.
        home: PathBuf,
        /// What it prints goes through a pipe to a process that can be ended.
        piped: bool,
    },
}

/// A process that has just been started.
pub struct Started {
    /// The process.
    pub child: Child,
    /// What it is told.
    pub commands: Commands,
    /// What it says.
    pub told: Told,
    /// Reads what it prints, if that is another process.
    pub printer: Option<Child>,
}

/// The way to a process.
pub enum Commands {
    /// Its standard input.
    Pipe(ChildStdin),
    /// Its connection, once it has made it.
    Line(Sender<String>),
}

/// The way from a process.
pub enum Told {
    /// Its standard output.
    Pipe(ChildStdout),
    /// Where it will connect to, and what it is to be told then.
    Line(TcpListener, Receiver<String>),
}

impl Program {
    /// What the history calls it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Client { .. } => Kind::Client,
            Self::Godot { .. } => Kind::Godot,
        }
    }

    /// Starts it, as this incarnation.
    pub fn start(&self, incarnation: u32, log: File) -> Result<Started> {
        match self {
            Self::Client { path, arguments } => {
                let mut command = Command::new(path);
                command.args(arguments).arg(incarnation.to_string());
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
                let mut child = spawn(command)?;
                let commands = Commands::Pipe(child.stdin.take().context("no standard input")?);
                let told = Told::Pipe(child.stdout.take().context("no standard output")?);
                Ok(Started { child, commands, told, printer: None })
            }
            Self::Godot { arguments, key_file, home, piped } => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                listener.set_nonblocking(true)?;
                let mut launch = godot::Launch::headless("chaos", "tests/fixtures/game")
                    .env("BACKEND_SERVER_KEY_FILE", key_file)
                    .arg(format!("--control={}", listener.local_addr()?.port()))
                    .arg(format!("--incarnation={incarnation}"));
                for argument in arguments {
                    launch = launch.arg(argument);
                }
                let mut command = launch.command(home)?;
                command.stdin(Stdio::null());
                let printer = if *piped {
                    let (read, write) = std::io::pipe()?;
                    command.stdout(write.try_clone()?).stderr(write);
                    Some(Command::new("cat").stdin(read).stdout(log).process_group(0).spawn()?)
                } else {
                    command.stdout(log.try_clone()?).stderr(log);
                    None
                };
                let child = spawn(command)?;
                let (commands, to_tell) = channel();
                let told = Told::Line(listener, to_tell);
                Ok(Started { child, commands: Commands::Line(commands), told, printer })
            }
        }
    }
}

fn spawn(mut command: Command) -> Result<Child> {
    command.env_remove("BACKEND_URL").env_remove("BACKEND_SERVER_KEY").process_group(0);
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

impl Commands {
    /// Tells it one line. False when nobody can hear it.
    pub fn send(&mut self, line: String) -> bool {
        match self {
            // A broken pipe is a process that is about to be found dead.
            Self::Pipe(pipe) => pipe.write_all(line.as_bytes()).is_ok(),
            Self::Line(line_to) => line_to.send(line).is_ok(),
        }
    }
}

impl Told {
    /// Has `listen` hear everything until the process has ended.
    pub fn read(self, listen: impl FnOnce(&mut dyn BufRead)) {
        match self {
            Self::Pipe(pipe) => listen(&mut BufReader::new(pipe)),
            Self::Line(listener, to_tell) => {
                let Some((stream, waiting)) = accept(&listener, &to_tell) else { return };
                let Ok(mut write) = stream.try_clone() else { return };
                thread::scope(|scope| {
                    scope.spawn(move || {
                        for line in waiting.into_iter().chain(to_tell) {
                            if write.write_all(line.as_bytes()).is_err() {
                                break;
                            }
                        }
                    });
                    listen(&mut BufReader::new(stream));
                });
            }
        }
    }
}

/// The connection of the process and what it was to be told meanwhile; `None` when it ended before it connected.
fn accept(listener: &TcpListener, to_tell: &Receiver<String>) -> Option<(TcpStream, Vec<String>)> {
    let mut waiting = Vec::new();
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let plain = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
            return plain.ok().map(|()| (stream, waiting));
        }
        match to_tell.try_recv() {
            Ok(line) => waiting.push(line),
            Err(TryRecvError::Empty) => thread::sleep(POLL_INTERVAL),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}
