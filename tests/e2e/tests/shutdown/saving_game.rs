//! Games that go on saving at each frame, also when they are told to go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::api::Player;
use test_harness::backend::{Backend, as_whole};
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture};

use super::{COMPLETE, summary};

/// Each request takes this long: several frames of the game.
const LATENCY: Duration = Duration::from_millis(100);

/// A server behind a slow network that saves `players` at each frame.
fn saving_server(backend: &Backend, proxy: &FaultProxy, players: &[Player]) -> Result<Fixture> {
    let mut server = fixture::server("Restless", &proxy.url(), &backend.server_key_file())?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    let ids: Vec<&str> = players.iter().map(Player::id).collect();
    server.ask(&json!({ "do": "load_players", "player_ids": ids }))?;
    proxy.set(Fault::Delay(LATENCY));
    server.ask(&json!({ "do": "save_each_frame" }))?;
    Ok(server)
}

fn players(backend: &Backend, count: usize) -> Result<Vec<Player>> {
    let api = backend.api()?;
    (0..count).map(|number| api.log_in(&format!("Player {number}"))).collect()
}

fn saved_round(player: &Player) -> Result<i64> {
    let document = player.document("progress")?.context("no progress")?;
    Ok(document.value.get("round").map_or(0, as_whole))
}

#[test]
fn a_game_that_saves_at_each_frame_leaves_in_good_order() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let players = players(&backend, 10)?;
    let mut server = saving_server(&backend, &proxy, &players)?;
    players[0].wait_for_document("progress", |_| true)?;

    let begun = Instant::now();
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    ensure!(begun.elapsed() < Duration::from_secs(15), "it took {:?} of 25 s", begun.elapsed());
    let summary = summary(&server)?;
    ensure!(summary.0.contains(COMPLETE), "{}", summary.0);
    summary.has_all(&[
        ("left_in_journal", "0"),
        ("unsaved", "0"),
        ("exit_code", "0"),
        ("deregistered", "true"),
    ])?;

    // What was saved after the last collection, all players at each frame. The game was told about each, and goes on while the line
    // is written.
    let refused: usize = summary.1.get("refused").context("no refused=")?.parse()?;
    let told = server.log().lines().iter().filter(|line| line.contains("EVENT save_failed")).count();
    ensure!(refused >= players.len(), "too little was refused: {}", summary.0);
    ensure!(refused <= told, "{refused} were refused, and the game was told about {told}");

    let line = server.log().wait_for("EVENT collected round=")?;
    let collected: i64 = line.rsplit('=').next().context("no round")?.parse()?;
    let api = backend.api()?;
    let other = api.register_server("Other")?;
    for player in &players {
        let saved = saved_round(player)?;
        ensure!(saved == collected, "{saved} is saved, not what was handed in last, {collected}");
        let taken = api.take_over(&other.server_id, player.id())?;
        ensure!(taken.held.is_empty() && taken.players.len() == 1, "still leased: {taken:?}");
    }
    // What it saved afterwards was refused, with a word about each player.
    server.log().wait_for("code=shutting_down")?;
    server.log().wait_for("a save was refused")?;
    Ok(())
}

#[test]
fn flush_and_release_end_while_the_game_goes_on_saving() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let players = players(&backend, 3)?;
    let mut server = saving_server(&backend, &proxy, &players)?;

    let begun = Instant::now();
    let flush = server.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["unsaved"] == 0.0, "{flush}");
    let local = server.ask(&json!({ "do": "flush_local" }))?;
    ensure!(local["unsaved"] == local["journalled"], "{local}");
    let released = server.ask(&json!({ "do": "release", "player_id": players[0].id() }))?;
    ensure!(released["unsaved"] == 0.0, "{released}");
    ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    let api = backend.api()?;
    let other = api.register_server("Other")?;
    let taken = api.take_over(&other.server_id, players[0].id())?;
    ensure!(taken.held.is_empty(), "still leased: {taken:?}");
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn a_refused_save_is_logged_where_nobody_listens() -> Result<()> {
    let backend = Backend::start()?;
    let launch = fixture::server("Deaf", &backend.url(), &backend.server_key_file())?;
    let mut server = launch.arg("--save-failed=ignored").start()?;
    server.ask(&json!({ "do": "register" }))?;
    let player = backend.api()?.log_in("Ada")?;
    // Never loaded.
    server.ask(&json!({ "do": "save_unloaded", "player_id": player.id(), "value": { "n": 1 } }))?;
    let line = server.log().wait_for("a save was refused")?;
    ensure!(line.contains("not_loaded") && line.contains(player.id()), "{line}");
    // A node is no document. Another one: of each, there is a line a minute.
    server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
    let seen = server.log().len();
    server.ask(&json!({ "do": "save_node" }))?;
    let line = server.log().wait_after(seen, "a save was refused")?;
    ensure!(line.contains("invalid_field") && line.contains(player.id()), "{line}");
    ensure!(!server.log().contains("EVENT save_failed"), "somebody listens");
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    summary(&server)?.has_all(&[("refused", "2"), ("unsaved", "0"), ("exit_code", "0")])
}
