//! `powercut-writer`: saves through the product's own code until it is killed, and says what was attempted and what was
//! acknowledged, and when.

mod content;
mod distant_backend;
mod distant_worlds;
mod line;
mod say;
mod through_journal;
mod through_store;
mod through_world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rustix::process::{Signal, set_parent_process_death_signal};

#[derive(Parser)]
struct Options {
    /// What to save through
    #[arg(value_enum)]
    through: Through,
    /// Folder of the journals or worlds
    #[arg(long)]
    folder: PathBuf,
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
enum Through {
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
        match options.through {
            Through::Journal => through_journal::run(options.folder, rng, &options.players).await,
            Through::Store => {
                through_store::run(options.folder, rng, &options.players, options.backend_takes).await
            }
            Through::World => {
                through_world::run(options.folder, rng, &options.players, options.backend_takes).await
            }
        }
    })
}
