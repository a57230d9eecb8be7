//! A player who goes from one server to another finds the latest save there, and nobody overwrites it afterwards.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::api::Player;
use test_harness::backend::{Backend, as_whole};
use test_harness::fixture::{self, Fixture};

/// A registered server that sends nothing on its own for an hour.
fn quiet_server(name: &str, backend: &Backend) -> Result<Fixture> {
    let launch = fixture::server(name, &backend.url(), &backend.server_key_file())?;
    let mut server = launch.arg("--debounce-seconds=3600").arg("--max-delay-seconds=3600").start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    Ok(server)
}

fn load(player: &Player) -> Value {
    json!({ "do": "load_players", "player_ids": [player.id()] })
}

/// The coins in what `load` gave.
fn coins(loaded: &Value, player: &Player) -> Result<i64> {
    let documents = loaded["documents"].get(player.id()).with_context(|| loaded.to_string())?;
    Ok(as_whole(&documents["purse"]["coins"]))
}

fn save(server: &mut Fixture, coins: i64) -> Result<()> {
    server.ask(&json!({ "do": "save", "key": "purse", "value": { "coins": coins } })).map(drop)
}

fn held_coins(player: &Player) -> Result<i64> {
    let document = player.document("purse")?.context("no purse")?;
    Ok(document.value.get("coins").map_or(0, as_whole))
}

fn conflicts(server: &mut Fixture, player: &Player) -> Result<Value> {
    server.ask(&json!({ "do": "list_conflicts", "player_id": player.id() }))
}

fn stop(mut server: Fixture) -> Result<()> {
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn whoever_leaves_one_server_and_joins_another_at_once_finds_the_latest_save() -> Result<()> {
    let backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let mut here = quiet_server("Here", &backend)?;
    let mut there = quiet_server("There", &backend)?;
    here.ask(&load(&ada))?;
    for round in 1..=10 {
        save(&mut here, round)?;
        here.send(&json!({ "do": "release", "player_id": ada.id() }))?;
        let found = there.ask(&load(&ada))?;
        ensure!(coins(&found, &ada)? == round, "round {round}: {found}");
        let released = here.answer()?;
        ensure!(released["unsaved"] == 0.0 && released["conflicted"] == 0.0, "{released}");
        std::mem::swap(&mut here, &mut there);
    }
    let document = ada.document("purse")?.context("no purse")?;
    ensure!(document.version == 10, "ten saves, and no other: {document:?}");
    stop(here)?;
    stop(there)
}

#[test]
fn a_server_that_does_not_know_of_the_move_is_asked() -> Result<()> {
    let backend = Backend::start_with(&["--heartbeat-seconds", "1"])?;
    let ada = backend.api()?.log_in("Ada")?;
    let mut first = quiet_server("First", &backend)?;
    let mut second = quiet_server("Second", &backend)?;
    first.ask(&load(&ada))?;
    save(&mut first, 7)?;
    let found = second.ask(&load(&ada))?;
    ensure!(coins(&found, &ada)? == 7, "{found}");
    let last = &found["documents"][ada.id()]["last"]["words"];
    ensure!(last == "see you there", "what the game saved at last is not there: {found}");
    first.log().wait_for(&format!("EVENT handover_requested player={}", ada.id()))?;
    let held = first.ask(&json!({ "do": "is_holding", "player_id": ada.id() }))?;
    ensure!(held["holding"] == false, "{held}");
    ensure!(conflicts(&mut second, &ada)?["conflicts"] == json!([]), "nothing came too late");
    stop(first)?;
    stop(second)
}

#[test]
fn a_server_that_slept_past_its_lease_cannot_overwrite() -> Result<()> {
    let backend = Backend::start_with(&["--lease-seconds", "3", "--heartbeat-seconds", "1"])?;
    let ada = backend.api()?.log_in("Ada")?;
    let mut sleeper = quiet_server("Sleeper", &backend)?;
    let mut holder = quiet_server("Holder", &backend)?;
    sleeper.ask(&load(&ada))?;
    save(&mut sleeper, 1)?;
    let flush = sleeper.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["saved"] == 1.0, "{flush}");
    // Safe on its own disk, and never sent.
    save(&mut sleeper, 2)?;
    let local = sleeper.ask(&json!({ "do": "flush_local" }))?;
    ensure!(local["unsaved"] == 1.0 && local["journalled"] == 1.0, "{local}");

    sleeper.godot().signal(Signal::STOP)?;
    let found = holder.ask(&load(&ada))?;
    ensure!(coins(&found, &ada)? == 1, "{found}");
    save(&mut holder, 10)?;
    let flush = holder.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["saved"] == 1.0, "{flush}");

    sleeper.godot().signal(Signal::CONT)?;
    let late = sleeper.ask(&json!({ "do": "flush" }))?;
    ensure!(late["unsaved"] == 0.0, "{late}");
    sleeper.log().wait_for(&format!("EVENT lease_lost player={}", ada.id()))?;
    sleeper.log().wait_for(&format!("EVENT conflicted player={} key=purse", ada.id()))?;
    ensure!(held_coins(&ada)? == 10, "the late save was applied");
    holder.log().wait_for(&format!("EVENT conflict_found player={} key=purse", ada.id()))?;
    let listed = conflicts(&mut holder, &ada)?;
    ensure!(listed["conflicts"][0]["value"]["coins"] == 2.0, "{listed}");

    // The game may still want it.
    let merged = holder.ask(&json!({ "do": "merge_conflicts", "player_id": ada.id() }))?;
    ensure!(merged["merged"] == 1.0, "{merged}");
    ensure!(held_coins(&ada)? == 2, "not merged");
    ensure!(conflicts(&mut holder, &ada)?["conflicts"] == json!([]), "still listed");
    stop(sleeper)?;
    stop(holder)
}

#[test]
fn a_deploy_without_downtime_loses_nothing() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let players =
        (0..10).map(|number| api.log_in(&format!("Player {number}"))).collect::<Result<Vec<_>>>()?;
    let ids: Vec<&str> = players.iter().map(Player::id).collect();
    let load_all = json!({ "do": "load_players", "player_ids": ids });
    let mut old = quiet_server("Old", &backend)?;
    old.ask(&load_all)?;
    save(&mut old, 5)?;
    let mut new = quiet_server("New", &backend)?;
    old.godot().signal(Signal::TERM)?;
    // They arrive while the old server is still saving.
    let found = new.ask(&load_all)?;
    for player in &players {
        ensure!(coins(&found, player)? == 5, "{found}");
        ensure!(
            found["documents"][player.id()].get("last").is_some(),
            "the final state is not there: {found}"
        );
        ensure!(conflicts(&mut new, player)?["conflicts"] == json!([]), "something came too late");
        let document = player.document("purse")?.context("no purse")?;
        ensure!(document.version == 1, "applied twice: {document:?}");
    }
    old.godot().finish(0)?;
    save(&mut new, 6)?;
    stop(new)?;
    players.iter().try_for_each(|player| {
        ensure!(held_coins(player)? == 6, "the new server's save is not there");
        Ok(())
    })
}
