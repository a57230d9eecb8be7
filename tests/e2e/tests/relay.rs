//! Rooms that players host through the relay: real games, whose own multiplayer does not know the difference.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fixture::{self, Fixture};

/// A player in a room.
struct Player {
    game: Fixture,
    player_id: String,
    peer: i64,
}

fn backend() -> Result<Backend> {
    Backend::start_with(&["--relay-listen", "127.0.0.1:0"])
}

impl Player {
    fn log_in(backend: &Backend, name: &str) -> Result<Self> {
        let mut game = fixture::relay(name, &backend.url())?.start()?;
        let answer = game.ask(&json!({ "do": "log_in", "name": name }))?;
        Ok(Self { game, player_id: text(&answer, "player_id")?, peer: 0 })
    }

    /// Enters a room; returns the answer.
    fn enter(&mut self, command: &Value) -> Result<Value> {
        let answer = self.game.ask(command)?;
        ensure!(answer["is_relay"] == true, "{answer}");
        self.peer = answer["peer"].as_f64().context("no peer")? as i64;
        Ok(answer)
    }

    fn heard(&mut self, count: usize) -> Result<Vec<String>> {
        let answer = self.game.ask(&json!({ "do": "heard", "count": count }))?;
        let heard = answer["heard"].as_array().context("nothing heard")?;
        Ok(heard.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
    }

    fn quit(mut self) -> Result<()> {
        self.game.ask(&json!({ "do": "quit" }))?;
        self.game.godot().finish(0)
    }
}

fn text(answer: &Value, field: &str) -> Result<String> {
    Ok(answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?.to_owned())
}

/// A host, two who have joined by an invite code, and the code.
fn three(backend: &Backend) -> Result<(Player, Player, Player, String)> {
    let mut host = Player::log_in(backend, "Host")?;
    let hosted = host.enter(&json!({ "do": "host", "name": "Pond", "private": true, "password": "reed" }))?;
    let code = text(&hosted, "invite_code")?;
    let mut players = Vec::new();
    for name in ["Ada", "Bob"] {
        let mut player = Player::log_in(backend, name)?;
        player.enter(&json!({ "do": "join", "invite_code": code, "password": "reed" }))?;
        player.game.log().wait_for("EVENT connected_to_server")?;
        players.push(player);
    }
    let bob = players.pop().context("no Bob")?;
    let ada = players.pop().context("no Ada")?;
    Ok((host, ada, bob, code))
}

#[test]
fn calls_and_scenes_go_between_all_players_as_over_enet() -> Result<()> {
    let backend = backend()?;
    let (mut host, mut ada, mut bob, code) = three(&backend)?;
    ensure!(host.peer == 1 && ada.peer > 1 && bob.peer > 1 && ada.peer != bob.peer);
    let seen = host.game.ask(&json!({ "do": "await_peers", "count": 2 }))?;
    ensure!(seen[ada.peer.to_string()] == ada.player_id.as_str(), "{seen}");
    let seen = ada.game.ask(&json!({ "do": "await_peers", "count": 2 }))?;
    ensure!(
        seen["1"] == host.player_id.as_str() && seen[bob.peer.to_string()] == bob.player_id.as_str(),
        "{seen}"
    );
    bob.game.ask(&json!({ "do": "await_peers", "count": 2 }))?;

    // Reliable calls keep their order, on each channel, whatever their size; from one who is not the host as well.
    for mode in ["reliable", "channel"] {
        ada.game.ask(&json!({ "do": "call_others", "mode": mode, "count": 500, "bytes": 2000 }))?;
        let expected: Vec<_> = (0..500).map(|index| format!("{} {mode} {index} 2000", ada.peer)).collect();
        for player in [&mut host, &mut bob] {
            let heard = player.heard(500)?;
            ensure!(heard == expected, "{mode}: {:?} …", heard.first());
        }
    }
    // Unreliable ones arrive on a machine that loses nothing, the large ones too.
    for bytes in [10, 5000] {
        bob.game.ask(&json!({ "do": "call_others", "mode": "unreliable", "count": 20, "bytes": bytes }))?;
        let heard: BTreeSet<_> = ada.heard(20)?.into_iter().collect();
        let expected = (0..20).map(|index| format!("{} unreliable {index} {bytes}", bob.peer)).collect();
        ensure!(heard == expected, "{heard:?}");
        host.heard(20)?;
    }
    // Of ordered ones none is overtaken, and the last one is there.
    host.game.ask(&json!({ "do": "call_others", "mode": "ordered", "count": 20 }))?;
    let heard = ada.heard(20)?;
    let expected: Vec<_> = (0..20).map(|index| format!("1 ordered {index} 0")).collect();
    ensure!(heard == expected, "{heard:?}");
    // To one alone.
    bob.heard(20)?;
    ada.game.ask(&json!({ "do": "call_others", "mode": "reliable", "to": bob.peer }))?;
    ensure!(bob.heard(1)? == [format!("{} reliable 0 0", ada.peer)]);

    // What Godot spawns and synchronizes, also for one who comes late.
    host.game.ask(&json!({ "do": "spawn", "name": "Kermit" }))?;
    for player in [&mut ada, &mut bob] {
        player.game.ask(&json!({ "do": "await_frog", "name": "Kermit", "x": 0 }))?;
    }
    host.game.ask(&json!({ "do": "move", "name": "Kermit", "x": 42 }))?;
    for player in [&mut ada, &mut bob] {
        player.game.ask(&json!({ "do": "await_frog", "name": "Kermit", "x": 42 }))?;
    }
    let mut late = Player::log_in(&backend, "Late")?;
    late.enter(&json!({ "do": "join", "invite_code": code, "password": "reed" }))?;
    late.game.ask(&json!({ "do": "await_frog", "name": "Kermit", "x": 42 }))?;
    late.quit()?;
    host.game.log().wait_for("EVENT peer_disconnected")?;
    for player in [ada, bob, host] {
        player.quit()?;
    }
    Ok(())
}

#[test]
fn a_room_is_listed_while_its_host_is_there_and_its_end_is_announced() -> Result<()> {
    let backend = backend()?;
    let api = backend.api()?;
    let mut host = Player::log_in(&backend, "Host")?;
    let hosted = host.enter(&json!({ "do": "host", "name": "Pond", "max_players": 2 }))?;
    api.wait_for_room("Pond", "its host", |room| room.players == 1 && room.reserved == 0)?;
    let join = json!({ "do": "join", "room_id": hosted["room_id"] });
    let mut ada = Player::log_in(&backend, "Ada")?;
    ada.enter(&join)?;
    api.wait_for_room("Pond", "two players", |room| room.players == 2 && room.free_seats() == 0)?;

    // A full room gives no ticket, and a used ticket lets nobody in.
    let mut bob = Player::log_in(&backend, "Bob")?;
    let refused = bob.game.ask(&join)?;
    ensure!(refused["failed"] == "room_full", "{refused}");
    let refused = ada.game.ask(&json!({ "do": "join_again" }))?;
    ensure!(refused["failed"] == "relay_refused", "{refused}");

    // Who is removed is told so, and the seat is free again.
    host.game.ask(&json!({ "do": "kick", "peer": ada.peer }))?;
    let lost = ada.game.log().wait_for("EVENT server_disconnected")?;
    ensure!(lost.ends_with("reason=kicked"), "{lost}");
    host.game.log().wait_for(&format!("EVENT peer_disconnected peer={}", ada.peer))?;
    api.wait_for_room("Pond", "a free seat", |room| room.players == 1)?;
    host.game.ask(&json!({ "do": "refuse_new", "refuse": true }))?;
    let refused = bob.game.ask(&join)?;
    ensure!(refused["failed"] == "relay_refused", "{refused}");
    host.game.ask(&json!({ "do": "refuse_new", "refuse": false }))?;
    bob.enter(&join)?;

    // What the host said last arrives before the end.
    host.game.ask(&json!({ "do": "await_peers", "count": 1 }))?;
    host.game.ask(&json!({ "do": "call_others", "mode": "reliable", "count": 1, "bytes": 100_000 }))?;
    host.game.ask(&json!({ "do": "leave" }))?;
    ensure!(bob.heard(1)? == ["1 reliable 0 100000"]);
    let lost = bob.game.log().wait_for("EVENT server_disconnected")?;
    ensure!(lost.ends_with("reason=host_left"), "{lost}");
    api.wait_for_no_room("Pond")?;
    for player in [ada, bob, host] {
        player.quit()?;
    }
    Ok(())
}
