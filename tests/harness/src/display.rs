//! A screen for windowed runs.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::programs;

/// An X display: a private Xvfb, or the one the developer sits at.
pub struct Display {
    name: String,
    server: Option<Process>,
}

impl Display {
    /// Starts Xvfb (`XVFB_BIN`) on a display number it finds free; without one, takes the `DISPLAY` there is.
    pub fn open() -> Result<Self> {
        let xvfb = match programs::xvfb() {
            Ok(path) => path,
            Err(error) => {
                let name = env::var("DISPLAY").ok().filter(|name| !name.is_empty()).ok_or(error)?;
                return Ok(Self { name, server: None });
            }
        };
        let mut command = Command::new(xvfb);
        command.args(["-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"]);
        let server = Process::start("Xvfb", command)?;
        let number =
            server.log().wait_until(0, "Xvfb's display number", |line| line.parse::<u32>().is_ok())?;
        Ok(Self { name: format!(":{number}"), server: Some(server) })
    }

    /// Its name, such as `:99`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fails unless Mesa's drivers are where the engine will look (`LIBGL_DRIVERS_PATH`), which a machine with its own
    /// display does not need.
    pub fn check_drivers(&self) -> Result<()> {
        if self.server.is_some() {
            env::var_os("LIBGL_DRIVERS_PATH")
                .context("LIBGL_DRIVERS_PATH is not set: run `cargo xtask test`, which provides it")?;
        }
        Ok(())
    }
}
