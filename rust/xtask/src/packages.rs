//! Distribution packages unpacked into a private folder: own apt state, nothing installed on the system.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::apt_sources::Machine;
use crate::process::{self, Running};
use crate::workspace;

/// A mirror that answers nothing for this long is given up.
const TIMEOUT: Duration = Duration::from_mins(20);

/// Which packages apt should believe to be installed already.
#[derive(Clone, Copy)]
pub enum Installed {
    /// None: everything down to the C library comes along, so that a newer suite runs on this machine.
    Nothing,
    /// What the machine has: only what is missing comes along, and it runs on the machine's C library.
    Machine,
}

/// A set of packages to unpack.
pub struct Wanted<'a> {
    /// Folder under `target/`, and the name in messages.
    pub name: &'a str,
    /// The suite; `None` is the machine's own.
    pub suite: Option<&'a str>,
    /// Packages; their dependencies come along.
    pub packages: &'a [&'a str],
    /// What they may rely on.
    pub installed: Installed,
}

/// Makes sure the packages are unpacked and returns the root they are unpacked into.
///
/// `finish` is called once, with the folder being prepared and the folder it will be moved to. A run that was cut
/// off leaves nothing that a later one would take for complete; two runs at once wait for each other.
pub fn provide(wanted: &Wanted<'_>, finish: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let folder = workspace::provisions().join(wanted.name);
    let root = folder.join("root");
    let stamp = folder.join("complete");
    // The unpacked programs hold absolute paths: a moved workspace unpacks again.
    let stamped = format!("1\n{}\n{:?}\n{}\n", root.display(), wanted.suite, wanted.packages.join(" "));
    let is_complete = || fs::read_to_string(&stamp).is_ok_and(|text| text == stamped);
    if is_complete() {
        return Ok(root);
    }
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        println!("waiting for another run that fetches {}", wanted.name);
        lock.lock()?;
    }
    if is_complete() {
        return Ok(root);
    }
    let fresh = folder.join("unpacking");
    for leftover in [&fresh, &root] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    println!("fetching {} from the distribution into {}", wanted.name, folder.display());
    let apt = PrivateApt::open(&folder.join("apt"), wanted)?;
    let archives = apt.download(wanted.packages)?;
    println!("  unpacking {} packages", archives.len());
    unpack(&archives, &fresh)?;
    finish(&fresh, &root)?;
    fs::rename(&fresh, &root)?;
    fs::remove_dir_all(folder.join("apt"))?;
    fs::write(&stamp, stamped)?;
    Ok(root)
}

/// The file `path` below `root`; fails when the packages did not bring it.
pub fn program(root: &Path, path: &str) -> Result<PathBuf> {
    let program = root.join(path);
    ensure!(program.is_file(), "the packages hold no {path}");
    Ok(program)
}

/// The library folder of the machine's architecture below `root`, such as `usr/lib/x86_64-linux-gnu`.
pub fn library_folder(root: &Path) -> Result<PathBuf> {
    let entries =
        fs::read_dir(root.join("usr/lib")).with_context(|| format!("no usr/lib in {}", root.display()))?;
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu")))
        .with_context(|| format!("no library folder in {}", root.display()))
}

struct PrivateApt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl PrivateApt {
    fn open(folder: &Path, wanted: &Wanted<'_>) -> Result<Self> {
        for tool in ["apt-get", "apt-config", "dpkg-deb"] {
            ensure!(
                workspace::on_path(&[tool]).is_some(),
                "{tool} is not on the PATH: not a Debian-family machine"
            );
        }
        let machine = Machine::read()?;
        let sources = match wanted.suite {
            Some(suite) => vec![machine.mirror()?.with_suite(suite)],
            None => machine.sources.clone(),
        };
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        for part in ["etc/empty", "state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let stanzas: Vec<String> = sources.iter().map(crate::apt_sources::Source::stanza).collect();
        fs::write(folder.join("etc/mirror.sources"), stanzas.join("\n"))?;
        fs::write(folder.join("state/status"), "")?;
        let status = match wanted.installed {
            Installed::Nothing => folder.join("state/status"),
            Installed::Machine => PathBuf::from("/var/lib/dpkg/status"),
        };
        // How to reach the mirror (proxies, retries, clock checks) comes from the machine; its hooks, which would
        // touch the system, do not.
        let mut dump = Command::new("apt-config");
        dump.arg("dump");
        let dump = process::output(dump)?;
        let reach = |line: &&str| line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets");
        let acquire = dump.lines().filter(reach).collect::<Vec<_>>().join("\n");
        let at = |part: &str| folder.join(part).display().to_string();
        let text = format!(
            "{acquire}\n\
             Dir::Etc::parts \"{empty}\";\nDir::Etc::main \"{none}\";\n\
             Dir::Etc::sourcelist \"{sources}\";\nDir::Etc::sourceparts \"{empty}\";\n\
             Dir::Etc::preferences \"{none}\";\nDir::Etc::preferencesparts \"{empty}\";\n\
             Dir::State \"{state}\";\nDir::State::status \"{status}\";\nDir::Cache \"{cache}\";\n\
             Acquire::Languages \"none\";\nAPT::Install-Recommends \"false\";\nAPT::Sandbox::User \"\";\n\
             Acquire::Retries \"3\";\nDebug::NoLocking \"true\";\n",
            empty = at("etc/empty"),
            none = at("etc/none"),
            sources = at("etc/mirror.sources"),
            state = at("state"),
            status = status.display(),
            cache = at("cache"),
        );
        let configuration = folder.join("etc/apt.conf");
        fs::write(&configuration, text)?;
        Ok(Self { folder: folder.to_owned(), configuration })
    }

    fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        println!("  reading the package lists");
        self.run("apt-update", &["update"])?;
        println!("  downloading {}", packages.join(" "));
        // What the machine has may still be wanted here: `XTASK_PRIVATE` tries what a bare machine would do.
        let mut arguments = vec!["install", "--yes", "--download-only", "--reinstall"];
        arguments.extend(packages);
        self.run("apt-download", &arguments)?;
        let mut archives: Vec<PathBuf> = fs::read_dir(self.folder.join("cache/archives"))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        archives.sort();
        ensure!(!archives.is_empty(), "apt downloaded nothing");
        Ok(archives)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        let mut apt = Running::start_echoing(name, command, |line| line.starts_with("Need to get"))?;
        let status = apt.wait(TIMEOUT)?;
        // `update` succeeds although it could not reach the mirror.
        let failed = apt.lines().iter().any(|line| line.starts_with("W: Failed to fetch"));
        if !status.success() || failed {
            bail!("apt-get {} failed ({status})\n{}", arguments.join(" "), apt.tail());
        }
        Ok(())
    }
}

fn unpack(archives: &[PathBuf], into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    for archive in archives {
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(archive).arg(into);
        process::output(command)?;
        // Packages take a few hundred MB: not twice at once.
        fs::remove_file(archive)?;
    }
    merge_usr(into)
}

/// Moves `lib`, `bin` and `sbin` below `usr`, where older suites do not put them in the packages themselves.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["lib", "bin", "sbin"] {
        let separate = root.join(name);
        if separate.is_dir() {
            let merged = root.join("usr").join(name);
            fs::create_dir_all(&merged)?;
            let mut command = Command::new("cp");
            command.args(["--archive", "--no-target-directory"]).arg(&separate).arg(&merged);
            process::output(command)?;
            fs::remove_dir_all(&separate)?;
        }
    }
    Ok(())
}
