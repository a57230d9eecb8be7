//! Nothing a game handed over is lost, and nothing is applied twice.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::api::Player;
use test_harness::backend::{Backend, as_whole};
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture};
use test_harness::until;

/// A server behind `proxy` that holds `player`.
fn server_holding(player: &Player, backend: &Backend, proxy: &FaultProxy) -> Result<(Fixture, String)> {
    let mut server = fixture::server("Keeper", &proxy.url(), &backend.server_key_file())?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    let server_id = registered["server_id"].as_str().with_context(|| registered.to_string())?.to_owned();
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
    ensure!(loaded["documents"].get(player.id()).is_some(), "{loaded}");
    Ok((server, server_id))
}

fn save(server: &mut Fixture, coins: i64) -> Result<Value> {
    server.ask(&json!({ "do": "save", "key": "purse", "value": { "coins": coins } }))
}

/// Waits until the backend holds `coins` and says at which version.
fn version_with(player: &Player, coins: i64) -> Result<i64> {
    let document = player.wait_for_document("purse", |document| {
        document.value.get("coins").is_some_and(|n| as_whole(n) == coins)
    })?;
    Ok(document.version)
}

fn flushed(server: &mut Fixture) -> Result<()> {
    let flush = server.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["unsaved"] == 0.0, "{flush}");
    let dirty = server.ask(&json!({ "do": "dirty" }))?;
    ensure!(dirty["dirty"] == 0.0, "{dirty}");
    Ok(())
}

fn stop(mut server: Fixture) -> Result<()> {
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn a_save_whose_reply_was_lost_is_applied_once() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let ada = backend.api()?.log_in("Ada")?;
    let (mut server, _) = server_holding(&ada, &backend, &proxy)?;

    proxy.set(Fault::DropReply { path: "/v1/players/save".to_owned() });
    save(&mut server, 10)?;
    proxy.wait_for_dropped_replies(2)?;
    ensure!(version_with(&ada, 10)? == 1, "the backend executed it, once");
    let dirty = server.ask(&json!({ "do": "dirty" }))?;
    ensure!(dirty["dirty"] == 1.0, "nothing has acknowledged it yet: {dirty}");
    proxy.set(Fault::None);
    flushed(&mut server)?;
    ensure!(version_with(&ada, 10)? == 1, "a repeated save made another version");
    let saved = server.log().wait_for("EVENT saved ")?;
    ensure!(saved.ends_with("version=1"), "{saved}");

    save(&mut server, 20)?;
    ensure!(version_with(&ada, 20)? == 2, "the next save is the next version");
    flushed(&mut server)?;
    stop(server)
}

#[test]
fn saves_made_while_the_backend_is_down_arrive_when_it_is_back() -> Result<()> {
    let mut backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let ada = backend.api()?.log_in("Ada")?;
    let (mut server, _) = server_holding(&ada, &backend, &proxy)?;

    backend.kill()?;
    for coins in 1..=50 {
        save(&mut server, coins)?;
    }
    proxy.wait_for_requests("/v1/players/save", 2)?;
    let dirty = server.ask(&json!({ "do": "dirty" }))?;
    ensure!(dirty["dirty"] == 1.0, "{dirty}");
    backend.resume()?;
    let version = version_with(&ada, 50)?;
    ensure!(version < 50, "fifty saves within an outage should travel together, made {version} versions");
    flushed(&mut server)?;

    // The same with a network that swallows everything instead of refusing.
    proxy.set(Fault::Blackhole);
    save(&mut server, 51)?;
    proxy.set(Fault::None);
    version_with(&ada, 51)?;
    flushed(&mut server)?;
    stop(server)
}

#[test]
fn a_server_that_lost_its_player_cannot_overwrite() -> Result<()> {
    let backend = Backend::start_with(&["--lease-seconds", "2", "--heartbeat-seconds", "1"])?;
    let proxy = FaultProxy::start(backend.address())?;
    let api = backend.api()?;
    let ada = api.log_in("Ada")?;
    let (mut server, server_id) = server_holding(&ada, &backend, &proxy)?;
    save(&mut server, 10)?;
    let version = version_with(&ada, 10)?;
    flushed(&mut server)?;

    // Cut off for longer than its lease, it knows nothing of the other one.
    proxy.set(Fault::Refuse);
    let other = api.register_server("Other")?;
    until("the lease to run out", || {
        let taken = api.take_over(&other.server_id, ada.id())?;
        ensure!(taken.held.iter().all(|held| held.server_id == server_id), "{taken:?}");
        Ok(taken.players.into_iter().next())
    })?;
    save(&mut server, 999)?;
    proxy.set(Fault::None);
    server.log().wait_for("EVENT lease_lost")?;
    server.log().wait_for("EVENT conflicted")?;
    let held = server.ask(&json!({ "do": "is_holding", "player_id": ada.id() }))?;
    ensure!(held["holding"] == false, "{held}");
    let again = version_with(&ada, 10)?;
    ensure!(again == version, "the player's new server must find what was saved last");
    // Nothing is dropped: what it saved is there for whoever holds the player.
    let conflicts = server.ask(&json!({ "do": "list_conflicts", "player_id": ada.id() }))?;
    let kept = &conflicts["conflicts"][0];
    ensure!(kept["server_id"] == server_id.as_str() && kept["value"]["coins"] == 999.0, "{conflicts}");
    stop(server)
}
