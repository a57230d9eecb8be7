//! `backend-server`: the reference backend as one binary.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use backend_server::private_files;

/// The C library's keeps threads waiting for each other when one frees what another has taken, as happens with every answer
/// that a shared statement gives.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything is made.
    private_files::restrict_new_files();
    match cli::usage::parse::<cli::Cli>() {
        Ok(cli) => cli::usage::exit(cli::run(cli.command).await),
        Err(code) => code,
    }
}
