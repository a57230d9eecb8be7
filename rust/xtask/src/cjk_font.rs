//! A font with Japanese and Chinese characters, for pictures of scenes in these languages: the machine's, or the distribution's,
//! unpacked into `target/cjk-font/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages::{self, Installed, Wanted};
use crate::workspace;

/// How to get the font where we cannot.
pub const HOW_TO_GET: &str =
    "install the font Droid Sans Fallback (Debian: apt-get install fonts-droid-fallback)";

/// The smallest package with the characters of both.
const PACKAGE: &str = "fonts-droid-fallback";
const FILE: &str = "usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf";

/// The font on this machine.
pub fn present() -> Option<PathBuf> {
    Some(Path::new("/").join(FILE)).filter(|path| path.is_file() && !workspace::only_private())
}

/// The font, fetched if the machine has none.
pub fn provide() -> Result<PathBuf> {
    if let Some(path) = present() {
        return Ok(path);
    }
    let wanted =
        Wanted { name: "cjk-font", suite: None, packages: &[PACKAGE], installed: Installed::Nothing };
    let root = packages::provide(&wanted, |_, _| Ok(()))
        .with_context(|| format!("no CJK font on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    packages::program(&root, FILE)
}
