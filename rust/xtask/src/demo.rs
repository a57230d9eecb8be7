//! `cargo xtask demo`: the whole story on real parts, told on the terminal.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::backend::{self, Backend};
use crate::demo_event::Event;
use crate::display::Display;
use crate::godot::{self, Engine};
use crate::process::{self, Running};
use crate::{interrupt, library, workspace};

/// Bounds of single steps; a loaded machine with two cores needs a tenth of them.
const SERVER_START: Duration = Duration::from_mins(1);
const RACE: Duration = Duration::from_mins(2);
const SHUTDOWN: Duration = Duration::from_mins(1);
const PLAYERS: [&str; 2] = ["Ada", "Bob"];
const ROOM: &str = "Frog Pond";

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

/// A process of the demo with its place in the telling.
struct Actor {
    name: &'static str,
    process: Running,
    _home: tempfile::TempDir,
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

    let stories = workspace::provisions().join("demo");
    fs::create_dir_all(&stories)?;
    let folder = tempfile::Builder::new().prefix("story-").tempdir_in(&stories)?;
    println!("\n-- Frog Race: a backend, a dedicated server, two players\n");
    let mut backend = Backend::start("demo-backend", &server_binary, folder.path())?;
    let mut event_log = EventLog::default();
    event_log.tell(
        "backend",
        &format!("listening on {} with the database {}", backend.url(), backend.database().display()),
    );

    let mut server = start_server(&engine, &backend)?;
    event_log.follow_until(&mut server, &mut [], &mut backend, SERVER_START, |told| {
        told.has("server", "registered")
    })?;
    let mut clients = Vec::new();
    for (index, name) in PLAYERS.into_iter().enumerate() {
        clients.push(start_client(&engine, &backend, &show, index, name)?);
    }
    event_log.follow_until(&mut server, &mut clients, &mut backend, RACE, |told| {
        let saved_after_race = told.after("server", "race_finished").filter(|event| event.name == "saved");
        let mut players: Vec<_> = saved_after_race.filter_map(|event| event.field("player")).collect();
        players.sort_unstable();
        players.dedup();
        players.len() >= PLAYERS.len() && PLAYERS.iter().all(|name| told.has(name, "done"))
    })?;
    for client in &mut clients {
        let status = client.process.wait(SHUTDOWN)?;
        ensure!(status.success(), "{} ended with {status}\n{}", client.name, client.process.tail());
    }

    event_log.tell("xtask", "sends SIGTERM to the dedicated server");
    server.process.terminate();
    let status = server.process.wait(SHUTDOWN)?;
    event_log.catch_up(&mut server);
    ensure!(status.success(), "the server ended with {status} after SIGTERM\n{}", server.process.tail());
    for event in ["draining", "flushed", "deregistered"] {
        ensure!(
            event_log.has("server", event),
            "the server left without `{event}`\n{}",
            server.process.tail()
        );
    }
    event_log.tell("xtask", "the server process is gone, exit code 0");

    println!("\n-- what the backend holds now (backend-server players)\n");
    read_back(&server_binary, backend.database())?;
    backend.stop()?;
    if let Show::Pictures { folder, .. } = &show {
        list_pictures(folder)?;
    }
    println!("\nThe story is told, in {:.0} s.", begin.elapsed().as_secs_f64());
    Ok(())
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

fn start_server(engine: &Engine, backend: &Backend) -> Result<Actor> {
    let port = std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let (mut command, home) = actor_command(engine, &["--headless"])?;
    command.env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
    command.args(["--", "--server", "--race-length=8", "--empty-server-timeout=300"]);
    command.arg(format!("--port={port}")).arg(format!("--name={ROOM}"));
    command.arg(format!("--backend-url={}", backend.url()));
    Ok(Actor { name: "server", process: Running::start("demo-server", command)?, _home: home })
}

fn start_client(
    engine: &Engine,
    backend: &Backend,
    show: &Show,
    index: usize,
    name: &'static str,
) -> Result<Actor> {
    let windowed = match show {
        Show::Headless => false,
        Show::Windows => true,
        Show::Pictures { .. } => index == 0,
    };
    let position = format!("{},{}", 60 + 680 * index, 120);
    let engine_arguments: &[&str] = match show {
        _ if !windowed => &["--headless"],
        Show::Pictures { .. } => &["--rendering-driver", "opengl3", "--audio-driver", "Dummy"],
        _ => &["--windowed", "--resolution", "640x400", "--position", &position],
    };
    let (mut command, home) = actor_command(engine, engine_arguments)?;
    command.arg("--").arg(if windowed { "--autoplay" } else { "--bot" });
    command.args([
        format!("--name={name}"),
        format!("--room={ROOM}"),
        format!("--backend-url={}", backend.url()),
    ]);
    if let (true, Show::Pictures { display, folder }) = (windowed, show) {
        command.env("DISPLAY", display.name()).arg(format!("--screenshots={}", folder.display()));
    }
    let process = Running::start(&format!("demo-{}", name.to_lowercase()), command)?;
    Ok(Actor { name, process, _home: home })
}

fn actor_command(engine: &Engine, arguments: &[&str]) -> Result<(Command, tempfile::TempDir)> {
    // A home each: two clients on one machine are two players, and a saved login of the developer stays alone.
    let home = tempfile::Builder::new().prefix("frog-").tempdir()?;
    let mut command = engine.command(home.path());
    command.args(arguments).arg("--path").arg(workspace::root().join("demo"));
    for name in ["BACKEND_URL", "BACKEND_SERVER_KEY", "BACKEND_SERVER_KEY_FILE", "BACKEND_MODE"] {
        command.env_remove(name);
    }
    Ok((command, home))
}

/// Prints the story and remembers it.
#[derive(Default)]
struct EventLog {
    step: usize,
    told: Vec<(&'static str, Event)>,
    /// Names of players and the room by their ids: ids tell a person little.
    names: BTreeMap<String, String>,
}

impl EventLog {
    fn tell(&mut self, who: &str, what: &str) {
        self.step += 1;
        println!("{:3}. {who:8} {what}", self.step);
    }

