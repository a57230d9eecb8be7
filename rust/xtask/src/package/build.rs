//! The library and the backend for each platform, cross-compiled with zig as C compiler and linker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Platform;
use crate::{process, python, workspace};

/// Brings zig along.
const ZIGBUILD: &str = "cargo-zigbuild==0.24.0";
/// The C library that the engine itself needs: an addon that needs a newer one excludes players.
const GLIBC: (u32, u32) = (2, 28);

/// What is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The extension library.
    Library,
    /// The backend, which depends on no library of the system.
    Server,
}

/// How it is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// With checks and help texts: what the editor and debug exports load.
    Debug,
    /// As players get it; `quick`: without link-time optimisation.
    Release { quick: bool },
}

/// A file of a package.
pub struct Built {
    pub path: PathBuf,
    /// Its name in the package; of a library, below `bin/`.
    pub name: String,
}

/// Builds one file and checks that it runs on the machines that are promised.
pub fn build(platform: Platform, kind: Kind, profile: Profile) -> Result<Built> {
    let triple = triple(platform, kind);
    add_target(triple)?;
    let programs = python::environment("zigbuild", ZIGBUILD)?;
    let mut command = Command::new(programs.join("cargo-zigbuild"));
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&inherited)))?;
    let target_folder = workspace::target().join("package-build");
    command.current_dir(workspace::root()).env("PATH", path).env("CARGO_TARGET_DIR", &target_folder);
    // Absolute paths of this machine are of no use in a backtrace from another one.
    command.env("CARGO_INCREMENTAL", "0").env("CARGO_ENCODED_RUSTFLAGS", remap());
    // The assembler that this crate needs on Windows is not part of zig; it brings assembled objects.
    command.env("AWS_LC_SYS_PREBUILT_NASM", "1");
    command.args(["zigbuild", "--locked", "--target", &with_minimum_glibc(triple)]);
    let (package, file) = match kind {
        Kind::Library => ("backend-extension", library_name(platform)),
        Kind::Server => ("backend-server", server_name(platform)),
    };
    command.args(["--package", package]);
    let folder = match profile {
        Profile::Debug => {
            // Names of functions stay for backtraces; the rest would be 100 MB.
            command.args([
                "--config",
                "profile.dev.debug=false",
                "--config",
                "profile.dev.strip=\"debuginfo\"",
            ]);
            "debug"
        }
        Profile::Release { quick } => {
            command.arg("--release");
            if kind == Kind::Library {
                command.arg("--no-default-features");
            }
            if quick {
                command.args(["--config", "profile.release.lto=false"]);
                command.args(["--config", "profile.release.codegen-units=16"]);
            }
            "release"
        }
    };
    println!("building {package} for {} ({folder})", platform.name());
    process::run("building a package", command)?;
    let path = target_folder.join(triple).join(folder).join(file);
    let bytes = fs::read(&path).with_context(|| format!("no {}", path.display()))?;
    match kind {
        Kind::Library if platform != Platform::WindowsX86_64 => needs_no_newer_glibc(&bytes, &path)?,
        Kind::Server if platform != Platform::WindowsX86_64 => ensure!(
            !contains(&bytes, b"/ld-musl-") && !contains(&bytes, b"/ld-linux"),
            "{} needs a dynamic linker: it has to be static",
            path.display()
        ),
        _ => {}
    }
    let name = match kind {
        Kind::Library => format!("{folder}/{}", name_in_addon(platform)),
        Kind::Server => file.to_owned(),
    };
    Ok(Built { path, name })
}

/// The program of a crate, installed at its first use into a folder of its own.
pub fn installed(package: &str, version: &str, features: &str) -> Result<PathBuf> {
    let root = workspace::provisions().join(format!("{package}-{version}"));
    let program = root.join("bin").join(package);
    if !program.is_file() {
        println!("installing {package} {version} into {}", root.display());
        let mut command = workspace::cargo();
        command.args(["install", "--quiet", "--locked", package, "--version", version, "--root"]).arg(&root);
        // The program of some is a feature of the library.
        if !features.is_empty() {
            command.args(["--features", features]);
        }
        process::run("installing a program", command)?;
    }
    Ok(program)
}

