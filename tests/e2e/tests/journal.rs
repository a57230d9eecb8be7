//! What a server has on its own disk reaches the backend, whatever becomes of the process.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::api::{Api, Player};
use test_harness::backend::{Backend, as_whole};
use test_harness::fixture::{self, Fixture, FixtureLaunch};

fn server(name: &str, backend: &Backend) -> Result<FixtureLaunch> {
    fixture::server(name, &backend.url(), &backend.server_key_file())
}

fn server_with_journal(name: &str, backend: &Backend, folder: &Path) -> Result<Fixture> {
    server(name, backend)?.env("BACKEND_JOURNAL_FOLDER", &folder.to_string_lossy()).start()
}

fn register(server: &mut Fixture) -> Result<String> {
    let registered = server.ask(&json!({ "do": "register" }))?;
    Ok(registered["server_id"].as_str().with_context(|| registered.to_string())?.to_owned())
}

/// Makes `server` hold `players` and returns the coins it finds in their purses, 0 where there is none.
fn load(server: &mut Fixture, players: &[Player]) -> Result<Vec<i64>> {
    let ids: Vec<&str> = players.iter().map(Player::id).collect();
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": ids }))?;
    let documents = loaded.get("documents").with_context(|| loaded.to_string())?;
    Ok(ids.iter().map(|id| as_whole(&documents[id]["purse"]["coins"])).collect())
}

fn save(server: &mut Fixture, coins: i64) -> Result<()> {
    server.ask(&json!({ "do": "save", "key": "purse", "value": { "coins": coins } })).map(drop)
}

/// Waits until `server` has said of each of `players` that the save is on local disk.
fn saved_locally(server: &Fixture, since: usize, players: &[Player]) -> Result<()> {
    for player in players {
        server.log().wait_after(since, &format!("EVENT saved_locally player={} key=purse", player.id()))?;
    }
    Ok(())
}

fn delivered(players: &[Player], coins: i64, version: i64) -> Result<()> {
    for player in players {
        let has = |value: &serde_json::Value| as_whole(value) == coins;
        let document =
            player.wait_for_document("purse", |document| document.value.get("coins").is_some_and(has))?;
        ensure!(
            document.version == version,
            "applied {} times instead of {version}: {document:?}",
            document.version
        );
    }
    Ok(())
}

fn log_in(api: &Api, count: usize) -> Result<Vec<Player>> {
    (0..count).map(|number| api.log_in(&format!("Player {number}"))).collect()
}

fn stop(mut server: Fixture) -> Result<()> {
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn what_was_acknowledged_locally_survives_a_kill_during_an_outage() -> Result<()> {
    let mut backend = Backend::start()?;
    let api = backend.api()?;
    let folder = tempfile::tempdir()?;
    let players = log_in(&api, 20)?;
    let mut first = server_with_journal("Keeper", &backend, folder.path())?;
    register(&mut first)?;
    load(&mut first, &players)?;
    save(&mut first, 1)?;
    delivered(&players, 1, 1)?;
    let flush = first.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["unsaved"] == 0.0, "{flush}");

    backend.kill()?;
    let since = first.log().len();
    save(&mut first, 2)?;
    saved_locally(&first, since, &players)?;
    first.godot().kill()?;

    let mut second = server_with_journal("Keeper", &backend, folder.path())?;
    backend.resume()?;
    register(&mut second)?;
    // Nobody has to come back for it.
    delivered(&players, 2, 2)?;
    ensure!(
        load(&mut second, &players)?.iter().all(|coins| *coins == 2),
        "the next server finds something older"
    );
    save(&mut second, 3)?;
    delivered(&players, 3, 3)?;
    // The dead one's place in the list is given up as well.
    api.wait_for_room("Keeper", "alone under its name", |_| true)?;
    stop(second)
}

#[test]
fn a_journal_delivered_just_before_a_kill_is_not_applied_again() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let folder = tempfile::tempdir()?;
    let players = log_in(&api, 5)?;
    for round in 1..=4 {
        let mut server = server_with_journal("Keeper", &backend, folder.path())?;
        register(&mut server)?;
        let found = load(&mut server, &players)?;
        ensure!(found.iter().all(|coins| *coins == round - 1), "round {round}: {found:?}");
        save(&mut server, round)?;
        // Committed, and perhaps noted in the journal, perhaps not. By its version, because what the one before had not
        // noted is sent, and told of, again.
        for player in &players {
            let committed = format!("EVENT saved player={} key=purse version={round}", player.id());
            server.log().wait_for(&committed)?;
        }
        server.godot().kill()?;
    }
    let mut last = server_with_journal("Keeper", &backend, folder.path())?;
    register(&mut last)?;
    let found = load(&mut last, &players)?;
    ensure!(found.iter().all(|coins| *coins == 4), "{found:?}");
    delivered(&players, 4, 4)?;
    stop(last)
}

#[test]
fn two_servers_of_one_user_do_not_disturb_each_other() -> Result<()> {
    let mut backend = Backend::start()?;
    let api = backend.api()?;
    let home = tempfile::tempdir()?;
    let (red, blue) = (log_in(&api, 3)?, log_in(&api, 3)?);
    let mut first = server("Red", &backend)?.with_home(home.path()).start()?;
    let mut second = server("Blue", &backend)?.with_home(home.path()).start()?;
    for (server, players) in [(&mut first, &red), (&mut second, &blue)] {
        register(server)?;
        load(server, players)?;
    }
    backend.kill()?;
    for (server, players, coins) in [(&mut first, &red, 1), (&mut second, &blue, 2)] {
        save(server, coins)?;
        saved_locally(server, 0, players)?;
    }
    first.godot().kill()?;

    let mut third = server("Red", &backend)?.with_home(home.path()).start()?;
    backend.resume()?;
    register(&mut third)?;
    delivered(&red, 1, 1)?;
    delivered(&blue, 2, 1)?;
    // Only the dead one's players change hands.
    ensure!(load(&mut third, &red)?.iter().all(|coins| *coins == 1), "not the latest");
    for player in &blue {
        let held = second.ask(&json!({ "do": "is_holding", "player_id": player.id() }))?;
        ensure!(held["holding"] == true, "{held}");
    }
    save(&mut second, 3)?;
    delivered(&blue, 3, 2)?;
    ensure!(!second.log().contains("EVENT lease_lost"), "{}", second.log().tail());
    api.wait_for_room("Blue", "still listed", |_| true)?;
    stop(third)?;
    stop(second)
}
