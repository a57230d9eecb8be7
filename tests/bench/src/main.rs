//! `bench`: this project against the limit of the machine and against the engine's own ways, in rounds that take turns:
//! what else runs on the machine disturbs all contestants alike, so that ratios hold where absolute figures do not.

mod backend;
mod bare_server;
mod calls;
mod cpu_affinity;
mod engine;
mod fleet;
mod flush;
mod growth;
mod heartbeat;
mod idle;
mod live_rooms;
mod load;
mod login;
mod machine;
mod matchmaking;
mod memory;
mod mixed;
mod plot;
mod reqwest_baseline;
mod results;
mod rooms;
mod saves;
mod size;
mod startup;
mod tokens;
mod validation;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

// As the addon and the backend have it: bare contestants are the limit, and shall lack nothing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "bench", about = "Compares this project with the limit and with the engine's own ways")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Calls to the backend: throughput, what they cost the main thread, connections
    Calls(Options),
    /// A token judged on the game server, against the bare check of its signature
    Validation(Options),
    /// How fast saves are safe: acknowledgement, SIGTERM, outage
    Saves(Options),
    /// What a world of 1 GiB takes: time, memory, bytes on the wire
    World(Options),
    /// Everybody logs in at once
    Login(Options),
    /// A heartbeat of a game server
    Heartbeat(Options),
    /// Bare reqwest that logs in, in a process of its own
    RawLogin(login::RawOptions),
    /// Heartbeats, in a process of its own
    Beat(heartbeat::BeatOptions),
    /// A game's start with the addon and without
    Startup(Options),
    /// A game that does nothing, and a server that only waits, with the addon and without
    Idle(Options),
    /// What calls take while their replies are out
    Memory(Options),
    /// The library that players get
    Size(Options),
    /// The backend's routes on SQLite and PostgreSQL against a handler that does nothing
    Backend(Options),
    /// A fleet and its players at their real pace: what the backend takes for it
    Mixed(mixed::MixedOptions),
    /// 100,000 registered servers and their heartbeats
    Fleet(Options),
    /// What a request costs as the tables grow
    Growth(Options),
    /// Passes over pools of up to 100,000 matchmaking tickets
    Matchmaking(Options),
    /// Bare transactions of saves, in a process of its own
    Batches(backend::batches::Options),
    /// Every player's document at once
    Flush(Options),
    /// A long list of rooms in the game
    Rooms(Options),
    /// Followers, pings, a list that changes, and rooms that are created
    LiveRooms(Options),
    /// A server that does nothing but answer, in a process of its own
    Serve,
    /// Bare reqwest, in a process of its own
    Raw(reqwest_baseline::Options),
    /// A game server that is ended, in a process of its own
    GameServer(saves::game_server::Options),
    /// Something done to a whole world, in a process of its own
    WorldStep(world::Options),
    /// Bare reqwest with calls whose replies are held back, in a process of its own
    Held(memory::Held),
    /// Bare reqwest that saves documents, in a process of its own
    RawFlush(flush::RawOptions),
}

/// Options of what is measured.
#[derive(Args)]
pub struct Options {
    /// Rounds; medians are over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Little of everything: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// Where JSON and plots go
    #[arg(long)]
    folder: PathBuf,
    /// The extension library as players get it
    #[arg(long)]
    library: PathBuf,
    /// Where what is not kept goes: the disk that is measured
    #[arg(long)]
    scratch: PathBuf,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Calls(options) => calls::run(&options),
        Command::Validation(options) => validation::run(&options),
        Command::Saves(options) => saves::run(&options),
        Command::World(options) => world::run(&options),
        Command::Login(options) => login::run(&options),
        Command::Heartbeat(options) => heartbeat::run(&options),
        Command::RawLogin(options) => login::run_raw(&options).map(|()| true),
        Command::Beat(options) => heartbeat::beat(&options).map(|()| true),
        Command::Backend(options) => backend::run(&options),
        Command::Mixed(options) => mixed::run(&options),
        Command::Fleet(options) => fleet::run(&options),
        Command::Growth(options) => growth::run(&options),
        Command::Matchmaking(options) => matchmaking::run(&options),
        Command::Batches(options) => backend::batches::run(&options).map(|()| true),
        Command::Flush(options) => flush::run(&options),
        Command::RawFlush(options) => flush::run_raw(&options).map(|()| true),
        Command::Rooms(options) => rooms::run(&options),
        Command::LiveRooms(options) => live_rooms::run(&options),
        Command::Serve => bare_server::run().map(|()| true),
        Command::Raw(options) => reqwest_baseline::run(&options).map(|()| true),
        Command::GameServer(options) => return saves::game_server::main(&options),
        Command::WorldStep(options) => world::step::run(&options).map(|()| true),
        Command::Startup(options) => startup::run(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Memory(options) => memory::run(&options),
        Command::Size(options) => size::run(&options),
        Command::Held(held) => memory::wait(&held).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            test_harness::print_error_line!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}
