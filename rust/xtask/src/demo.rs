//! `cargo xtask demo`: the whole story on real parts, told on the terminal.

mod event;
mod event_log;
mod server;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::backend::{self, Backend};
use crate::display::Display;
use crate::godot::{self, Engine};
use crate::process::{self, Running};
use crate::{interrupt, library, workspace};
use event_log::EventLog;
use server::{RoomServer, Server};

/// Bounds of single steps; a loaded machine with two cores needs a tenth of them.
const SERVER_START: Duration = Duration::from_mins(1);
const RACE: Duration = Duration::from_mins(2);
const SHUTDOWN: Duration = Duration::from_mins(1);
const PLAYERS: [&str; 2] = ["Ada", "Bob"];
const ROOM: &str = "Frog Pond";
/// Of the server, after `--`.
const SERVER_ARGUMENTS: [&str; 3] = ["--server", "--race-length=8", "--empty-server-timeout=300"];
/// Whether the backend starts servers by itself here.
const ON_DEMAND: bool = cfg!(target_os = "linux");

/// Options of `cargo xtask demo`.
#[derive(Args)]
pub struct Options {
    /// Saves pictures of login, server browser, race and results into this folder; needs no screen
    #[arg(long, value_name = "DIR", conflicts_with_all = ["windows", "headless"])]
    screenshots: Option<PathBuf>,
    /// Shows the clients in windows (the default with a display)
    #[arg(long, conflicts_with = "headless")]
    windows: bool,
    /// Runs the clients without windows (the default without a display)
    #[arg(long)]
    headless: bool,
}

/// How the clients are shown.
enum Show {
    Headless,
    Windows,
    Pictures { display: Display, folder: PathBuf },
}

/// A client with its place in the telling.
struct Client {
    name: &'static str,
    process: Running,
    _home: tempfile::TempDir,
}

/// Everything that runs.
struct Demo {
    engine: Engine,
    backend: Backend,
    show: Show,
    /// Where the backend keeps the output of its servers.
    logs: PathBuf,
    server: Option<Server>,
    clients: Vec<Client>,
    log: EventLog,
}

/// Tells the story and checks that it went as it should.
pub fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let server_binary = backend::build()?;
    library::build(library::Profile::Debug)?;
    let engine = godot::provide()?;
    println!("Godot {}", engine.version);
    let show = choose(options)?;
    println!("importing the demo");
    engine.import(&workspace::root().join("demo"))?;

    let runs = workspace::provisions().join("demo");
    fs::create_dir_all(&runs)?;
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&runs)?;
    println!("\n-- Frog Race: a backend, a dedicated server, two players\n");
    let server_home = tempfile::Builder::new().prefix("frog-").tempdir()?;
    let extra = if ON_DEMAND {
        let file = rooms_on_demand(&engine, server_home.path(), folder.path())?;
        vec!["--rooms-on-demand".to_owned(), file.display().to_string()]
    } else {
        Vec::new()
    };
    let backend = Backend::start_with("demo-backend", Command::new(&server_binary), folder.path(), &extra)?;
    let logs = folder.path().join("room-servers");
    let (clients, log) = (Vec::new(), EventLog::default());
    let mut demo = Demo { engine, backend, show, logs, server: None, clients, log };
    demo.play()?;

    println!("\n-- what the backend holds now (backend-server players)\n");
    let hops = read_back(&server_binary, demo.backend.database())?;
    demo.check_flushed(&hops)?;
    let Demo { backend, show, .. } = demo;
    backend.stop()?;
    if let Show::Pictures { folder, .. } = &show {
        list_pictures(folder)?;
    }
    println!("\nThe story is told, in {:.0} s.", begin.elapsed().as_secs_f64());
    Ok(())
}

