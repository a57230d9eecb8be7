//! Nobody reads what the server prints any more: its log collector restarts, `tee` or `head` has ended.

use super::*;

#[test]
fn a_closed_output_and_then_sigterm_is_an_orderly_shutdown() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Unread")?.start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().close_output()?;
    // The game and the engine print into nothing for a while.
    server.ask(&json!({ "do": "flush_local" }))?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 0, "exit code {code}");
    all_saved(&backend, 5, true)?;
    ensure!(backend.api()?.rooms()?.is_empty(), "it is still listed");
    Ok(())
}

#[test]
fn a_closed_output_and_a_second_signal_end_it_with_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Unread alone", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().close_output()?;
    server.godot().signal(Signal::TERM)?;
    // The final state is waited for two seconds at most, and handed in at once.
    another_request();
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 143, "exit code {code}");
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 3, true)
}

#[test]
fn programs_that_the_game_starts_have_their_signals_as_usual() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Parent")?.start()?;
    let child = server.ask(&json!({ "do": "signals_of_a_child" }))?;
    let ignored = u64::from_str_radix(child["ignored"].as_str().unwrap_or_default(), 16)?;
    ensure!(ignored & (1 << (Signal::PIPE.as_raw() - 1)) == 0, "SIGPIPE is ignored by a child: {ignored:x}");
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}
