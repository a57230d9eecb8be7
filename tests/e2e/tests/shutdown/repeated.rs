//! Signals that come in twos and threes, and one that is not meant for us.

use super::*;

#[test]
fn signals_that_come_together_are_one_request() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Twice")?.start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    // As GNU timeout, process groups, a closing terminal and supervisors with SendSIGHUP do.
    for signal in [Signal::TERM, Signal::TERM, Signal::HUP, Signal::INT, Signal::CONT] {
        server.godot().signal(signal)?;
    }
    server.godot().finish(0)?;
    let summary = summary(&server)?;
    ensure!(summary.0.contains(COMPLETE), "{}", summary.0);
    summary.has_all(&[("saved", "10"), ("not_collected", "0"), ("unsaved", "0")])?;
    all_saved(&backend, 5, true)
}

#[test]
fn the_first_signal_after_a_request_of_the_game_is_no_second_one() -> Result<()> {
    let mut backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Drained")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "8").start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    backend.kill()?;
    server.send(&json!({ "do": "request_shutdown", "reason": "drained" }))?;
    server.log().wait_for("EVENT progress phase=sending")?;
    another_request();
    server.godot().signal(Signal::TERM)?;
    backend.resume()?;
    let code = server.godot().wait()?;
    ensure!(code == 0, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[("reason", "drained"), ("saved", "4"), ("unsaved", "0")])?;
    all_saved(&backend, 2, true)
}

#[test]
fn what_a_forced_exit_did_not_collect_is_not_called_nothing() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Forced", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600")
        .arg("--hang-in=collect_saves")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    server.log().wait_for("EVENT hanging")?;
    // The final state is waited for two seconds.
    another_request();
    another_request();
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 143, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[
        ("players", "3"),
        ("not_collected", "3"),
        ("left_in_journal", "3"),
        ("unsaved", "unknown"),
        ("exit_code", "143"),
    ])?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 3, false)
}

#[test]
fn nohup_is_respected() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Detached")?.with_nohup().start()?;
    with_dirty_players(&mut server, &backend, 1)?;
    server.godot().signal(Signal::HUP)?;
    // Signals are handled in order: had it been taken for a request, this would say SIGHUP.
    server.ask(&json!({ "do": "flush_local" }))?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish_despite(0, &["nohup: "])?;
    summary(&server)?.has("reason", "SIGTERM")?;
    all_saved(&backend, 1, true)
}
