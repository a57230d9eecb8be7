//! A game that hangs, in general or in a handler of the shutdown's signals.

use super::*;

#[test]
fn a_blocked_main_thread_does_not_stop_the_saves() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Blocked")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "6").start()?;
    with_dirty_players(&mut server, &backend, 10)?;
    hang(&mut server, Path::new("/nowhere/never"))?;
    server.godot().signal(Signal::TERM)?;
    // The main thread never wakes up; that the process ends at all is not its doing.
    let code = server.godot().wait()?;
    ensure!(!server.log().contains("EVENT unhung"), "{}", server.log().tail());
    // What the game would have handed in is not known.
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[
        ("saved_locally", "10"),
        ("saved", "10"),
        ("not_collected", "10"),
        ("left_in_journal", "0"),
        ("unsaved", "unknown"),
    ])?;
    all_saved(&backend, 10, false)?;
    backend.api()?.wait_for_no_room("Blocked")
}

#[test]
fn a_blocked_main_thread_and_no_backend_leave_everything_in_the_journal() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Blocked alone", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "6")
        .start()?;
    with_dirty_players(&mut server, &backend, 10)?;
    hang(&mut server, Path::new("/nowhere/never"))?;
    backend.kill()?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[("left_in_journal", "10"), ("unsaved", "unknown"), ("exit_code", "75")])?;
    backend.resume()?;
    none_saved(&backend)?;
    next_start_delivers(&backend, journal.path(), 10, false)
}

/// A server whose handler of `signal` never returns, and which ends with `wanted`.
fn hanging_in(signal: &str, backend: &Backend, wanted: i32) -> Result<Fixture> {
    let launch = quiet_server(backend, "Hanging")?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "6");
    let mut server = launch.arg(&format!("--hang-in={signal}")).start()?;
    with_dirty_players(&mut server, backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == wanted, "exit code {code}\n{}", server.log().tail());
    ensure!(server.log().contains("EVENT hanging"), "{}", server.log().tail());
    Ok(server)
}

#[test]
fn a_handler_of_draining_that_never_returns_does_not_stop_the_saves() -> Result<()> {
    let backend = Backend::start()?;
    let server = hanging_in("draining", &backend, 75)?;
    summary(&server)?.has_all(&[("saved", "5"), ("unsaved", "unknown"), ("deregistered", "true")])?;
    all_saved(&backend, 5, false)
}

#[test]
fn a_handler_of_collect_saves_that_never_returns_does_not_stop_the_saves() -> Result<()> {
    let backend = Backend::start()?;
    let server = hanging_in("collect_saves", &backend, 75)?;
    summary(&server)?.has_all(&[("saved", "5"), ("unsaved", "unknown"), ("deregistered", "true")])?;
    all_saved(&backend, 5, false)
}

#[test]
fn a_handler_of_completed_that_never_returns_does_not_stop_the_end() -> Result<()> {
    let backend = Backend::start()?;
    let server = hanging_in("completed", &backend, 0)?;
    summary(&server)?.has_all(&[("saved", "10"), ("unsaved", "0"), ("deregistered", "true")])?;
    all_saved(&backend, 5, true)
}

#[test]
fn a_handler_that_awaits_for_ever_is_not_waited_for() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Awaiting")?.arg("--await-in=collect_saves").start()?;
    with_dirty_players(&mut server, &backend, 5)?;
    server.godot().signal(Signal::TERM)?;
    // The engine counts the coroutine that nobody ends as a leak.
    server.godot().finish_despite(0, &["ObjectDB instances leaked at exit"])?;
    summary(&server)?.has_all(&[("saved", "5"), ("unsaved", "0"), ("deregistered", "true")])?;
    all_saved(&backend, 5, false)
}
