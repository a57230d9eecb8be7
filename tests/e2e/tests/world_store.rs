//! A world outlives the servers that keep it: what they acknowledged is there for the next one, and nobody overwrites it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::until;
use test_harness::world::{NAMES, files, flush, holds, launch, load, open, save, start, start_behind, stop};

#[test]
fn a_termination_request_sends_the_world_and_lets_it_go() -> Result<()> {
    let backend = Backend::start()?;
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // Nothing is sent on its own for an hour.
    let launch = launch("Here", &backend.url(), &backend, here.path())?.arg("--send-delay=3600");
    let mut first = launch.start()?;
    first.ask(&json!({ "do": "register" }))?;
    ensure!(open(&mut first)?.is_empty(), "a new world has chunks");
    save(&mut first, "grass")?;
    first.godot().signal(Signal::TERM)?;
    first.log().wait_for("EVENT collect_saves")?;
    first.godot().finish(0)?;

    // Another machine, which does not wait for a lease.
    let mut second = start("There", &backend, there.path())?;
    ensure!(open(&mut second)? == ["buildings", "last", "terrain/0,0", "terrain/0,1"], "chunks are missing");
    holds(&mut second, "grass", 1)?;
    ensure!(load(&mut second, "last")?["text"] == "see you", "the last words are missing");
    stop(second)
}

#[test]
fn what_a_killed_server_had_not_sent_is_sent_by_the_next_one() -> Result<()> {
    let mut backend = Backend::start()?;
    let folder = tempfile::tempdir()?;
    let mut first = start("Keeper", &backend, folder.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    flush(&mut first)?;
    backend.kill()?;
    save(&mut first, "stone")?;
    first.godot().kill()?;

    backend.resume()?;
    // The dead one's lease has most of a minute left: the next one ends it, because it has its copy.
    let mut second = start("Keeper", &backend, folder.path())?;
    open(&mut second)?;
    holds(&mut second, "stone", 2)?;
    second.godot().kill()?;

    // Nothing was left, so nothing is committed again.
    let mut third = start("Keeper", &backend, folder.path())?;
    open(&mut third)?;
    holds(&mut third, "stone", 2)?;
    stop(third)
}

#[test]
fn a_server_that_leaves_during_an_outage_says_so_and_loses_nothing() -> Result<()> {
    let mut backend = Backend::start()?;
    let folder = tempfile::tempdir()?;
    let launch = launch("Keeper", &backend.url(), &backend, folder.path())?;
    let mut first = launch.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "5").start()?;
    first.ask(&json!({ "do": "register" }))?;
    open(&mut first)?;
    backend.kill()?;
    save(&mut first, "grass")?;
    first.godot().signal(Signal::TERM)?;
    first.godot().finish(75)?;

    backend.resume()?;
    let mut second = start("Keeper", &backend, folder.path())?;
    open(&mut second)?;
    holds(&mut second, "grass", 1)?;
    ensure!(load(&mut second, "last")?["text"] == "see you", "the last words are missing");
    stop(second)
}

#[test]
fn a_commit_whose_reply_is_lost_is_made_once() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let folder = tempfile::tempdir()?;
    let mut server = start_behind("Keeper", &proxy.url(), &backend, folder.path())?;
    open(&mut server)?;
    proxy.set(Fault::DropReply { path: "/v1/worlds/overworld/commit".into() });
    save(&mut server, "grass")?;
    proxy.wait_for_dropped_replies(2)?;
    proxy.set(Fault::None);
    flush(&mut server)?;
    holds(&mut server, "grass", 1)?;
    stop(server)
}

#[test]
fn who_was_away_for_too_long_overwrites_nothing() -> Result<()> {
    let backend = Backend::start_with(&["--lease-seconds", "2", "--heartbeat-seconds", "1"])?;
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut first = start("First", &backend, here.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    flush(&mut first)?;
    first.godot().signal(Signal::STOP)?;

    let mut second = start("Second", &backend, there.path())?;
    // As soon as the lease has run out.
    open(&mut second)?;
    holds(&mut second, "grass", 1)?;
    save(&mut second, "stone")?;
    flush(&mut second)?;

    first.godot().signal(Signal::CONT)?;
    save(&mut first, "sand")?;
    first.log().wait_for("EVENT lease_lost")?;
    let aside = first.log().wait_for("EVENT put_aside")?;
    let folder = aside.split_once("folder=").context("no folder")?.1;
    let list: Value = serde_json::from_slice(&fs::read(Path::new(folder).join("changes.json"))?)?;
    ensure!(list["changes"].as_array().is_some_and(|changes| changes.len() == NAMES.len()), "{list}");
    holds(&mut second, "stone", 2)?;
    stop(second)
}

#[test]
fn an_object_that_is_damaged_at_the_backend_is_not_believed() -> Result<()> {
    let backend = Backend::start()?;
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut first = start("First", &backend, here.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    let closed = first.ask(&json!({ "do": "close" }))?;
    ensure!(closed["unsaved"] == 0.0, "{closed}");
    let stored = files(&backend.worlds_folder())?;
    ensure!(stored.len() == 1, "the same content is stored {} times", stored.len());
    let mut bytes = fs::read(&stored[0])?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&stored[0], bytes)?;

    let mut second = start("Second", &backend, there.path())?;
    open(&mut second)?;
    let damaged = load(&mut second, "buildings")?;
    ensure!(damaged["failed"] == "bad_reply", "{damaged}");
    // Other content is another object.
    save(&mut second, "stone")?;
    flush(&mut second)?;
    holds(&mut second, "stone", 2)?;
    stop(first)?;
    stop(second)
}

#[test]
fn an_interrupted_download_goes_on() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let (here, there) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut first = start("First", &backend, here.path())?;
    open(&mut first)?;
    save(&mut first, "grass")?;
    first.ask(&json!({ "do": "close" }))?;
    let mut second = start_behind("Second", &proxy.url(), &backend, there.path())?;
    open(&mut second)?;
    proxy.set(Fault::TruncateReply { path: "/v1/worlds/overworld/objects/".into() });
    second.send(&json!({ "do": "load_chunk", "name": "buildings" }))?;
    until("a truncated reply", || Ok((proxy.struck().truncated > 0).then_some(())))?;
    proxy.set(Fault::None);
    let chunk = second.answer()?;
    ensure!(chunk["text"] == "grass", "{chunk}");
    stop(first)?;
    stop(second)
}
