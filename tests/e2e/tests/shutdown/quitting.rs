//! Ways for a game to end other than a signal, and games that quit in the middle of a shutdown.

use super::*;

#[test]
fn closing_the_window_shuts_down() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Window")?.start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    server.send(&json!({ "do": "close_window" }))?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("reason", "window_closed"), ("saved", "4"), ("unsaved", "0")])?;
    all_saved(&backend, 2, true)
}

#[test]
fn closing_the_window_twice_ends_it_at_once_with_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Closed twice", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "3600")
        .start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    backend.kill()?;
    server.ask(&json!({ "do": "close_window" }))?;
    server.log().wait_for("EVENT progress phase=sending")?;
    another_request();
    server.send(&json!({ "do": "close_window" }))?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[("left_in_journal", "4"), ("unsaved", "0"), ("exit_code", "75")])?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 2, true)
}

#[test]
fn a_game_that_quits_without_a_shutdown_still_sends_what_is_unsent() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Quitting")?.start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.send(&json!({ "do": "quit" }))?;
    server.godot().finish(3)?;
    all_saved(&backend, 5, false)?;
    backend.api()?.wait_for_no_room("Quitting")
}

#[test]
fn a_game_that_quits_with_the_backend_down_has_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Quitting alone", journal.path())?.start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    backend.kill()?;
    server.send(&json!({ "do": "quit" }))?;
    let code = server.godot().wait()?;
    // Not the game's own: that would be 0 for most.
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    ensure!(server.log().contains("left_in_journal=5 unsaved=0"), "{}", server.log().tail());
    backend.resume()?;
    none_saved(&backend)?;
    next_start_delivers(&backend, journal.path(), 5, false)
}

/// Everybody has what was handed over before the signal. The engine may or may not ask for more before it quits.
fn saved_before(backend: &Backend, count: usize) -> Result<()> {
    all_saved(backend, count, true).or_else(|_| all_saved(backend, count, false))
}

#[test]
fn quitting_while_draining_does_not_cut_the_shutdown_off() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Hasty")?.arg("--quit-in=draining").start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("left_in_journal", "0"), ("unsaved", "0"), ("deregistered", "true")])?;
    saved_before(&backend, 5)?;
    backend.api()?.wait_for_no_room("Hasty")
}

#[test]
fn quitting_while_draining_with_the_backend_down_leaves_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Hasty alone", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5")
        .arg("--quit-in=draining")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    let summary = summary(&server)?;
    summary.has_all(&[("saved", "0"), ("unsaved", "0"), ("exit_code", "75")])?;
    let left = &summary.1["left_in_journal"];
    ensure!(left == "3" || left == "6", "{}", summary.0);
    backend.resume()?;
    none_saved(&backend)?;
    next_start_delivers(&backend, journal.path(), 3, left == "6")
}

#[test]
fn freeing_the_node_does_not_cut_the_shutdown_off() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Changing scenes")?.arg("--free-in=draining").start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("left_in_journal", "0"), ("unsaved", "0"), ("deregistered", "true")])?;
    saved_before(&backend, 5)?;
    backend.api()?.wait_for_no_room("Changing scenes")
}
