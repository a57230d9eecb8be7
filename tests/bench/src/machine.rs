//! Where and with what something was measured.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use test_harness::programs;

/// What figures depend on.
#[derive(Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    system: String,
    engine: String,
    version: &'static str,
    build: &'static str,
}

impl Machine {
    /// This one.
    pub fn this() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let processor = model.and_then(|rest| rest.split_once(": ")).map_or("unknown", |(_, name)| name);
        let engine = Command::new(programs::godot()?).args(["--headless", "--version"]).output()?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            processor: processor.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {} {}", std::env::consts::OS, release.trim(), std::env::consts::ARCH),
            engine: String::from_utf8_lossy(&engine.stdout)
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "optimised" },
        })
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { processor, cores, system, engine, version, build } = self;
        format!("{processor}, {cores} cores, {system}, Godot {engine}, backend_client {version} ({build})")
    }
}
