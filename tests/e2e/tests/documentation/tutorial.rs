//! The tutorial, followed to the letter: each file is written, each command is run, each line that it promises comes.
//!
//! Two things are not as the reader has them: `unzip` puts the addon's folder of this checkout in place, with the program of the
//! backend where its package has it, as a package takes long to build; and the two ports are free ones of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use test_harness::backend::free_port;
use test_harness::process::Process;
use test_harness::programs;

use crate::text::{Block, Page};

/// The ports of the page.
const PORTS: [&str; 2] = ["8420", "7777"];
const TERMINALS: [&str; 3] = ["first terminal", "second terminal", "third terminal"];
const UNZIP: &str = "#!/bin/sh\ncp -R \"$TUTORIAL_PACKAGE/.\" .\n";
const GODOT: &str = "#!/bin/sh\nexec \"$GODOT4_BIN\" \"$@\"\n";

/// The machine of a reader.
struct Reader {
    folder: tempfile::TempDir,
    /// Ports of the page, and those that are free here.
    ports: BTreeMap<&'static str, String>,
    /// What runs in the other terminals.
    running: BTreeMap<&'static str, Process>,
}

#[test]
fn the_tutorial_ends_with_a_saved_player() -> Result<()> {
    let page = Page::of_guide("tutorial.md")?;
    let mut reader = Reader::new()?;
    let blocks = page.blocks();
    ensure!(blocks.len() > 10, "only {} blocks were found", blocks.len());
    for block in &blocks {
        reader.follow(block).with_context(|| format!("{}:{}", page.path, block.line))?;
    }
    // What the page shows last is what the backend has.
    let stored = Command::new(programs::backend_server()?)
        .args(["players", "--database"])
        .arg(reader.folder.path().join("backend/backend.db"))
        .output()?;
    let players: serde_json::Value = serde_json::from_slice(&stored.stdout)?;
    ensure!(players.as_array().is_some_and(|players| players.len() == 1), "{players}");
    ensure!(players[0]["documents"]["progress"]["visits"] == 3, "{players}");
    reader.leave()
}

impl Reader {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tutorial-").tempdir()?;
        let root = folder.path();
        for inner in ["home", "programs", "package/addons/backend_client/bin"] {
            fs::create_dir_all(root.join(inner))?;
        }
        for (name, script) in [("unzip", UNZIP), ("godot", GODOT)] {
            let program = root.join("programs").join(name);
            fs::write(&program, script)?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(root.join("backend_client-0.1.0.zip"), "in the place of the package")?;
        let addon = programs::workspace().canonicalize()?.join("addons/backend_client");
        let packaged = root.join("package/addons/backend_client");
        for entry in fs::read_dir(&addon)? {
            let entry = entry?;
            if entry.file_name() != "bin" {
                symlink(entry.path(), packaged.join(entry.file_name()))?;
            }
        }
        symlink(addon.join("bin/debug"), packaged.join("bin/debug"))?;
        let backend = packaged.join("bin/backend-server.linux-x86_64");
        symlink(programs::backend_server()?.canonicalize()?, backend)?;
        let mut ports = BTreeMap::new();
        for port in PORTS {
            ports.insert(port, free_port()?.to_string());
        }
        Ok(Self { folder, ports, running: BTreeMap::new() })
    }

    /// The text of the page with the ports of this machine.
    fn with_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (port, free)| text.replace(port, free))
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("pond")
    }

    fn follow(&mut self, block: &Block) -> Result<()> {
        if block.language != "sh" {
            let file = spans(&block.before).pop().context("the sentence before does not name a file")?;
            ensure!(block.before.ends_with(':'), "the sentence before does not end with a colon");
            return Ok(fs::write(self.project().join(file), self.with_ports(&block.text))?);
        }
        if block.before.contains("Ctrl+C") {
            self.interrupt(&block.before)?;
        }
        let named = TERMINALS.into_iter().filter_map(|name| Some((block.before.rfind(name)?, name)));
        let terminal = named.max().map_or(TERMINALS[0], |(_, name)| name);
        let mut command = self.shell(&self.with_ports(&block.text));
        let promised: Vec<String> = printed(&block.after).iter().map(|line| self.with_ports(line)).collect();
        if terminal == TERMINALS[0] {
            // The first commands make the project's folder.
            if !self.project().exists() {
                command.current_dir(self.folder.path());
            }
            let mut process = Process::start(terminal, command)?;
            process.wait_for_exit(0)?;
            for line in promised {
                ensure!(
                    process.log().contains(&line),
                    "it does not print {line:?}\n{}",
                    process.log().tail()
                );
            }
            return process.log().check_clean(&[]);
        }
        ensure!(!promised.is_empty(), "the page does not say what this command prints");
        let process = Process::start(terminal, command)?;
        for line in promised {
            process.log().wait_for(&line)?;
        }
        if self.running.insert(terminal, process).is_some() {
            bail!("the {terminal} is not free");
        }
        Ok(())
    }

    /// Ends what runs in a terminal, as its reader does.
    fn interrupt(&mut self, sentence: &str) -> Result<()> {
        let begin = sentence.find("Ctrl+C").context("no Ctrl+C")?;
        let named = TERMINALS.into_iter().filter_map(|name| Some((sentence[begin..].find(name)?, name)));
        let (_, terminal) = named.min().context("in which terminal?")?;
        let mut process =
            self.running.remove(terminal).with_context(|| format!("nothing runs in the {terminal}"))?;
        interrupt(&process)?;
        process.wait_for_exit(0)?;
        for line in spans(sentence) {
            ensure!(process.log().contains(&line), "it does not print {line:?}\n{}", process.log().tail());
        }
        process.log().check_clean(&[])
    }

    /// A shell in the folder of the project, as each terminal is opened there.
    fn shell(&self, script: &str) -> Command {
        let root = self.folder.path();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-c", script]).current_dir(self.project());
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [root.join("programs")].into_iter().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BACKEND_") {
                command.env_remove(name);
            }
        }
        // The port that the page does not name, because it is the default one.
        command.env("BACKEND_LISTEN", format!("127.0.0.1:{}", self.with_ports(PORTS[0])));
        command.env("TUTORIAL_PACKAGE", root.join("package")).env("HOME", root.join("home"));
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, root.join("home").join(name.to_lowercase()));
        }
        command
    }

    /// Ends what still runs: servers before the backend.
    fn leave(mut self) -> Result<()> {
        for terminal in TERMINALS.into_iter().rev() {
            if let Some(mut process) = self.running.remove(terminal) {
                interrupt(&process)?;
                process.wait_for_exit(0)?;
                // The backend shows its first server key once.
                process.log().check_clean(&["gsk_"])?;
            }
        }
        Ok(())
    }
}

/// As a terminal does it: for everything that runs in it.
fn interrupt(process: &Process) -> Result<()> {
    let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    Ok(kill_process_group(group, Signal::INT)?)
}

/// The code in a sentence.
fn spans(sentence: &str) -> Vec<String> {
    sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What a sentence says that a command prints: the code in it after `prints`, up to the next sentence.
fn printed(sentence: &str) -> Vec<String> {
    let Some(begin) = sentence.find("prints ") else { return Vec::new() };
    // A full stop within code is not the end.
    let mut ends = false;
    let mut found = Vec::new();
    for (index, piece) in sentence[begin..].split('`').enumerate() {
        if index % 2 == 1 && !ends {
            found.push(piece.to_owned());
        }
        ends |= index % 2 == 0 && (piece.contains(". ") || piece.contains(", and "));
    }
    found
}