impl Demo {
    /// A room is created, both players race in it twice, and in the middle of the second race the server has to leave.
    fn play(&mut self) -> Result<()> {
        let database = self.backend.database().display();
        self.log
            .emit("backend", &format!("listening on {} with the database {database}", self.backend.url()));
        if !ON_DEMAND {
            self.server = Some(start_server(&self.engine, &self.backend)?);
            self.follow_until(SERVER_START, |log| log.has("server", "registered"))?;
        }
        let by_name = format!("--room={ROOM}");
        let create = format!("--create-room={ROOM}");
        let [first, second] = if ON_DEMAND { [&*create, "--quick-play"] } else { [&*by_name, &*by_name] };
        self.start_client(PLAYERS[0], first)?;
        self.follow_until(SERVER_START, |log| log.has(PLAYERS[0], "verified"))?;
        self.start_client(PLAYERS[1], second)?;
        self.follow_until(RACE, |log| log.count("server", "halfway") == 2)?;

        self.log.emit("xtask", "sends SIGTERM to the dedicated server, in the middle of the second race");
        let server = self.server.as_mut().context("no server")?;
        server.terminate(SHUTDOWN)?;
        self.catch_up()?;
        for event in ["draining", "flushed", "deregistered"] {
            ensure!(self.log.has("server", event), "the server left without `{event}`\n{}", self.tails());
        }
        self.log.emit("xtask", "the server process is gone, exit code 0");
        for index in 0..self.clients.len() {
            let status = self.clients[index].process.wait(SHUTDOWN)?;
            let name = self.clients[index].name;
            self.catch_up()?;
            ensure!(status.success(), "{name} ended with {status}\n{}", self.tails());
        }
        Ok(())
    }

    /// Both players' hops of the second race were saved by the shutdown, and are what the backend has.
    fn check_flushed(&self, hops: &[i64]) -> Result<()> {
        let saved = self.log.number("server", "flushed", "saved").unwrap_or_default();
        ensure!(saved >= 2, "the shutdown saved {saved} documents, not those of both players");
        for (name, hops) in PLAYERS.into_iter().zip(hops) {
            let shown = self.log.number(name, "progress", "hops");
            ensure!(shown == Some(*hops), "{name} was shown {shown:?} hops, the backend has {hops}");
        }
        Ok(())
    }

    fn start_client(&mut self, name: &'static str, how: &str) -> Result<()> {
        let client = start_client(self, self.clients.len(), name, how)?;
        self.clients.push(client);
        Ok(())
    }

    /// Tells what the processes have done since the last time. Fails when one of them has failed.
    fn catch_up(&mut self) -> Result<()> {
        if self.server.is_none() {
            self.server = RoomServer::find(&self.logs).map(Server::OnDemand);
        }
        if let Some(server) = &mut self.server {
            self.log.catch_up("server", ROOM, &server.new_lines());
        }
        for client in &mut self.clients {
            // Its lines are whole once its end was seen.
            let ended = client.process.ended()?;
            self.log.catch_up(client.name, ROOM, &client.process.new_lines());
            if let Some(status) = ended.filter(|status| !status.success()) {
                bail!("{} ended with {status}\n{}", client.name, client.process.tail());
            }
        }
        Ok(())
    }

