//! Xvfb for windowed runs without a screen: the machine's, or the distribution's, unpacked into `target/xvfb/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::packages::{self, Installed, Wanted};
use crate::process::Running;
use crate::relocate::relocate;
use crate::workspace;

/// How to get Xvfb where we cannot.
pub const HOW_TO_GET: &str = "install Xvfb (Debian: apt-get install xvfb)";

const PACKAGES: [&str; 4] = ["xvfb", "x11-xkb-utils", "xkb-data", "libgl1-mesa-dri"];
/// Where the X server was built to find its keyboard compiler: a C string of its own in the binary.
const BUILT_IN: &[u8] = b"\0/usr/bin\0";
/// A folder of the same length, found from the working folder the wrapper sets.
const RELATIVE: &[u8] = b"\0./xkbbin\0";

/// A private X display.
pub struct Display {
    _server: Running,
    name: String,
}

impl Display {
    /// Starts Xvfb on a display number it finds free.
    pub fn open() -> Result<Self> {
        let mut command = Command::new(provide()?);
        command.args(["-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"]);
        let mut server = Running::start("xvfb", command)?;
        let number = server.wait_for_line(Duration::from_secs(30), |line| line.parse::<u32>().is_ok())?;
        Ok(Self { _server: server, name: format!(":{number}") })
    }

    /// Its name, such as `:99`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The X server on this machine.
pub fn present() -> Option<PathBuf> {
    workspace::on_path(&["Xvfb"]).filter(|_| !workspace::only_private())
}

/// The X server, fetched if the machine has none.
pub fn provide() -> Result<PathBuf> {
    if let Some(path) = present() {
        return Ok(path);
    }
    let wanted = Wanted { name: "xvfb", suite: None, packages: &PACKAGES, installed: Installed::Nothing };
    let root = packages::provide(&wanted, prepare)
        .with_context(|| format!("no Xvfb on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    packages::program(&root, "Xvfb")
}

/// Lets the unpacked server find its libraries, keyboard compiler, keyboard data and drivers in `root`.
fn prepare(fresh: &Path, root: &Path) -> Result<()> {
    relocate(fresh, root, &["usr/bin/Xvfb", "usr/bin/xkbcomp"])?;
    let server = fresh.join("usr/bin/Xvfb");
    let mut binary = fs::read(&server)?;
    ensure!(replace(&mut binary, BUILT_IN, RELATIVE) > 0, "Xvfb does not say where it looks for xkbcomp");
    fs::write(&server, binary)?;
    fs::create_dir(fresh.join("xkbbin"))?;
    link(Path::new("../usr/bin/xkbcomp"), &fresh.join("xkbbin/xkbcomp"))?;
    let libraries = packages::library_folder(fresh)?;
    let script = format!(
        "#!/bin/sh\n\
         # The drivers of another Mesa, meant for the client, would not load here.\n\
         cd '{root}' || exit 1\n\
         LIBGL_DRIVERS_PATH='{dri}' exec ./usr/bin/Xvfb -xkbdir '{root}/usr/share/X11/xkb' \"$@\"\n",
        root = root.display(),
        dri = root.join(libraries.strip_prefix(fresh)?).join("dri").display(),
    );
    let wrapper = fresh.join("Xvfb");
    fs::write(&wrapper, script)?;
    executable(&wrapper)
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    assert_eq!(from.len(), to.len(), "a binary is patched in place");
    let mut count = 0;
    let mut at = 0;
    while let Some(offset) = bytes[at..].windows(from.len()).position(|window| window == from) {
        at += offset;
        bytes[at..at + to.len()].copy_from_slice(to);
        count += 1;
    }
    count
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> Result<()> {
    Ok(std::os::unix::fs::symlink(target, at)?)
}

#[cfg(unix)]
fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn link(_target: &Path, _at: &Path) -> Result<()> {
    anyhow::bail!("there is no Xvfb on this platform")
}

#[cfg(not(unix))]
fn executable(_path: &Path) -> Result<()> {
    anyhow::bail!("there is no Xvfb on this platform")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_every_whole_string_and_nothing_else() {
        let mut bytes = b"a\0/usr/bin\0b\0/usr/bin/env\0/usr/bin\0".to_vec();
        assert_eq!(replace(&mut bytes, BUILT_IN, RELATIVE), 2);
        assert_eq!(bytes, b"a\0./xkbbin\0b\0/usr/bin/env\0./xkbbin\0");
    }
}
