//! `backend-server room-process`, which `backend-server serve` starts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub struct RoomProcess {
    /// Folder of the server's log and of what is known of its processes
    #[arg(long)]
    folder: PathBuf,
    /// Most bytes that are kept of the log
    #[arg(long)]
    log_bytes: u64,
    /// Program and arguments of the server
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Runs one server until it ends.
#[cfg(target_os = "linux")]
pub fn run(arguments: &RoomProcess) -> anyhow::Result<()> {
    backend_server::run_room_process(&arguments.folder, arguments.log_bytes, &arguments.command)
}

#[cfg(not(target_os = "linux"))]
pub fn run(_arguments: &RoomProcess) -> anyhow::Result<()> {
    anyhow::bail!("servers are started on Linux only")
}
