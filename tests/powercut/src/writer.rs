//! `powercut-writer`: saves through the product's own code until it is killed, and says what was attempted and what was
//! acknowledged, and when.

mod content;
mod fake_backend;
mod fake_worlds;
mod protocol;
mod report;
mod workload_journal;
mod workload_store;
mod workload_world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rustix::process::{Signal, set_parent_process_death_signal};

#[derive(Parser)]
struct Options {
    /// What to run
    #[arg(value_enum)]
    workload: Workload,
    /// Folder of the journals or worlds
    #[arg(long)]
    folder: PathBuf,
    /// File in which the backend keeps the version of the world
    #[arg(long)]
    world_version: PathBuf,
    /// Decides what is saved
    #[arg(long)]
    seed: u64,
    /// Begins the id of every player and chunk; never used before on this file system
    #[arg(long)]
    players: String,
    /// The backend takes saves instead of being away
    #[arg(long)]
    backend_takes: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Workload {
    /// The journal alone, in batches
    Journal,
    /// The player store, as a game does
    Store,
    /// The world store
    World,
}

fn main() -> Result<()> {
    // Nothing may keep the file system busy once the orchestrator is gone.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let options = Options::parse();
    let rng = Xoshiro256PlusPlus::seed_from_u64(options.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match options.workload {
            Workload::Journal => workload_journal::run(options.folder, rng, &options.players).await,
            Workload::Store => {
                workload_store::run(options.folder, rng, &options.players, options.backend_takes).await
            }
            Workload::World => {
                let (folder, version) = (options.folder, options.world_version);
                workload_world::run(folder, version, rng, &options.players, options.backend_takes).await
            }
        }
    })
}
