//! From the request for a room to the ticket: on a server that was started ahead of time, and on one that has yet to start.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use backend_client::protocol::routes;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::process::Process;
use test_harness::room_servers::RoomServers;
use test_harness::until;

use super::BACKEND;
use super::changes::Room;
use crate::results::Report;

/// A server that registers, and then stays until it is asked to end. `$1` is its port; without an allocation it is one of its own.
const SERVER: &str = r#"
trap 'exit 0' TERM
allocation=${BACKEND_ALLOCATION_ID:+"\"allocation_id\":\"$BACKEND_ALLOCATION_ID\","}
curl -sf "$BACKEND_URL/v1/servers" -H "Authorization: Bearer $(cat "$BACKEND_SERVER_KEY_FILE")" -H 'Content-Type: application/json' \
  -d "{\"instance_id\":\"$$\",$allocation\"name\":\"Own\",\"address\":\"127.0.0.1\",\"port\":$1,\"max_players\":4}" || exit 4
echo registered
while [ -e "$BACKEND_SERVER_KEY_FILE" ]; do sleep 0.1; done
"#;

pub fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let count = if quick { 1 } else { 10 };
    let command = ["sh", "-c", SERVER, "server", "{port}"];
    let change = json!({"max_servers": 50, "max_players": 4});
    let http = Client::builder().no_proxy().tcp_nodelay(true).build()?;

    let servers = RoomServers::of(&command, &change)?;
    let mut backend = servers.backend(&["--spare-servers", "1"])?;
    let admin_key = backend.admin_key()?;
    for _ in 0..count {
        until("a spare server", || {
            let path = format!("{}{}", backend.url(), routes::ADMIN_ALLOCATIONS);
            let seen: Value = http.get(path).bearer_auth(&admin_key).send()?.error_for_status()?.json()?;
            let all = seen["allocations"].as_array().context("no list")?;
            let is_spare = |one: &Value| one["is_spare"] == true && one["status"] == "ready";
            Ok(all.iter().any(is_spare).then_some(()))
        })?;
        let token = backend.api()?.log_in("Ada")?.access_token().to_owned();
        let round_trip = timed(|| list(&http, &backend, &token))?;
        let warm = timed(|| create(&http, &backend, &token))?;
        report.add("creation", "round_trip_ms", BACKEND, round_trip);
        report.add("creation", "warm_ms", BACKEND, warm);
        report.add("creation", "warm_beyond_round_trip_ms", BACKEND, (warm - round_trip).max(0.0));
    }
    backend.kill()?;
    drop(servers);

    let servers = RoomServers::of(&command, &change)?;
    let mut backend = servers.backend(&[])?;
    for _ in 0..count {
        let mut own = Command::new("sh");
        own.args(["-c", SERVER, "server", "7777"])
            .env("BACKEND_URL", backend.url())
            .env("BACKEND_SERVER_KEY_FILE", backend.server_key_file());
        let begun = Instant::now();
        let mut alone = Process::start("a server of its own", own)?;
        alone.log().wait_for("registered")?;
        let start = Room::milliseconds(begun, Instant::now());
        alone.kill()?;
        let token = backend.api()?.log_in("Ada")?.access_token().to_owned();
        let cold = timed(|| create(&http, &backend, &token))?;
        report.add("creation", "start_ms", BACKEND, start);
        report.add("creation", "cold_ms", BACKEND, cold);
        report.add("creation", "cold_beyond_start_ms", BACKEND, (cold - start).max(0.0));
    }
    backend.kill()
}

fn timed(call: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    call()?;
    Ok(Room::milliseconds(begun, Instant::now()))
}

fn list(http: &Client, backend: &Backend, token: &str) -> Result<()> {
    let url = format!("{}{}", backend.url(), routes::ROOMS);
    let _page: Value = http.get(url).bearer_auth(token).send()?.error_for_status()?.json()?;
    Ok(())
}

/// One request: it waits for the room.
fn create(http: &Client, backend: &Backend, token: &str) -> Result<()> {
    let url = format!("{}{}", backend.url(), routes::ROOMS);
    let body = json!({"request_id": "one", "wait_seconds": 20});
    let reply: Value = http.post(url).bearer_auth(token).json(&body).send()?.error_for_status()?.json()?;
    ensure!(reply["status"] == "ready", "no room within 20 s: {reply}");
    Ok(())
}