    fn catch_up(&mut self, actor: &mut Actor) {
        for event in actor.process.new_lines().iter().filter_map(|line| Event::parse(line)) {
            let sentence = event.sentence();
            let named = match event.name.as_str() {
                "logged_in" | "registered" => sentence,
                _ => self.names.iter().fold(sentence, |text, (id, name)| text.replace(id, name)),
            };
            self.tell(actor.name, &named);
            let name = if event.name == "registered" { Some(ROOM) } else { event.field("name") };
            if let (Some(id), Some(name)) = (event.field("player").or(event.field("server_id")), name) {
                self.names.insert(id.to_owned(), name.to_owned());
            }
            self.told.push((actor.name, event));
        }
    }

    fn has(&self, who: &str, event: &str) -> bool {
        self.told.iter().any(|(event_log, told)| *event_log == who && told.name == event)
    }

    /// What `who` told after its first `event`.
    fn after<'a>(&'a self, who: &'a str, event: &'a str) -> impl Iterator<Item = &'a Event> {
        let own = self.told.iter().filter(move |(event_log, _)| *event_log == who).map(|(_, told)| told);
        own.skip_while(move |told| told.name != event).skip(1)
    }

    /// Tells what the processes do until `enough`; fails when one of them fails, or after `timeout`.
    fn follow_until(
        &mut self,
        server: &mut Actor,
        clients: &mut [Actor],
        backend: &mut Backend,
        timeout: Duration,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + timeout;
        loop {
            interrupt::check()?;
            backend.check()?;
            let server_ended = server.process.ended()?;
            self.catch_up(server);
            if let Some(status) = server_ended {
                bail!("the server ended early with {status}\n{}", server.process.tail());
            }
            for client in &mut *clients {
                let ended = client.process.ended()?;
                self.catch_up(client);
                if let Some(status) = ended.filter(|status| !status.success()) {
                    bail!("{} ended with {status}\n{}", client.name, client.process.tail());
                }
            }
            if enough(self) {
                return Ok(());
            }
            if Instant::now() >= end {
                let tails: Vec<String> =
                    clients.iter().chain([&*server]).map(|actor| actor.process.tail()).collect();
                bail!("the story did not go on within {timeout:?}\n{}", tails.join("\n"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Prints every player's progress from the database and fails unless it is that of one race.
fn read_back(binary: &Path, database: &Path) -> Result<()> {
    let mut command = Command::new(binary);
    command.arg("players").arg("--database").arg(database);
    let text = process::output(command)?;
    let players: Vec<Value> =
        serde_json::from_str(&text).context("backend-server players printed no JSON list")?;
    let mut wins = 0;
    for name in PLAYERS {
        let player = players
            .iter()
            .find(|player| player["display_name"] == name)
            .with_context(|| format!("the backend knows no player {name}: {text}"))?;
        let progress = &player["documents"]["progress"];
        // Godot writes every number of a parsed document as a float.
        let number = |key: &str| progress[key].as_f64().map(|number| number as i64).unwrap_or_default();
        println!(
            "     {name:8} races {}  wins {}  XP {}  best {:.2} s",
            number("races"),
            number("wins"),
            number("xp"),
            progress["best_ms"].as_f64().unwrap_or_default() / 1000.0
        );
        ensure!(number("races") == 1 && number("xp") > 0, "{name}'s race is not in the backend: {player}");
        wins += number("wins");
    }
    ensure!(wins == 1, "one race, but {wins} wins in the backend: {text}");
    Ok(())
}

fn list_pictures(folder: &Path) -> Result<()> {
    println!();
    for name in ["login", "server_browser", "race", "results"] {
        let picture = folder.join(format!("{name}.png"));
        ensure!(picture.is_file(), "no picture at {}", picture.display());
        println!("picture: {}", picture.display());
    }
    Ok(())
}
