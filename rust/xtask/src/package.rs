//! `cargo xtask package`: what a release consists of, in `target/package/`: the addon, a starter project and the backend as zip
//! files, a list of their components, and checksums.

mod archive;
mod build;
mod notices;
mod round;
mod starter;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;

use self::archive::Archive;
use self::build::{Kind, Profile};
use crate::{process, workspace};

/// Options of `cargo xtask package`.
#[derive(Args)]
pub struct Options {
    /// Platforms; none: this machine's
    #[arg(long = "target", value_enum)]
    targets: Vec<Platform>,
    /// Leaves link-time optimisation out: quicker to build, to try the packages
    #[arg(long)]
    quick: bool,
    /// Plays one round with the packages of this machine's platform, in an empty project, without Rust on the PATH
    #[arg(long)]
    check: bool,
}

/// A platform that packages are made for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// Linux on x86-64, with glibc 2.28 or newer
    #[value(name = "linux-x86_64")]
    LinuxX86_64,
    /// Linux on 64-bit ARM, with glibc 2.28 or newer
    #[value(name = "linux-arm64")]
    LinuxArm64,
    /// Windows on x86-64
    #[value(name = "windows-x86_64")]
    WindowsX86_64,
}

impl Platform {
    fn own() -> Result<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Ok(Self::LinuxX86_64),
            ("linux", "aarch64") => Ok(Self::LinuxArm64),
            (system, processor) => {
                bail!("packages are built on Linux, by cross-compiling: this is {system} on {processor}")
            }
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::LinuxX86_64 => "linux-x86_64",
            Self::LinuxArm64 => "linux-arm64",
            Self::WindowsX86_64 => "windows-x86_64",
        }
    }

    /// Where `backend_program.gd` looks for it.
    fn server_in_addon(self) -> String {
        let suffix = if self == Self::WindowsX86_64 { ".exe" } else { "" };
        format!("backend-server.{}{suffix}", self.name())
    }
}

/// Builds the packages.
pub fn run(options: &Options) -> Result<()> {
    let own = Platform::own()?;
    let targets = if options.targets.is_empty() { vec![own] } else { options.targets.clone() };
    ensure!(
        !options.check || targets.contains(&own),
        "--check plays a round with the packages of this machine, which needs --target {}",
        own.name()
    );
    let folder = workspace::provisions().join("package");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let version = env!("CARGO_PKG_VERSION");
    let texts = tempfile::tempdir()?;
    let addon_notices = notices::write("extension", texts.path())?;
    let server_notices = notices::write("server", texts.path())?;
    let licence = workspace::root().join("LICENSE");

    let mut addon = Archive::create(&folder.join(format!("backend_client-{version}.zip")))?;
    add_addon(&mut addon)?;
    for (name, file) in [("LICENSE", &licence), ("THIRD_PARTY_NOTICES.txt", &addon_notices)] {
        addon.add(&format!("addons/backend_client/{name}"), file, false)?;
    }
    let mut packages = Vec::new();
    for target in &targets {
        for profile in [Profile::Debug, Profile::Release { quick: options.quick }] {
            let library = build::build(*target, Kind::Library, profile)?;
            addon.add(&format!("addons/backend_client/bin/{}", library.name), &library.path, false)?;
        }
        let server = build::build(*target, Kind::Server, Profile::Release { quick: options.quick })?;
        let name = format!("backend-server-{version}-{}.zip", target.name());
        let mut package = Archive::create(&folder.join(name))?;
        package.add(&server.name, &server.path, true)?;
        package.add("LICENSE", &licence, false)?;
        package.add("THIRD_PARTY_NOTICES.txt", &server_notices, false)?;
        packages.push(package.finish()?);
        // The editor's panel starts that of its platform.
        addon.add(&format!("addons/backend_client/bin/{}", target.server_in_addon()), &server.path, true)?;
    }
    let starter = starter::write(&folder.join(format!("backend_client-starter-{version}.zip")))?;
    packages.splice(0..0, [addon.finish()?, starter]);
    for component in ["backend-extension", "backend-server"] {
        packages.push(components(component, &folder)?);
    }
    write_checksums(&packages, &folder)?;
    for package in &packages {
        println!("{} ({:.1} MB)", package.display(), package.metadata()?.len() as f64 / 1e6);
    }
    if options.check {
        round::play(
            &packages[0],
            &packages[1],
            &folder.join(format!("backend-server-{version}-{}.zip", own.name())),
        )?;
    }
    Ok(())
}

/// The addon's own files: those that git knows.
fn add_addon(archive: &mut Archive) -> Result<()> {
    let mut command = Command::new("git");
    command.current_dir(workspace::root()).args(["ls-files", "-z", "addons/backend_client"]);
    let listed = process::output(command).context("git does not list the files of the addon")?;
    let mut files: Vec<&str> = listed.split('\0').filter(|file| !file.is_empty()).collect();
    files.sort_unstable();
    ensure!(!files.is_empty(), "git knows no files in addons/backend_client");
    for file in files {
        archive.add(file, &workspace::root().join(file), false)?;
    }
    Ok(())
}

/// Writes the components of a package as CycloneDX, and returns the file.
fn components(package: &str, folder: &Path) -> Result<PathBuf> {
    let program = build::installed("cargo-cyclonedx", notices::CYCLONEDX, "")?;
    let mut metadata = workspace::cargo();
    metadata.args(["metadata", "--format-version=1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&process::output(metadata)?)?;
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|found| found["name"] == package))
        .and_then(|found| found["manifest_path"].as_str())
        .with_context(|| format!("cargo metadata names no package {package}"))?;
    let manifest = PathBuf::from(manifest);
    let name = format!("{package}-components");
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args([
        "cyclonedx",
        "--format",
        "json",
        "--quiet",
        "--manifest-path",
    ]);
    command.arg(&manifest).args(["--override-filename", &name]);
    process::run("listing components", command)?;
    let file = format!("{name}.json");
    // It writes beside the manifest of each crate that it looked at.
    let from = manifest.with_file_name(&file);
    let to = folder.join(format!("{package}-{}.cdx.json", env!("CARGO_PKG_VERSION")));
    fs::copy(&from, &to).with_context(|| format!("no {}", from.display()))?;
    let crates = metadata["packages"].as_array().into_iter().flatten();
    for manifest in crates.filter_map(|found| found["manifest_path"].as_str()) {
        let written = Path::new(manifest).with_file_name(&file);
        if written.exists() {
            fs::remove_file(written)?;
        }
    }
    Ok(to)
}

/// In the form that `sha256sum --check` reads.
fn write_checksums(packages: &[PathBuf], folder: &Path) -> Result<()> {
    let mut command = Command::new("sha256sum");
    command.current_dir(folder).args(packages.iter().filter_map(|package| package.file_name()));
    Ok(fs::write(folder.join("SHA256SUMS"), process::output(command)?)?)
}
