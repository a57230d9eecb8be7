//! The developer's commands, `cargo xtask …`: one file each.

#[macro_use]
mod output;

mod apt_sources;
mod backend;
mod bench;
mod browser;
mod chaos;
mod cjk_font;
mod demo;
mod deploy;
mod differential;
mod display;
mod doctor;
mod engine;
mod export;
mod fetch;
mod fuzz;
mod godot;
mod guards;
mod interrupt;
mod library;
mod lint;
mod module_graph;
mod package;
mod packages;
mod postgres;
mod powercut;
mod process;
mod python;
mod relay_client;
mod relocate;
mod schemathesis;
mod server_query;
mod settings;
mod sim;
mod soak;
mod summary;
mod test;
mod valgrind;
mod workspace;
mod wycheproof;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows the addon", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the extension library into `addons/backend_client/bin/`
    Build {
        /// Optimises and strips it, for release exports
        #[arg(long)]
        release: bool,
    },
    /// Runs the demo: a backend, a dedicated server, two clients, one race, saved progress
    Demo(demo::Options),
    /// Gets what the tests need and runs all of them, with one summary at the end
    Test(test::Options),
    /// Runs trials with real processes and real faults; an independent checker judges each
    Chaos(chaos::Options),
    /// Measures addon and backend, compared with the best that the machine can do and with the engine itself
    Bench(bench::Options),
    /// Cuts the power of a file system while the journal is written (root and loop devices), and checks what survived
    Powercut(powercut::Options),
    /// Saves small documents for a long time, and measures the disk space of the journal
    Soak(soak::Options),
    /// Runs the client's state machines over simulated time, network, disks and processes, one run per seed
    Sim(sim::Options),
    /// Runs the token verifier on the vectors of the Wycheproof project
    Wycheproof(wycheproof::Options),
    /// Compares the token verifier with another library, on changed tokens
    Differential(differential::Options),
    /// Sends requests made from the OpenAPI document to a running backend, and reports undocumented replies
    Schemathesis(schemathesis::Options),
    /// Has clients that are not ours, python-a2s and gamedig, ask a real game server, and measures what unproven addresses get
    ServerQuery,
    /// Has a client that is not ours, aioquic, speak to the relay from what the page of the protocol says
    RelayClient,
    /// Checks the recipes under `deploy/` with hadolint, kubernetes-validate, checkov, systemd-analyze, `docker compose`, moto,
    /// cfn-lint and HashiCorp's parser, and that they agree with the options of the programs and with the API
    DeployCheck,
    /// Runs the fuzz targets: tokens, key sets, replies, handshakes, journal records and files, configuration, rule sets, queries,
    /// frames of the relay
    Fuzz(fuzz::Options),
    /// Exports client and dedicated server of the demo into `target/export/`
    Export,
    /// Builds what a release consists of into `target/package/`: addon and backend as zip files, components, checksums
    Package(package::Options),
    /// Searches exported files and folders for keys and secrets; exits with 1 if there is one
    VerifyExport {
        /// Executables, packs, archives, or the folders they are in
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Runs the Godot that the other commands use: `cargo xtask godot -- ARGS`
    Godot {
        /// Arguments of the engine; none prints the path of its binary
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Formats Rust and GDScript
    Fmt,
    /// Checks terminology, links and tables of the documentation, formatting and lints of Rust and GDScript
    Lint {
        /// Runs only the checks whose names contain one of these words, such as `links`
        checks: Vec<String>,
    },
    /// Writes the tables of settings in the README files and the guide from the code
    Settings,
    /// Draws which module depends on which into `docs/internal/module-graph.md`
    ModuleGraph {
        /// Only checks, as `cargo xtask lint` does: no circle, and a page that is not old
        #[arg(long)]
        check: bool,
    },
    /// Gets Godot, PostgreSQL and Xvfb ahead of time, and tries them
    Fetch,
    /// Lists what is present, what is missing, and how to get it
    Doctor,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    interrupt::watch()?;
    match command {
        Command::Build { release } => {
            let profile = if release { library::Profile::Release } else { library::Profile::Debug };
            let built = library::build(profile)?;
            println!("{} ({:.1} MB)", built.path.display(), built.bytes as f64 / 1e6);
        }
        Command::Demo(options) => demo::run(&options)?,
        Command::Test(options) => return Ok(test::run(&options)),
        Command::Chaos(options) => return chaos::run(&options),
        Command::Bench(options) => return bench::run(&options),
        Command::Powercut(options) => return powercut::run(&options),
        Command::Soak(options) => return soak::run(&options),
        Command::Sim(options) => return sim::run(&options),
        Command::Wycheproof(options) => wycheproof::run(&options)?,
        Command::Differential(options) => differential::run(&options)?,
        Command::Schemathesis(options) => return schemathesis::run(&options),
        Command::ServerQuery => return server_query::run(),
        Command::RelayClient => return relay_client::run(),
        Command::DeployCheck => return deploy::run(),
        Command::Fuzz(options) => fuzz::run(&options)?,
        Command::Export => export::run()?,
        Command::Package(options) => package::run(&options)?,
        Command::VerifyExport { files } => return export::verify(&files),
        Command::Godot { arguments } => return godot::run(&arguments),
        Command::Fetch => fetch::run()?,
        Command::Fmt => lint::format()?,
        Command::Lint { checks } => lint::run(&checks)?,
        Command::Settings => settings::write()?,
        Command::ModuleGraph { check: true } => module_graph::check()?,
        Command::ModuleGraph { check: false } => module_graph::draw()?,
        Command::Doctor => return Ok(doctor::run()),
    }
    Ok(ExitCode::SUCCESS)
}