/// A backend of its own C library runs on any Linux.
const fn triple(platform: Platform, kind: Kind) -> &'static str {
    match (platform, kind) {
        (Platform::LinuxX86_64, Kind::Library) => "x86_64-unknown-linux-gnu",
        (Platform::LinuxX86_64, Kind::Server) => "x86_64-unknown-linux-musl",
        (Platform::LinuxArm64, Kind::Library) => "aarch64-unknown-linux-gnu",
        (Platform::LinuxArm64, Kind::Server) => "aarch64-unknown-linux-musl",
        (Platform::WindowsX86_64, _) => "x86_64-pc-windows-gnu",
    }
}

/// The target, with the oldest C library that it has to run with.
fn with_minimum_glibc(triple: &str) -> String {
    if triple.ends_with("-linux-gnu") {
        format!("{triple}.{}.{}", GLIBC.0, GLIBC.1)
    } else {
        triple.to_owned()
    }
}

const fn library_name(platform: Platform) -> &'static str {
    match platform {
        Platform::WindowsX86_64 => "backend_extension.dll",
        _ => "libbackend_extension.so",
    }
}

/// The library's name in the addon's `.gdextension`.
const fn name_in_addon(platform: Platform) -> &'static str {
    match platform {
        Platform::LinuxArm64 => "libbackend_extension.arm64.so",
        other => library_name(other),
    }
}

const fn server_name(platform: Platform) -> &'static str {
    match platform {
        Platform::WindowsX86_64 => "backend-server.exe",
        _ => "backend-server",
    }
}

/// The standard library of a target, where rustup has it.
fn add_target(triple: &str) -> Result<()> {
    let mut command = Command::new("rustc");
    command.args(["--print", "target-libdir", "--target", triple]);
    if Path::new(process::output(command)?.trim()).is_dir() {
        return Ok(());
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", triple]);
    process::run("adding a target", command).with_context(|| format!("`rustup target add {triple}` failed"))
}

/// Compiler flags, separated by the character that cargo expects: a path may have spaces.
fn remap() -> String {
    let home = std::env::var("CARGO_HOME")
        .ok()
        .or_else(|| std::env::var("HOME").ok().map(|home| format!("{home}/.cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=backend_client", workspace::root().display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={home}/registry/src=crates")));
    flags.join("\u{1f}")
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The versions of symbols that a library needs are named in it.
fn needs_no_newer_glibc(bytes: &[u8], path: &Path) -> Result<()> {
    let newest = glibc_versions(bytes).max().with_context(|| {
        format!("{} names no version of glibc: it is not known where it runs", path.display())
    })?;
    ensure!(
        newest <= GLIBC,
        "{} needs glibc {}.{}, promised is {}.{}",
        path.display(),
        newest.0,
        newest.1,
        GLIBC.0,
        GLIBC.1
    );
    println!("  newest symbol: GLIBC_{}.{}", newest.0, newest.1);
    Ok(())
}

fn glibc_versions(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    const MARK: &[u8] = b"GLIBC_";
    bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).filter_map(|(at, _)| {
        let rest = &bytes[at + MARK.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let (major, minor) = str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_needs_a_newer_glibc_is_refused() {
        let path = Path::new("library");
        assert!(needs_no_newer_glibc(b"\0GLIBC_2.2.5\0GLIBC_2.28\0GLIBC_PRIVATE\0", path).is_ok());
        let error = needs_no_newer_glibc(b"\0GLIBC_2.28\0GLIBC_2.34\0", path).expect_err("too new");
        assert!(error.to_string().contains("needs glibc 2.34"), "{error}");
        assert!(needs_no_newer_glibc(b"nothing", path).is_err());
    }
}
