//! mdBook, which makes the guide a site: the machine's, or the distribution's, unpacked into `target/mdbook/`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::packages::{self, Installed, Wanted};
use crate::relocate::relocate;
use crate::workspace;

/// How to get mdBook where we cannot.
pub const HOW_TO_GET: &str = "install mdBook (Debian testing: apt-get install mdbook)";

/// First Debian suite with the version that `docs/book.toml` is written for.
const SUITE: &str = "forky";
const PROGRAM: &str = "usr/bin/mdbook";

/// mdBook on this machine.
pub fn present() -> Option<PathBuf> {
    workspace::on_path(&["mdbook"]).filter(|_| !workspace::only_private())
}

/// mdBook, fetched if the machine has none.
pub fn provide() -> Result<PathBuf> {
    if let Some(path) = present() {
        return Ok(path);
    }
    let wanted =
        Wanted { name: "mdbook", suite: Some(SUITE), packages: &["mdbook"], installed: Installed::Nothing };
    let root = packages::provide(&wanted, |fresh, root| relocate(fresh, root, &[PROGRAM]))
        .with_context(|| format!("no mdBook on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    packages::program(&root, PROGRAM)
}
