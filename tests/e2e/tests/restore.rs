//! A backup is restored while a game server holds players: what was announced as saved is there afterwards.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::api::Player;
use test_harness::backend::{Backend, as_whole};
use test_harness::fixture::{self, Fixture};
use test_harness::until;

fn server(backend: &Backend, name: &str) -> Result<Fixture> {
    let mut server = fixture::server(name, &backend.url(), &backend.server_key_file())?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    Ok(server)
}

fn load(server: &mut Fixture, player: &Player) -> Result<()> {
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": [player.id()] }))?;
    ensure!(loaded["documents"].get(player.id()).is_some(), "{loaded}");
    Ok(())
}

/// Saves, and returns when the backend has it.
fn save(server: &mut Fixture, key: &str, coins: i64) -> Result<()> {
    server.ask(&json!({ "do": "save", "key": key, "value": { "coins": coins } }))?;
    let flush = server.ask(&json!({ "do": "flush" }))?;
    ensure!(flush["unsaved"] == 0.0 && flush["conflicted"] == 0.0, "{flush}");
    Ok(())
}

fn back_up(backend: &mut Backend, copy: &Path) -> Result<()> {
    backend.stop()?;
    backend.copy_database(copy)?;
    backend.resume()
}

fn restore(backend: &mut Backend, copy: &Path) -> Result<()> {
    backend.stop()?;
    backend.restore_database(copy)?;
    backend.resume()
}

fn coins(player: &Player, key: &str) -> Result<i64> {
    Ok(player.document(key)?.map_or(0, |document| document.value.get("coins").map_or(0, as_whole)))
}

#[test]
fn what_a_holder_was_told_is_saved_is_saved_again() -> Result<()> {
    let mut backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let copy = backend.folder().join("backup.db");
    let mut holder = server(&backend, "Holder")?;
    load(&mut holder, &ada)?;
    save(&mut holder, "purse", 1)?;
    save(&mut holder, "chest", 1)?;
    back_up(&mut backend, &copy)?;
    save(&mut holder, "chest", 2)?;
    for round in 2..=5 {
        save(&mut holder, "purse", round)?;
    }
    restore(&mut backend, &copy)?;
    ensure!(coins(&ada, "chest")? == 1, "restored");
    save(&mut holder, "purse", 6)?;
    holder.log().wait_for("EVENT rollback_detected")?;
    until("the chest to be saved again", || Ok((coins(&ada, "chest")? == 2).then_some(())))?;
    ensure!(coins(&ada, "purse")? == 6, "the newest save");
    ensure!(holder.ask(&json!({ "do": "is_holding", "player_id": ada.id() }))?["holding"] == true, "held");
    holder.godot().signal(Signal::TERM)?;
    holder.godot().finish(0)
}

#[test]
fn what_was_saved_under_a_lease_that_is_gone_is_kept_as_a_conflict() -> Result<()> {
    let mut backend = Backend::start()?;
    let ada = backend.api()?.log_in("Ada")?;
    let copy = backend.folder().join("backup.db");
    let mut holder = server(&backend, "Holder")?;
    back_up(&mut backend, &copy)?;
    load(&mut holder, &ada)?;
    save(&mut holder, "purse", 5)?;
    save(&mut holder, "chest", 7)?;
    restore(&mut backend, &copy)?;
    holder.ask(&json!({ "do": "save", "key": "purse", "value": { "coins": 6 } }))?;
    holder.log().wait_for(&format!("EVENT lease_lost player={}", ada.id()))?;
    holder.log().wait_for("EVENT rollback_detected")?;
    let mut next = server(&backend, "Next")?;
    load(&mut next, &ada)?;
    for (key, expected) in [("purse", 6.0), ("chest", 7.0)] {
        let found = until("the save as a conflict", || {
            let listed = next.ask(&json!({ "do": "list_conflicts", "player_id": ada.id() }))?;
            let conflicts = listed["conflicts"].as_array().with_context(|| listed.to_string())?;
            Ok(conflicts.iter().find(|conflict| conflict["key"] == key).cloned())
        })?;
        ensure!(found["value"]["coins"] == expected, "{found}");
    }
    for mut one in [holder, next] {
        one.godot().signal(Signal::TERM)?;
        one.godot().finish(0)?;
    }
    Ok(())
}
