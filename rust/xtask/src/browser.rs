//! Chromium and its driver for the operator's page: the machine's, or the distribution's, unpacked into `target/chromium/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages::{self, Installed, Wanted};
use crate::relocate::relocate;
use crate::workspace;

/// How to get Chromium where we cannot.
pub const HOW_TO_GET: &str =
    "install Chromium and its driver (Debian: apt-get install chromium chromium-driver)";

const PACKAGES: [&str; 3] = ["chromium", "chromium-driver", "fonts-dejavu-core"];

/// Chromium and `chromedriver`.
pub struct Browser {
    pub chromium: PathBuf,
    pub driver: PathBuf,
}

/// The browser on this machine.
pub fn present() -> Option<Browser> {
    if workspace::only_private() {
        return None;
    }
    let chromium = workspace::on_path(&["chromium", "chromium-browser", "google-chrome"])?;
    Some(Browser { chromium, driver: workspace::on_path(&["chromedriver"])? })
}

/// The browser, fetched if the machine has none.
pub fn provide() -> Result<Browser> {
    if let Some(browser) = present() {
        return Ok(browser);
    }
    let wanted = Wanted { name: "chromium", suite: None, packages: &PACKAGES, installed: Installed::Nothing };
    let root = packages::provide(&wanted, prepare)
        .with_context(|| format!("no Chromium on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    let chromium = packages::program(&root, "usr/lib/chromium/chromium")?;
    Ok(Browser { chromium, driver: packages::program(&root, "usr/bin/chromedriver")? })
}

/// Lets the unpacked browser find its libraries in `root`. Its helpers are those that `relocate` is given.
fn prepare(fresh: &Path, root: &Path) -> Result<()> {
    let folder = "usr/lib/chromium";
    let mut programs = vec![PathBuf::from("usr/bin/chromedriver"), PathBuf::from(folder).join("chromium")];
    let helper = PathBuf::from(folder).join("chrome_crashpad_handler");
    if fs::exists(fresh.join(&helper))? {
        programs.push(helper);
    }
    relocate(fresh, root, &programs)
}
