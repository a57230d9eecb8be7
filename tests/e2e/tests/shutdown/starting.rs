//! A server that is told to go before it has really come.

use super::*;

/// A journal with an unsent document of each of `count` players, and a backend that is down.
pub(super) fn left_behind(backend: &mut Backend, journal: &Path, count: usize) -> Result<()> {
    let mut server = quiet_server_with(backend, "Predecessor", journal)?.start()?;
    with_dirty_players(&mut server, backend, count)?;
    server.ask(&json!({ "do": "flush_local" }))?;
    server.godot().kill()?;
    backend.kill()?;
    Ok(())
}

#[test]
fn a_server_that_never_registered_leaves_in_good_order() -> Result<()> {
    let backend = Backend::start()?;
    let mut server = quiet_server(&backend, "Unlisted")?.start()?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("players", "0"), ("unsaved", "0"), ("deregistered", "true")])
}

#[test]
fn a_server_that_is_still_registering_leaves_within_its_grace() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut server = fixture::server("Registering", &proxy.url(), &backend.server_key_file())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5")
        .start()?;
    proxy.set(Fault::Blackhole);
    server.send(&json!({ "do": "register" }))?;
    proxy.wait_for_requests("/v1/servers", 1)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("players", "0"), ("unsaved", "0"), ("exit_code", "0")])
}

#[test]
fn a_backend_that_never_answers_does_not_hold_it_up() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut server = fixture::server("Unanswered", &proxy.url(), &backend.server_key_file())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5")
        .env("BACKEND_JOURNAL_FOLDER", &journal.path().to_string_lossy())
        .arg("--debounce-seconds=3600")
        .arg("--max-delay-seconds=3600")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    proxy.set(Fault::Blackhole);
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    let summary = summary(&server)?;
    ensure!(summary.0.contains(COMPLETE), "{}", summary.0);
    summary.has_all(&[("left_in_journal", "6"), ("unsaved", "0"), ("deregistered", "false")])
}

/// A server that has begun to make up for [`left_behind`].
fn making_up(backend: &Backend, journal: &Path) -> Result<Fixture> {
    starting(backend, journal, "unsent saves of an earlier run are sent now")
}

/// A server after [`left_behind`] that has come as far as this line of its log.
fn starting(backend: &Backend, journal: &Path, line: &str) -> Result<Fixture> {
    let launch =
        quiet_server_with(backend, "Interrupted", journal)?.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "4");
    let mut server = launch.start()?;
    // Without a backend there is no answer.
    server.send(&json!({ "do": "register" }))?;
    server.send(&json!({ "do": "flush" }))?;
    server.log().wait_for(line)?;
    Ok(server)
}

#[test]
fn what_an_earlier_run_left_stays_in_the_journal_while_the_backend_is_down() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    left_behind(&mut backend, journal.path(), 4)?;
    // Before the first answer of the backend the journal is only counted.
    let mut server = starting(&backend, journal.path(), "registration failed")?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    ensure!(code == 75, "exit code {code}\n{}", server.log().tail());
    summary(&server)?.has_all(&[("left_in_journal", "4"), ("unsaved", "0"), ("exit_code", "75")])?;
    backend.resume()?;
    none_saved(&backend)?;
    next_start_delivers(&backend, journal.path(), 4, false)
}

#[test]
fn a_signal_while_an_earlier_run_is_made_up_for_loses_nothing() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    left_behind(&mut backend, journal.path(), 20)?;
    backend.resume()?;
    let mut server = making_up(&backend, journal.path())?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("left_in_journal", "0"), ("unsaved", "0"), ("exit_code", "0")])?;
    all_saved(&backend, 20, false)
}

#[test]
fn a_server_told_to_go_at_once_leaves_the_journal_to_the_next_one() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    left_behind(&mut backend, journal.path(), 4)?;
    backend.resume()?;
    let mut server = quiet_server_with(&backend, "Fleeting", journal.path())?.start()?;
    server.send(&json!({ "do": "register" }))?;
    server.godot().signal(Signal::TERM)?;
    let code = server.godot().wait()?;
    let summary = summary(&server)?;
    // Listed or not: 0 means that nothing is left.
    let left = if code == 0 { "0" } else { "4" };
    ensure!(code == 0 || code == 75, "exit code {code}\n{}", server.log().tail());
    summary.has_all(&[("left_in_journal", left), ("unsaved", "0")])?;
    next_start_delivers(&backend, journal.path(), 4, false)
}
