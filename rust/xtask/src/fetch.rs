//! `cargo xtask fetch`: gets everything that `demo` and `test` would get, and tries it.

use std::process::Command;

use anyhow::Result;

use crate::display::Display;
use crate::postgres::{self, Postgres};
use crate::{browser, cjk_font, display, godot, process, valgrind};

/// Provides Godot, PostgreSQL, Xvfb, Chromium and Valgrind, and starts each once. A font for the pictures comes along.
pub fn run() -> Result<()> {
    let engine = godot::provide()?;
    println!("Godot       {} {}", engine.binary.display(), engine.version);
    let programs = postgres::provide()?;
    let postgres = Postgres::start(&programs)?;
    println!("PostgreSQL  {} answered at {}", programs.folder().display(), postgres.url());
    let xvfb = display::provide()?;
    let display = Display::open()?;
    println!("Xvfb        {} opened display {}", xvfb.display(), display.name());
    let browser = browser::provide()?;
    let mut command = Command::new(&browser.driver);
    command.arg("--version");
    println!("Chromium    {} driven by {}", browser.chromium.display(), process::output(command)?.trim());
    println!("CJK font    {}", cjk_font::provide()?.display());
    let valgrind = valgrind::provide()?;
    println!("Valgrind    {}", valgrind.version()?);
    Ok(())
}
