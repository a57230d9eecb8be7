//! Makes programs of a newer suite run on this machine: their own loader and libraries, by absolute path.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Installed, Wanted};
use crate::{process, workspace};

/// Points `programs`, and every library with a run path, at the loader and libraries in `root`.
///
/// `fresh` is where the files are now, `root` where they will be.
pub fn relocate(fresh: &Path, root: &Path, programs: &[impl AsRef<Path>]) -> Result<()> {
    let patchelf = patchelf()?;
    let libraries = packages::library_folder(fresh)?;
    let below = libraries.strip_prefix(fresh)?;
    let loader = loader(&libraries)?;
    let home = root.join(below);
    // PulseAudio keeps a library that Godot needs in a folder of its own.
    let search = format!("{}:{}", home.display(), home.join("pulseaudio").display());
    for program in programs {
        let mut command = Command::new(&patchelf);
        command.arg("--set-interpreter").arg(home.join(&loader));
        command.args(["--force-rpath", "--set-rpath", &search]).arg(fresh.join(program));
        process::output(command)?;
    }
    // A RUNPATH in a library switches its program's RPATH off for everything below that library.
    for library in shared_objects(&libraries)? {
        let mut command = Command::new(&patchelf);
        command.arg("--print-rpath").arg(&library);
        if process::output(command)?.trim().is_empty() {
            continue;
        }
        let mut command = Command::new(&patchelf);
        command.args(["--force-rpath", "--set-rpath", &search]).arg(&library);
        process::output(command)?;
    }
    Ok(())
}

fn patchelf() -> Result<PathBuf> {
    if let Some(path) = workspace::on_path(&["patchelf"]) {
        return Ok(path);
    }
    let wanted =
        Wanted { name: "patchelf", suite: None, packages: &["patchelf"], installed: Installed::Machine };
    let root = packages::provide(&wanted, |_, _| Ok(()))?;
    packages::program(&root, "usr/bin/patchelf")
}

fn loader(libraries: &Path) -> Result<PathBuf> {
    fs::read_dir(libraries)?
        .filter_map(|entry| entry.ok().map(|entry| PathBuf::from(entry.file_name())))
        .find(|name| name.to_string_lossy().starts_with("ld-linux"))
        .with_context(|| format!("no loader in {}", libraries.display()))
}

fn shared_objects(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            // Character set converters: loaded by name, and they need nothing but the C library.
            if entry.file_name() != "gconv" {
                found.extend(shared_objects(&path)?);
            }
        } else if kind.is_file() && entry.file_name().to_string_lossy().contains(".so") && is_elf(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"\x7fELF"
}
