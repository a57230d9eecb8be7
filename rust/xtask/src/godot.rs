//! The Godot that everything runs with: the developer's, or the distribution's own, unpacked into `target/godot/`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::packages::{self, Installed, Wanted};
use crate::relocate::relocate;
use crate::{process, workspace};

/// The API level the extension is built for.
const OLDEST: (u32, u32) = (4, 5);
/// First Debian suite with Godot 4.5 or later.
const SUITE: &str = "forky";
const PACKAGES: [&str; 8] = [
    "godot",
    "godot-template-debug",
    "godot-template-release",
    "libgl1",
    "libglx-mesa0",
    "libgl1-mesa-dri",
    "libegl1",
    "libegl-mesa0",
];
const PROGRAMS: [&str; 3] =
    ["usr/bin/godot", "usr/bin/godot-template-debug", "usr/bin/godot-template-release"];

/// How to get a Godot where we cannot.
pub const HOW_TO_GET: &str = "install Godot 4.5 or later (https://godotengine.org/download) and put it on the PATH \
                              as `godot`, or set GODOT4_BIN to its binary";

/// A usable Godot.
pub struct Engine {
    /// The editor binary.
    pub binary: PathBuf,
    /// What `--version` says, such as `4.6.3.stable.official.1234abcd`.
    pub version: String,
    /// Export templates that came with it.
    pub templates: Option<Templates>,
    /// Folder with Mesa's drivers that came with it; needed for windows under Xvfb.
    pub dri: Option<PathBuf>,
}

/// Export templates for this machine's platform.
pub struct Templates {
    /// Unoptimised, with checks.
    pub debug: PathBuf,
    /// As players get it.
    pub release: PathBuf,
}

impl Engine {
    /// A command that runs it. `home` keeps the engine's files off the developer's own, and runs apart.
    pub fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("HOME", home);
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(name, home.join(name.to_lowercase()));
        }
        if let Some(dri) = &self.dri {
            command.env("LIBGL_DRIVERS_PATH", dri);
        }
        command
    }

    /// Lets the engine import the project in `folder`: before that it knows neither its extensions nor its classes.
    /// Fails on any error it reports.
    pub fn import(&self, folder: &Path) -> Result<()> {
        self.import_with(folder, |_| Ok(()))
    }

    /// The same; `prepare` changes the engine's command.
    pub fn import_with(&self, folder: &Path, prepare: impl FnOnce(&mut Command) -> Result<()>) -> Result<()> {
        let home = tempfile::Builder::new().prefix("godot-").tempdir()?;
        let mut command = self.command(home.path());
        prepare(&mut command)?;
        command.args(["--headless", "--import", "--path"]).arg(folder);
        let name = format!("import-{}", folder.file_name().unwrap_or_default().to_string_lossy());
        let mut import = process::Running::start(&name, command)?;
        let status = import.wait(std::time::Duration::from_mins(5))?;
        let complaint = import.lines().into_iter().find(|line| is_complaint(line));
        if !status.success() || complaint.is_some() {
            bail!(
                "importing {} failed ({status}){}\n{}",
                folder.display(),
                because(complaint),
                import.tail()
            );
        }
        Ok(())
    }
}

fn because(complaint: Option<String>) -> String {
    complaint.map(|line| format!(": {line}")).unwrap_or_default()
}

/// Whether the engine reports an error or a leak in `line`.
pub fn is_complaint(line: &str) -> bool {
    const MARKS: [&str; 7] = [
        "ERROR:",
        "SCRIPT ERROR",
        "USER ERROR",
        "handle_crash:",
        "ObjectDB instances leaked",
        "resources still in use at exit",
        "RID allocations of type",
    ];
    MARKS.iter().any(|mark| line.contains(mark))
}

/// The engine, fetched if the machine has none.
pub fn provide() -> Result<Engine> {
    if let Some(engine) = present()? {
        return Ok(engine);
    }
    let wanted =
        Wanted { name: "godot", suite: Some(SUITE), packages: &PACKAGES, installed: Installed::Nothing };
    let root = packages::provide(&wanted, |fresh, root| {
        println!("  pointing the engine at its libraries");
        relocate(fresh, root, &PROGRAMS)
    })
    .with_context(|| format!("no Godot on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    let binary = packages::program(&root, PROGRAMS[0])?;
    let version = check(&binary)?;
    let templates = Templates {
        debug: packages::program(&root, PROGRAMS[1])?,
        release: packages::program(&root, PROGRAMS[2])?,
    };
    let dri = Some(packages::library_folder(&root)?.join("dri"));
    Ok(Engine { binary, version, templates: Some(templates), dri })
}

/// The machine's own engine: `GODOT4_BIN`, which must be usable, or one on the PATH that is.
pub fn present() -> Result<Option<Engine>> {
    let own = |binary, version| Engine { binary, version, templates: None, dri: None };
    if let Some(binary) = env::var_os("GODOT4_BIN").map(PathBuf::from) {
        let version = check(&binary).with_context(|| format!("GODOT4_BIN is {}", binary.display()))?;
        return Ok(Some(own(binary, version)));
    }
    if workspace::only_private() {
        return Ok(None);
    }
    for name in ["godot4", "godot"] {
        if let Some(binary) = workspace::on_path(&[name]) {
            match check(&binary) {
                Ok(version) => return Ok(Some(own(binary, version))),
                Err(error) => println!("not using {}: {error:#}", binary.display()),
            }
        }
    }
    Ok(None)
}

/// `cargo xtask godot -- ARGS`: becomes the engine, so that signals, terminal and exit code are its own.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let engine = provide()?;
    if arguments.is_empty() {
        println!("{}\n{}", engine.binary.display(), engine.version);
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = Command::new(&engine.binary);
    command.args(arguments);
    if let Some(dri) = &engine.dri {
        command.env("LIBGL_DRIVERS_PATH", dri);
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        Err(command.exec()).with_context(|| format!("cannot run {}", engine.binary.display()))
    }
    #[cfg(not(unix))]
    {
        let status = command.status()?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The version of `binary`, if it runs and is new enough.
fn check(binary: &Path) -> Result<String> {
    let mut command = Command::new(binary);
    command.args(["--headless", "--version"]);
    let text = process::output(command)?;
    let version = text.lines().last().unwrap_or_default().trim().to_owned();
    match major_minor(&version) {
        Some(found) if found >= OLDEST => Ok(version),
        Some(_) => bail!("it is Godot {version}, needed is {}.{} or later", OLDEST.0, OLDEST.1),
        None => bail!("it says {version:?} for a version"),
    }
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_engines_print() {
        assert_eq!(major_minor("4.6.3.stable.debian4.6.3+ds-2"), Some((4, 6)));
        assert_eq!(major_minor("4.10.stable.official.1234abcd"), Some((4, 10)));
        assert!(major_minor("3.5.2.stable").is_some_and(|version| version < OLDEST));
        assert_eq!(major_minor("command not found"), None);
    }

    #[test]
    fn knows_what_the_engine_says_when_something_is_wrong() {
        assert!(is_complaint("SCRIPT ERROR: Parse Error: x"));
        assert!(is_complaint("ERROR: 3 resources still in use at exit (run with --verbose for details)."));
        assert!(is_complaint("WARNING: ObjectDB instances leaked at exit (run with --verbose for details)."));
        assert!(!is_complaint("WARNING: nothing to worry about"));
        assert!(!is_complaint("Godot Engine v4.6.3.stable"));
    }
}
