//! Exit code 0 means that everything is at the backend, also what this server never came to open or has let go of.

use test_harness::world;

use super::*;
use crate::starting::left_behind;

fn ends_with(server: &mut Fixture, wanted: i32) -> Result<()> {
    let code = server.godot().wait()?;
    ensure!(code == wanted, "exit code {code} instead of {wanted}\n{}", server.log().tail());
    Ok(())
}

#[test]
fn a_server_that_was_never_listed_owes_what_an_earlier_run_left() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    left_behind(&mut backend, journal.path(), 4)?;
    let mut server = quiet_server_with(&backend, "Unlisted", journal.path())?.start()?;
    server.godot().signal(Signal::TERM)?;
    ends_with(&mut server, 75)?;
    summary(&server)?.has_all(&[("players", "0"), ("left_in_journal", "4"), ("unsaved", "0")])?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 4, false)
}

#[test]
fn a_server_that_quits_before_it_was_listed_owes_it_too() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    left_behind(&mut backend, journal.path(), 4)?;
    let mut server = quiet_server_with(&backend, "Quitting unlisted", journal.path())?.start()?;
    server.send(&json!({ "do": "quit" }))?;
    ends_with(&mut server, 75)?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 4, false)
}

#[test]
fn a_journal_that_cannot_be_opened_is_not_called_empty() -> Result<()> {
    let backend = Backend::start()?;
    // No folder can be made below a file.
    let folder = backend.server_key_file().join("journal");
    let mut server = quiet_server_with(&backend, "Without a journal", &folder)?.start()?;
    with_dirty_players(&mut server, &backend, 2)?;
    server.godot().signal(Signal::TERM)?;
    ends_with(&mut server, 75)?;
    let counts = [("saved", "4"), ("left_in_journal", "unknown"), ("unsaved", "0"), ("exit_code", "75")];
    summary(&server)?.has_all(&counts)?;
    all_saved(&backend, 2, true)
}

#[test]
fn the_store_of_a_freed_node_is_part_of_the_shutdown() -> Result<()> {
    let journal = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut server = quiet_server_with(&backend, "Changing scenes", journal.path())?
        .env("BACKEND_SHUTDOWN_GRACE_SECONDS", "4")
        .start()?;
    with_dirty_players(&mut server, &backend, 3)?;
    backend.kill()?;
    server.ask(&json!({ "do": "free_store" }))?;
    server.godot().signal(Signal::TERM)?;
    ends_with(&mut server, 75)?;
    summary(&server)?.has_all(&[("left_in_journal", "3"), ("unsaved", "0"), ("exit_code", "75")])?;
    backend.resume()?;
    next_start_delivers(&backend, journal.path(), 3, false)
}

#[test]
fn the_world_of_a_freed_node_is_part_of_the_shutdown() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let launch = world::launch("Keeper", &backend.url(), &backend, folder.path())?;
    let mut server = launch.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "4").start()?;
    server.ask(&json!({ "do": "register" }))?;
    world::open(&mut server)?;
    world::flush(&mut server)?;
    backend.kill()?;
    world::save(&mut server, "stone")?;
    server.ask(&json!({ "do": "free_world" }))?;
    server.godot().signal(Signal::TERM)?;
    ends_with(&mut server, 75)?;
    summary(&server)?.has_all(&[("left_in_journal", "3"), ("unsaved", "0"), ("exit_code", "75")])?;

    backend.resume()?;
    let mut next = world::start("Keeper", &backend, folder.path())?;
    world::open(&mut next)?;
    for name in world::NAMES {
        ensure!(world::load(&mut next, name)?["text"] == "stone", "{name} is not what was acknowledged");
    }
    world::stop(next)
}

#[test]
fn a_world_that_is_not_open_yet_owes_what_an_earlier_run_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut backend = Backend::start()?;
    let mut first = world::start("Keeper", &backend, folder.path())?;
    world::open(&mut first)?;
    world::flush(&mut first)?;
    backend.kill()?;
    world::save(&mut first, "stone")?;
    first.godot().kill()?;
    backend.resume()?;

    let launch = world::launch("Keeper", &backend.url(), &backend, folder.path())?;
    let mut second = launch.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "4").start()?;
    second.ask(&json!({ "do": "register" }))?;
    backend.kill()?;
    second.send(&json!({ "do": "open", "world_id": "overworld" }))?;
    // Commands are done in order: the world is being opened by now.
    second.send(&json!({ "do": "load_chunk", "name": "none" }))?;
    second.answer().context("opening has an end, without a backend")?;
    second.godot().signal(Signal::TERM)?;
    ends_with(&mut second, 75)?;
    summary(&second)?.has_all(&[("left_in_journal", "3"), ("unsaved", "0")])?;

    backend.resume()?;
    let mut third = world::start("Keeper", &backend, folder.path())?;
    world::open(&mut third)?;
    for name in world::NAMES {
        ensure!(world::load(&mut third, name)?["text"] == "stone", "{name} is not what was acknowledged");
    }
    world::stop(third)
}
