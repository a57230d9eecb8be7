//! `cargo xtask fetch`: gets everything that `demo` and `test` would get, and tries it.

use anyhow::Result;

use crate::display::Display;
use crate::postgres::{self, Postgres};
use crate::{display, godot, valgrind};

/// Provides Godot, PostgreSQL, Xvfb and Valgrind, and starts each once.
pub fn run() -> Result<()> {
    let engine = godot::provide()?;
    println!("Godot       {} {}", engine.binary.display(), engine.version);
    let programs = postgres::provide()?;
    let postgres = Postgres::start(&programs)?;
    println!("PostgreSQL  {} answered at {}", programs.folder().display(), postgres.url());
    let xvfb = display::provide()?;
    let display = Display::open()?;
    println!("Xvfb        {} opened display {}", xvfb.display(), display.name());
    let valgrind = valgrind::provide()?;
    println!("Valgrind    {}", valgrind.version()?);
    Ok(())
}
