//! `cargo xtask build`: the extension library, where the addon's `.gdextension` looks for it.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{process, workspace};

/// Most bytes that a release library may have, stripped, where that is known: on Linux, x86-64.
const MAX_BYTES: u64 = 9_000_000;

/// How the library is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build, with checks.
    Debug,
    /// As players get it.
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// A library put in place.
pub struct Built {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl Built {
    /// Fails if a game grows by more than it was promised.
    pub fn is_small(&self) -> Result<()> {
        let known = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        ensure!(
            !known || self.bytes <= MAX_BYTES,
            "the release library has {} bytes, at most {MAX_BYTES} are promised: see \"Size\" in docs/performance.md",
            self.bytes
        );
        Ok(())
    }
}

/// The library's name as the addon's `.gdextension` has it: platforms with one file per architecture tell them apart.
fn name_in_addon() -> String {
    let architecture = if cfg!(all(target_os = "linux", target_arch = "aarch64")) { ".arm64" } else { "" };
    format!("{DLL_PREFIX}backend_extension{architecture}{DLL_SUFFIX}")
}

/// Builds the library and copies it into the addon.
pub fn build(profile: Profile) -> Result<Built> {
    println!("building the extension library ({})", profile.folder());
    let mut command = workspace::cargo();
    command.args(["build", "--package", "backend-extension"]);
    if profile == Profile::Release {
        // The editor's help texts stay out of what players get.
        command.args(["--release", "--no-default-features"]);
    }
    process::run("building the extension", command)?;
    let name = format!("{DLL_PREFIX}backend_extension{DLL_SUFFIX}");
    let built = workspace::target().join(profile.folder()).join(&name);
    let folder = workspace::root().join("addons/backend_client/bin").join(profile.folder());
    fs::create_dir_all(&folder)?;
    let path = folder.join(name_in_addon());
    // A running Godot has the old file mapped: never write into it, put a new one in its place.
    let fresh = folder.join(format!(".{name}.new"));
    fs::copy(&built, &fresh).with_context(|| format!("no library at {}", built.display()))?;
    fs::rename(&fresh, &path)?;
    Ok(Built { bytes: path.metadata()?.len(), path })
}
