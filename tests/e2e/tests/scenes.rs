//! The ready-made scenes in a window, one picture for each state, and ten thousand rooms in the server browser.

use std::collections::HashMap;
use std::fs;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use test_harness::api::Api;
use test_harness::backend::{self, Backend};
use test_harness::display::Display;
use test_harness::godot::Launch;
use test_harness::picture::Picture;
use test_harness::programs;
use test_harness::room_servers::RoomServers;

const ROOMS: usize = 10_000;
const WORKERS: usize = 8;
const ROOM_PASSWORD: &str = "tadpole";

const PICTURES: &[&str] = &[
    "login_log_in",
    "login_register_errors",
    "login_busy",
    "login_wrong_password",
    "login_account_exists",
    "login_guest",
    "login_request_code",
    "login_code_sent",
    "login_link_account",
    "login_de",
    "login_es",
    "login_ja",
    "login_zh_CN",
    "login_right_to_left",
    "login_200_percent",
    "login_ja_200_percent",
    "connection_lost_waiting",
    "connection_lost_de",
    "connection_lost_es",
    "connection_lost_ja",
    "connection_lost_zh_CN",
    "connection_lost_reconnecting",
    "connection_lost_given_up",
    "connection_lost_200_percent",
    "connection_lost_zh_CN_200_percent",
    "matchmaking_idle",
    "matchmaking_failed",
    "matchmaking_party",
    "matchmaking_searching",
    "matchmaking_de",
    "matchmaking_es",
    "matchmaking_ja",
    "matchmaking_zh_CN",
    "matchmaking_right_to_left",
    "matchmaking_proposed",
    "matchmaking_proposed_de",
    "matchmaking_proposed_es",
    "matchmaking_proposed_ja",
    "matchmaking_proposed_zh_CN",
    "matchmaking_200_percent",
    "matchmaking_accepted",
    "matchmaking_searching_again",
    "matchmaking_placing",
    "matchmaking_ready",
    "browser_not_logged_in",
    "browser_loading",
    "browser_rooms",
    "browser_selected",
    "browser_de",
    "browser_es",
    "browser_ja",
    "browser_zh_CN",
    "browser_right_to_left",
    "browser_200_percent",
    "browser_narrow",
    "browser_ja_narrow",
    "browser_password",
    "browser_wrong_password",
    "browser_invite_code",
    "browser_unknown_code",
    "browser_create_room",
    "browser_create_room_de",
    "browser_create_room_es",
    "browser_create_room_ja",
    "browser_create_room_zh_CN",
    "browser_create_room_200_percent",
    "browser_room_without_a_name",
    "browser_room_starting",
    "browser_quick_play",
    "browser_no_match",
    "browser_empty",
    "browser_room_refused",
    "browser_offline",
    "browser_many_rooms",
];

#[test]
fn each_scene_shows_each_of_its_states() -> Result<()> {
    let display = Display::open()?;
    display.check_drivers()?;
    // Servers on paper send no heartbeats.
    let matchmaking = programs::workspace().join("godot/matchmaking/matchmaking.json").display().to_string();
    let servers = RoomServers::of_the_demo(&json!({"max_servers": 1}))?;
    let backend = servers.backend(&[
        "--heartbeat-seconds",
        "600",
        "--lease-seconds",
        "1800",
        "--matchmaking",
        &matchmaking,
    ])?;
    let empty = Backend::start()?;
    let api = backend.api()?;
    for index in 0..12 {
        api.register_server(&format!("Pond {index}"))?;
    }
    api.register_server_with_password("Pond locked", ROOM_PASSWORD)?;
    register_many(&api)?;

    // Kept for people to look at.
    let folder = programs::workspace().join("target/scenes");
    fs::create_dir_all(&folder)?;
    let closed = backend::free_port()?;
    let mut window = Launch::windowed("scenes", "godot", display.name())
        .engine_arg("-s")
        .engine_arg("res://scene_screenshots.gd")
        .arg(format!("--screenshots={}", folder.display()))
        .arg(format!("--font={}", programs::cjk_font()?.display()))
        .env("BACKEND_URL", backend.url())
        .env("EMPTY_BACKEND_URL", empty.url())
        .env("CLOSED_URL", format!("http://127.0.0.1:{closed}"))
        .start()?;
    // One by one: all together take longer than a single condition may, where the processor draws.
    for name in PICTURES {
        window.log().wait_for(&format!("SCENES shot {name}"))?;
        if *name == "matchmaking_placing" {
            api.register_server_in_mode("Match", "asked")?;
        }
    }
    let scrolled = window.log().wait_for("SCENES scrolled")?;
    window.log().wait_for("SCENES done")?;
    window.finish(0)?;
    println!("{scrolled}");

    let mut earlier: HashMap<u64, &str> = HashMap::new();
    for name in PICTURES {
        let picture = Picture::open(&folder.join(format!("{name}.png")))?;
        ensure!(picture.colours() > 16, "{name} has only {} colours", picture.colours());
        ensure!(picture.dominance() < 0.98, "{name} is {:.3} one colour", picture.dominance());
        if let Some(other) = earlier.insert(picture.digest(), name) {
            bail!("{name} looks like {other}");
        }
    }
    let rows = number(&scrolled, "rows")?;
    ensure!(number(&scrolled, "rooms")? >= ROOMS, "not all rooms are listed: {scrolled}");
    ensure!(rows < 40, "{rows} row nodes for {ROOMS} rooms: a node for each of them?");
    Ok(())
}

fn register_many(api: &Api) -> Result<()> {
    thread::scope(|scope| {
        let register = |worker: usize| {
            (worker..ROOMS)
                .step_by(WORKERS)
                .try_for_each(|index| api.register_server(&format!("Server {index:05}")).map(drop))
        };
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || register(worker))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().ok().context("a worker panicked")?)
    })
}

fn number(line: &str, name: &str) -> Result<usize> {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.with_context(|| format!("no {name} in: {line}"))?.parse()?)
}
