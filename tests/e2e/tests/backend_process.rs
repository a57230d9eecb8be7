//! The backend in somebody's shell: pipes that nobody reads, a terminal that is closed.

use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use test_harness::backend::Backend;
use test_harness::programs;

/// Runs a command whose output nobody reads.
fn unread(arguments: &[&str]) -> Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = Command::new(programs::backend_server()?);
    command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    Ok(command.spawn()?.wait_with_output()?)
}

#[test]
fn commands_whose_output_nobody_reads_end_in_good_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("backend.db").to_string_lossy().into_owned();
    for arguments in [
        &["openapi"][..],
        &["players", "--database", &database],
        &["keys", "list", "--database", &database],
        &["signing-keys", "list", "--database", &database],
        &["admin-keys", "list", "--database", &database],
    ] {
        let output = unread(arguments)?;
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{arguments:?} ended with {}: {complaints}", output.status);
        ensure!(!complaints.contains("panicked"), "{arguments:?}: {complaints}");
    }
    Ok(())
}

#[test]
fn a_key_that_nobody_could_read_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("backend.db").to_string_lossy().into_owned();
    for command in ["keys", "admin-keys"] {
        let output = unread(&[command, "create", "--label", "lost", "--database", &database])?;
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{command} ended with {}: {complaints}", output.status);
        ensure!(complaints.contains("revoke it and create another"), "{command}: {complaints}");
    }
    Ok(())
}

#[test]
fn a_backend_whose_log_nobody_reads_goes_on_serving() -> Result<()> {
    let mut backend = Backend::start_with(&["--log-level", "trace"])?;
    backend.close_output()?;
    let api = backend.api()?;
    for number in 0..20 {
        api.log_in(&format!("Player {number}"))?;
    }
    ensure!(backend.players()?.len() == 20, "{} players", backend.players()?.len());
    backend.stop()
}

#[test]
fn a_closed_terminal_stops_it_in_good_order() -> Result<()> {
    let mut backend = Backend::start()?;
    backend.api()?.log_in("Ada")?;
    backend.stop_by(Signal::HUP)
}