    /// Tells what the processes do until `enough`; fails when one of them fails, or after `timeout`.
    fn follow_until(&mut self, timeout: Duration, enough: impl Fn(&EventLog) -> bool) -> Result<()> {
        let end = Instant::now() + timeout;
        loop {
            interrupt::check()?;
            self.backend.check()?;
            let ended = self.server.as_mut().map(Server::ended).transpose()?.flatten();
            self.catch_up()?;
            if let Some(how) = ended {
                bail!("the server ended early {how}\n{}", self.tails());
            }
            if enough(&self.log) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("the story did not go on within {timeout:?}\n{}", self.tails());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn tails(&self) -> String {
        let clients = self.clients.iter().map(|client| client.process.tail());
        clients.chain(self.server.as_ref().map(Server::tail)).collect::<Vec<_>>().join("\n")
    }
}

/// Writes the settings by which the backend starts the demo's servers.
fn rooms_on_demand(engine: &Engine, home: &Path, folder: &Path) -> Result<PathBuf> {
    let mut command = demo_command(engine, home, &["--headless"]);
    command.args(["--", "--port={port}"]).args(SERVER_ARGUMENTS);
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
    let environment: Map<String, Value> = command
        .get_envs()
        .filter_map(|(name, value)| Some((text(name), Value::String(text(value?)))))
        .collect();
    let first = std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port().min(65_000);
    let settings = json!({
        "command": words,
        "environment": environment,
        "ports": format!("{first}-{}", first + 100),
        "max_players": PLAYERS.len(),
        "start_timeout_seconds": SERVER_START.as_secs(),
        "empty_timeout_seconds": 300,
        "log_in_errors": true,
    });
    let file = folder.join("rooms.json");
    fs::write(&file, settings.to_string()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn choose(options: &Options) -> Result<Show> {
    if let Some(folder) = &options.screenshots {
        fs::create_dir_all(folder)?;
        return Ok(Show::Pictures { display: Display::open()?, folder: folder.canonicalize()? });
    }
    let has_screen = cfg!(not(target_os = "linux"))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if options.windows && !has_screen {
        bail!("no DISPLAY and no WAYLAND_DISPLAY for windows; without --windows the clients run headless");
    }
    Ok(if has_screen && !options.headless { Show::Windows } else { Show::Headless })
}

fn start_server(engine: &Engine, backend: &Backend) -> Result<Server> {
    let port = std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let home = tempfile::Builder::new().prefix("frog-").tempdir()?;
    let mut command = demo_command(engine, home.path(), &["--headless"]);
    command.env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
    command.arg("--").args(SERVER_ARGUMENTS);
    command.arg(format!("--port={port}")).arg(format!("--name={ROOM}"));
    command.arg(format!("--backend-url={}", backend.url()));
    Ok(Server::ByHand { process: Running::start("demo-server", command)?, _home: home })
}

/// Starts a client that plays by itself; `how` says how it finds its room.
fn start_client(demo: &Demo, index: usize, name: &'static str, how: &str) -> Result<Client> {
    let windowed = match demo.show {
        Show::Headless => false,
        Show::Windows => true,
        Show::Pictures { .. } => index == 0,
    };
    let position = format!("{},{}", 60 + 680 * index, 120);
    let engine_arguments: &[&str] = match demo.show {
        _ if !windowed => &["--headless"],
        Show::Pictures { .. } => &["--rendering-driver", "opengl3", "--audio-driver", "Dummy"],
        _ => &["--windowed", "--resolution", "640x400", "--position", &position],
    };
    // A home each: two clients on one machine are two players, and a saved login of the developer stays alone.
    let home = tempfile::Builder::new().prefix("frog-").tempdir()?;
    let mut command = demo_command(&demo.engine, home.path(), engine_arguments);
    command.arg("--").arg(if windowed { "--autoplay" } else { "--bot" });
    command.args([how, "--races=2", "--until-closed"]);
    command.args([format!("--name={name}"), format!("--backend-url={}", demo.backend.url())]);
    if let (true, Show::Pictures { display, folder }) = (windowed, &demo.show) {
        command.env("DISPLAY", display.name()).arg(format!("--screenshots={}", folder.display()));
    }
    let process = Running::start(&format!("demo-{}", name.to_lowercase()), command)?;
    Ok(Client { name, process, _home: home })
}

fn demo_command(engine: &Engine, home: &Path, arguments: &[&str]) -> Command {
    let mut command = engine.command(home);
    command.args(arguments).arg("--path").arg(workspace::root().join("demo"));
    for name in ["BACKEND_URL", "BACKEND_SERVER_KEY", "BACKEND_SERVER_KEY_FILE", "BACKEND_MODE"] {
        command.env_remove(name);
    }
    command
}

/// Prints every player's progress from the database and fails unless it is that of one whole race and a part of another.
/// Returns the hops of each.
fn read_back(binary: &Path, database: &Path) -> Result<Vec<i64>> {
    let mut command = Command::new(binary);
    command.arg("players").arg("--database").arg(database);
    let text = process::output(command)?;
    let players: Vec<Value> =
        serde_json::from_str(&text).context("backend-server players printed no JSON list")?;
    let mut wins = 0;
    let mut hops = Vec::new();
    for name in PLAYERS {
        let player = players
            .iter()
            .find(|player| player["display_name"] == name)
            .with_context(|| format!("the backend knows no player {name}: {text}"))?;
        let progress = &player["documents"]["progress"];
        let number = |key: &str| progress[key].as_i64().unwrap_or_default();
        println!(
            "     {name:8} races {}  wins {}  XP {}  hops {}  best {:.2} s",
            number("races"),
            number("wins"),
            number("xp"),
            number("hops"),
            progress["best_ms"].as_f64().unwrap_or_default() / 1000.0
        );
        ensure!(number("races") == 1 && number("xp") > 0, "{name}'s race is not in the backend: {player}");
        wins += number("wins");
        hops.push(number("hops"));
    }
    ensure!(wins == 1, "one race, but {wins} wins in the backend: {text}");
    Ok(hops)
}

fn list_pictures(folder: &Path) -> Result<()> {
    println!();
    for name in ["login", "server_browser", "create_room", "race", "results"] {
        let picture = folder.join(format!("{name}.png"));
        ensure!(picture.is_file(), "no picture at {}", picture.display());
        println!("picture: {}", picture.display());
    }
    Ok(())
}
