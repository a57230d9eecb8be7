//! The main job, end to end: log in, find a room, be verified, race, be saved, leave cleanly.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use test_harness::backend::Backend;
use test_harness::demo::{self, check_order, wait_for_event};
use test_harness::godot::Godot;

const BOT: &[&str] = &[
    "logged_in",
    "rooms_listed",
    "ticket_received",
    "connected",
    "verified",
    "race_started",
    "race_finished",
    "progress",
    "done",
];

/// Two accounts race once in `room`; both bots end in good order and agree on who won. Returns the winner's name.
fn race(backend: &Backend, room: &str) -> Result<String> {
    let bot = |name: &str| {
        let account = format!("device:{}", name.to_lowercase().repeat(8));
        demo::bot(name, room, &backend.url()).arg(format!("--account={account}")).start()
    };
    let mut winner = None;
    for (name, mut bot) in [("Ada", bot("Ada")?), ("Bob", bot("Bob")?)] {
        bot.finish(0)?;
        check_order(bot.log(), BOT)?;
        let finish = wait_for_event(bot.log(), "race_finished")?;
        let told = finish.text("winner")?.to_owned();
        ensure!((finish.number("place")? == 1) == (told == name), "{name}: {finish:?}");
        let agreed = winner.get_or_insert_with(|| told.clone());
        ensure!(*agreed == told, "one says {agreed} won, the other {told}");
    }
    winner.context("nobody raced")
}

/// SIGTERM, and everything that has to follow.
fn leave(server: &mut Godot) -> Result<()> {
    server.signal(Signal::TERM)?;
    server.finish(0)?;
    check_order(server.log(), &["draining", "flushed", "deregistered", "exiting"])?;
    ensure!(wait_for_event(server.log(), "flushed")?.number("unsaved")? == 0, "{}", server.log().tail());
    Ok(())
}

#[test]
fn two_players_race_on_two_evenings_and_keep_what_they_won() -> Result<()> {
    let backend = Backend::start()?;
    let api = backend.api()?;

    let mut server = demo::start_server("Pond", &backend.url(), &backend.server_key_file())?;
    api.wait_for_room("Pond", "listed, empty", |room| room.players == 0)?;
    let winner = race(&backend, "Pond")?;
    let ada = backend.wait_for_player("Ada", "one race", |player| player.progress("races") == 1)?;
    let bob = backend.wait_for_player("Bob", "one race", |player| player.progress("races") == 1)?;
    ensure!(ada.progress("wins") + bob.progress("wins") == 1, "one of them won: {ada:?} {bob:?}");
    ensure!(ada.progress("xp") > 0 && bob.progress("xp") > 0, "both gain by racing: {ada:?} {bob:?}");
    for player in [&ada, &bob] {
        let won = player.progress("wins") == 1;
        ensure!(won == (player.display_name == winner), "{winner} won, and the backend holds {player:?}");
    }
    let finish = wait_for_event(server.log(), "race_finished")?;
    ensure!(finish.text("winner")? == winner, "{finish:?}");
    check_order(
        server.log(),
        &[
            "server_started",
            "registered",
            "player_verified",
            "player_verified",
            "race_started",
            "race_finished",
            "saved",
        ],
    )?;
    leave(&mut server)?;
    ensure!(api.rooms()?.is_empty(), "a server that left is still listed: {:?}", api.rooms()?);

    let mut server = demo::start_server("Lake", &backend.url(), &backend.server_key_file())?;
    race(&backend, "Lake")?;
    leave(&mut server)?;
    ensure!(api.rooms()?.is_empty(), "a server that left is still listed: {:?}", api.rooms()?);

    let players = backend.players()?;
    ensure!(players.len() == 2, "the accounts were found again: {players:?}");
    for before in [&ada, &bob] {
        let after = players.iter().find(|player| player.player_id == before.player_id);
        let after = after.ok_or_else(|| anyhow::anyhow!("{} is gone", before.display_name))?;
        ensure!(after.progress("races") == 2, "{after:?}");
        ensure!(after.progress("xp") > before.progress("xp"), "{before:?} {after:?}");
    }
    ensure!(players.iter().map(|player| player.progress("wins")).sum::<i64>() == 2, "{players:?}");
    Ok(())
}
