//! Two players find a match and join its server, while the backend is killed in the middle of it.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fixture::{self, Fixture};
use test_harness::programs;

fn found(client: &mut Fixture) -> Result<Value> {
    let found = client.ask(&json!({ "do": "await_match" }))?;
    ensure!(found["match_id"].is_string(), "{found}");
    Ok(found)
}

#[test]
fn a_match_is_found_accepted_and_joined_although_the_backend_was_killed() -> Result<()> {
    let settings = programs::workspace().join("godot/matchmaking/matchmaking.json");
    let mut backend = Backend::start_with(&["--matchmaking", &settings.display().to_string()])?;
    let mut server = fixture::server("match", &backend.url(), &backend.server_key_file())?.start()?;
    server.ask(&json!({ "do": "set_mode", "mode": "asked" }))?;
    server.ask(&json!({ "do": "register" }))?;
    let mut clients = Vec::new();
    let mut player_ids = Vec::new();
    for name in ["ada", "bea"] {
        let mut client = fixture::client(name, &backend.url())?.start()?;
        let login = client.ask(&json!({ "do": "log_in", "name": name }))?;
        player_ids.push(login["player_id"].as_str().context("no player id")?.to_owned());
        clients.push(client);
    }

    // One searches, and the backend is gone for a while.
    let search = json!({ "do": "find_match", "matchmaker": "asked" });
    let first = clients[0].ask(&search)?;
    ensure!(first["ticket_id"].as_str().is_some_and(|id| !id.is_empty()), "{first}");
    backend.kill()?;
    clients[0].godot().log().wait_for("EVENT connection connected=false")?;
    backend.resume()?;
    clients[0].godot().log().wait_for("EVENT connection connected=true")?;
    clients[1].ask(&search)?;
    for client in &mut clients {
        client.godot().log().wait_for("EVENT match_proposed")?;
    }

    // One has accepted, and it is gone again.
    let accept = json!({ "do": "accept_match" });
    clients[0].ask(&accept)?;
    backend.kill()?;
    backend.resume()?;
    let accepted = clients[1].ask(&accept)?;
    ensure!(accepted["failed"].is_null(), "{accepted}");

    let matches = clients.iter_mut().map(found).collect::<Result<Vec<_>>>()?;
    ensure!(matches[0]["match_id"] == matches[1]["match_id"], "{matches:?}");
    ensure!(matches[0]["team"] != matches[1]["team"], "{matches:?}");
    for (client, found) in clients.iter_mut().zip(&matches) {
        let joined =
            client.ask(&json!({ "do": "join", "port": found["port"], "ticket": found["ticket"] }))?;
        ensure!(joined["outcome"] == "authenticated", "{joined}");
    }
    let known = server.ask(&json!({ "do": "teams", "player_ids": player_ids }))?;
    for (player_id, found) in player_ids.iter().zip(&matches) {
        ensure!(known["teams"][player_id] == found["team"], "{known} {found}");
    }

    for mut client in clients {
        client.ask(&json!({ "do": "quit" }))?;
        client.godot().finish(0)?;
    }
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)?;
    backend.stop()
}
