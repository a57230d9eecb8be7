//! The programs under test and around it, found where `cargo xtask test` says they are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The Godot editor binary (`GODOT4_BIN`).
pub fn godot() -> Result<PathBuf> {
    provided("GODOT4_BIN", "Godot 4.5 or later")
}

/// The built backend (`BACKEND_SERVER_BIN`).
pub fn backend_server() -> Result<PathBuf> {
    provided("BACKEND_SERVER_BIN", "the built backend-server")
}

/// The developer's commands (`XTASK_BIN`).
pub fn xtask() -> Result<PathBuf> {
    provided("XTASK_BIN", "cargo xtask itself")
}

/// The X server for windowed runs (`XVFB_BIN`).
pub fn xvfb() -> Result<PathBuf> {
    provided("XVFB_BIN", "Xvfb, or a DISPLAY")
}

/// A font with Japanese and Chinese characters (`CJK_FONT`).
pub fn cjk_font() -> Result<PathBuf> {
    provided("CJK_FONT", "such a font")
}

/// Chromium (`CHROMIUM_BIN`).
pub fn chromium() -> Result<PathBuf> {
    provided("CHROMIUM_BIN", "Chromium")
}

/// What drives Chromium (`CHROMEDRIVER_BIN`).
pub fn chromedriver() -> Result<PathBuf> {
    provided("CHROMEDRIVER_BIN", "chromedriver")
}

/// The Python that runs what is not part of the product.
pub fn python() -> PathBuf {
    env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from)
}

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn provided(variable: &str, what: &str) -> Result<PathBuf> {
    let path = env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run `cargo xtask test`, which provides {what}"))?;
    ensure!(path.is_file(), "{variable} names {}, which is no file: run `cargo xtask test`", path.display());
    Ok(path)
}
