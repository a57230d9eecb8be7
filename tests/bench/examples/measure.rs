//! Measurements on the real thing, printed as a table: `cargo run -p bench --example measure` with the
//! environment of `cargo xtask test`. They say how fast; whether it is right is the tests' business.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::backend::Backend;
use test_harness::fixture;

fn main() -> Result<()> {
    println!("{:<52} {:>12}", "what", "measured");
    for players in [1, 50, 1_000] {
        let (whole, told) = shutdown(players)?;
        row(&format!("SIGTERM to exit, {players} dirty players"), format!("{} ms", whole.as_millis()));
        row("  of which between signal and farewell, by its log", format!("{told} ms"));
    }
    for at_once in [1, 16] {
        let per_request = main_thread_per_request(2_000, at_once)?;
        let micros = per_request.as_secs_f64() * 1e6;
        row(&format!("main thread per list_rooms(), {at_once} at once"), format!("{micros:.1} us"));
    }
    Ok(())
}

fn row(what: &str, measured: String) {
    println!("{what:<52} {measured:>12}");
}

/// Time from SIGTERM to the end of the process, and what its own last line says in milliseconds.
fn shutdown(players: usize) -> Result<(Duration, String)> {
    let backend = Backend::start()?;
    let api = backend.api()?;
    let launch = fixture::server("Measured", &backend.url(), &backend.server_key_file())?;
    let mut server = launch.arg("--debounce-seconds=3600").arg("--max-delay-seconds=3600").start()?;
    server.ask(&json!({ "do": "register" }))?;
    let ids = (0..players).map(|number| Ok(api.log_in(&format!("Player {number}"))?.id().to_owned()));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": ids }))?;
    ensure!(loaded.get("documents").is_some(), "{loaded}");
    // About the size of a small role-playing character.
    let value =
        json!({ "name": "x".repeat(64), "inventory": vec![json!({ "item": "lily pad", "count": 3 }); 24] });
    server.ask(&json!({ "do": "save", "key": "progress", "value": value }))?;

    let begin = Instant::now();
    server.godot().signal(Signal::TERM)?;
    server.godot().wait()?;
    let whole = begin.elapsed();
    server.godot().finish(0)?;
    let summary = server.log().wait_for("backend_client: shutdown complete")?;
    let told = summary.split("total_ms=").nth(1).and_then(|rest| rest.split(' ').next());
    let held = backend.players()?.iter().filter(|player| player.documents.contains_key("progress")).count();
    ensure!(held == players, "{held} of {players} players were saved");
    Ok((whole, told.context("no total_ms")?.to_owned()))
}

/// Processor time the main thread spends on one call, from the script's call to the script's continuation, over
/// that of the same number of idle frames.
fn main_thread_per_request(count: u32, at_once: u32) -> Result<Duration> {
    let backend = Backend::start()?;
    let mut client = fixture::client("measured", &backend.url())?.start()?;
    client.ask(&json!({ "do": "log_in", "name": "Ada" }))?;
    let id = client.godot().id();
    // The first calls open connections and warm caches.
    client.ask(&json!({ "do": "list_rooms_often", "count": 50, "at_once": at_once }))?;

    let begin = main_thread_time(id)?;
    let busy = client.ask(&json!({ "do": "list_rooms_often", "count": count, "at_once": at_once }))?;
    let busy_time = main_thread_time(id)?.saturating_sub(begin);
    let frames = busy["frames"].as_f64().with_context(|| busy.to_string())?;

    let begin = main_thread_time(id)?;
    client.ask(&json!({ "do": "idle", "frames": frames }))?;
    let idle_time = main_thread_time(id)?.saturating_sub(begin);
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().finish(0)?;
    Ok(busy_time.saturating_sub(idle_time) / count)
}

/// Time on a processor of the process's first thread (proc_pid_schedstat(5)).
fn main_thread_time(id: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/schedstat"))?;
    let nanoseconds = text.split(' ').next().context("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}
