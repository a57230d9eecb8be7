//! The engine's processes: the benchmark's project with the library that players get.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tempfile::TempDir;
use test_harness::log::Log;
use test_harness::process::Process;
use test_harness::programs;

use crate::bare_server::KEY;
use crate::cpu_affinity::{Side, pinned};

/// Before what was measured, on a line of its own.
pub const FIGURES: &str = "FIGURES ";

/// One scenario's figures by name, and its name as `run`.
pub type Figures = Map<String, Value>;

/// A copy of the benchmark's project whose addon is the given library, also for the editor's own binary: what is measured
/// is what is shipped.
pub struct Project {
    folder: TempDir,
}

impl Project {
    /// Copies and imports it.
    pub fn with(library: &Path) -> Result<Self> {
        let project = Self::copied()?;
        let addon = project.path().join("addons/backend_client");
        fs::create_dir_all(&addon)?;
        let name = library.file_name().context("the library has no name")?;
        fs::copy(library, addon.join(name)).with_context(|| format!("no {}", library.display()))?;
        let entry = format!(
            "[configuration]\n\nentry_symbol = \"gdext_rust_init\"\ncompatibility_minimum = \"4.5\"\nreloadable = false\n\n\
             [libraries]\n\nlinux = \"{0}\"\nwindows = \"{0}\"\nmacos = \"{0}\"\n",
            name.to_string_lossy()
        );
        fs::write(addon.join("backend_client.gdextension"), entry)?;
        project.import("res://addons/backend_client/backend_client.gdextension\n")?;
        Ok(project)
    }

    /// The same project without the addon.
    pub fn without() -> Result<Self> {
        let project = Self::copied()?;
        project.import("")?;
        Ok(project)
    }

    fn copied() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
        copy(&programs::workspace().join("tests/bench/godot"), &folder.path().join("project"))?;
        Ok(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The engine on its cores, without a window, with `arguments` for the project.
    pub fn command(&self, arguments: &[String]) -> Result<Command> {
        self.scene("res://main.tscn", arguments)
    }

    /// [`Self::command`] with another scene than the project's own.
    pub fn scene(&self, scene: &str, arguments: &[String]) -> Result<Command> {
        let mut command = Command::new(programs::godot()?);
        command.arg("--headless").arg("--path").arg(self.path()).arg(scene).arg("--").args(arguments);
        self.at_home(&mut command);
        Ok(pinned(Side::Client, &command))
    }

    /// Takes `way` through `runs` in a process of its own.
    pub fn measure(&self, way: &str, url: &str, runs: &str) -> Result<Vec<Figures>> {
        let arguments = [format!("--way={way}"), format!("--url={url}"), format!("--runs={runs}")];
        let mut command = self.command(&arguments)?;
        command.env("BACKEND_URL", url).env("BACKEND_SERVER_KEY", KEY);
        let mut process = Process::start(way, command)?;
        process.wait_for_exit(0)?;
        process.log().check_clean(&[])?;
        let figures = figures_of(process.log())?;
        ensure!(
            figures.len() == runs.split(',').count(),
            "{way} left out a scenario\n{}",
            process.log().tail()
        );
        Ok(figures)
    }

    /// Runs a scene of `scenes/` that concludes by itself, and has the backend at `url`.
    pub fn run_scene(&self, scene: &str, url: &str, arguments: &[String]) -> Result<Vec<Figures>> {
        let mut words = vec![format!("res://scenes/{scene}.tscn"), "--".to_owned()];
        words.extend_from_slice(arguments);
        let mut command = Command::new(programs::godot()?);
        command.arg("--headless").arg("--path").arg(self.path()).args(words);
        command.env("BACKEND_URL", url);
        self.at_home(&mut command);
        let mut process = Process::start(scene, pinned(Side::Client, &command))?;
        process.wait_for_exit(0)?;
        process.log().check_clean(&[])?;
        let figures = figures_of(process.log())?;
        ensure!(!figures.is_empty(), "{scene} concluded nothing\n{}", process.log().tail());
        Ok(figures)
    }

    fn import(&self, extensions: &str) -> Result<()> {
        let cache = self.path().join(".godot");
        fs::create_dir_all(&cache)?;
        // With the addon, or without it for the comparison: the folder is there in both.
        fs::write(cache.join("extension_list.cfg"), extensions)?;
        let mut command = Command::new(programs::godot()?);
        command.args(["--headless", "--import", "--path"]).arg(self.path());
        self.at_home(&mut command);
        let mut process = Process::start("godot --import", command)?;
        process.wait_for_exit(0)?;
        process.log().check_clean(&[])
    }

    fn at_home(&self, command: &mut Command) {
        let home = self.folder.path().join("home");
        command.env("HOME", &home);
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, home.join(name.to_lowercase()));
        }
    }
}

/// The figures in a log, in order; fails if a call failed.
pub fn figures_of(log: &Log) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for line in log.lines() {
        if let Some((_, json)) = line.split_once(FIGURES) {
            let figures: Figures = serde_json::from_str(json)?;
            let failed = figures.get("failed").and_then(Value::as_f64);
            ensure!(failed == Some(0.0), "calls failed: {json}");
            all.push(figures);
        }
    }
    Ok(all)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != ".godot" {
                copy(&entry.path(), &to.join(name))?;
            }
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
