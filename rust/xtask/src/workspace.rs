//! Where things are: the workspace, its build output, and programs on the PATH.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Root of the workspace.
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder).to_owned()
}

/// Crates whose tests start real processes: the stage `end-to-end`.
const WITH_PROCESSES: [&str; 4] = ["test-harness", "e2e", "chaos", "powercut"];
/// Crates without tests, which bring libraries that nothing else needs.
const MEASUREMENTS: [&str; 2] = ["bench", "soak"];

/// Arguments of cargo that choose the crates whose tests start real processes.
pub fn with_processes() -> Vec<&'static str> {
    WITH_PROCESSES.iter().flat_map(|package| ["--package", package]).collect()
}

/// Arguments of cargo that choose the crates whose tests run in their own process.
pub fn without_processes() -> Vec<&'static str> {
    let excluded = WITH_PROCESSES.iter().chain(&MEASUREMENTS).flat_map(|package| ["--exclude", package]);
    ["--workspace"].into_iter().chain(excluded).collect()
}

/// Where cargo builds to.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// Where fetched programs (Godot, PostgreSQL, Xvfb) live: always in the workspace, whatever cargo's target folder is.
pub fn provisions() -> PathBuf {
    root().join("target")
}

/// Folder for the logs of processes started by a command.
pub fn logs() -> PathBuf {
    provisions().join("logs")
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Set for `cargo run`; build scripts of the crates we build must not take them for their own.
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// The Python that runs what is not part of the product (`PYTHON`, or the PATH's).
pub fn python() -> Command {
    Command::new(env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

/// First program called one of `names` on the PATH.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        folders.iter().map(|folder| folder.join(&file)).find(|candidate| is_executable(candidate))
    })
}

/// Whether only fetched programs may be used, not those of the machine (`XTASK_PRIVATE=1`): to try what a bare
/// machine would do.
pub fn only_private() -> bool {
    env::var_os("XTASK_PRIVATE").is_some_and(|value| value == "1")
}

fn is_executable(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    }
    #[cfg(not(unix))]
    {
        path.is_file()
    }
}
