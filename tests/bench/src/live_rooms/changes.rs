//! A long list in a game: what the main thread takes of each frame while it loads, and while it changes a hundred times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backend_client::protocol::routes;
use reqwest::Client;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::take;
use crate::engine::Project;
use crate::load::run_load;
use crate::results::Report;

const CHANGES_PER_SECOND: u64 = 100;

/// A room as its server sees it.
pub struct Room {
    pub id: String,
    sequence: u64,
}

impl Room {
    /// Sends a heartbeat with other attributes.
    pub async fn change(&mut self, http: &Client, url: &str, key: &str, attributes: Value) -> Result<()> {
        self.sequence += 1;
        let body = json!({"sequence": self.sequence, "players": self.sequence % 8, "attributes": attributes});
        let path = routes::heartbeat(&self.id);
        http.post(format!("{url}{path}")).bearer_auth(key).json(&body).send().await?.error_for_status()?;
        Ok(())
    }

    pub fn milliseconds(from: Instant, to: Instant) -> f64 {
        to.saturating_duration_since(from).as_secs_f64() * 1_000.0
    }
}

/// Registers so many rooms.
pub async fn register(http: &Client, url: &str, key: &str, count: usize) -> Result<Vec<Room>> {
    let (told, mut telling) = tokio::sync::mpsc::unbounded_channel();
    let (http, url, key) = (http.clone(), format!("{url}{}", routes::SERVERS), key.to_owned());
    run_load(32.min(count), count, move |number| {
        let (http, url, key, told) = (http.clone(), url.clone(), key.clone(), told.clone());
        async move {
            let body = json!({"instance_id": Uuid::new_v4(), "name": format!("Pond {number}"), "address": "192.0.2.7",
                "port": 7777, "map": "lily", "mode": "race", "max_players": 8, "attributes": {"n": 0}});
            let reply = http.post(url).bearer_auth(key).json(&body).send().await?.error_for_status()?;
            let lease: Value = reply.json().await?;
            let id = lease["server_id"].as_str().context("no id")?.to_owned();
            Ok(told.send(Room { id, sequence: 0 })?)
        }
    })
    .await?;
    let mut rooms = Vec::with_capacity(count);
    while let Ok(room) = telling.try_recv() {
        rooms.push(room);
    }
    ensure!(rooms.len() == count, "{} of {count} rooms are registered", rooms.len());
    Ok(rooms)
}

pub fn measure(project: &Project, report: &mut Report, quick: bool) -> Result<()> {
    let size = if quick { 200 } else { 10_000 };
    let mut backend = Backend::start_with(&["--lease-seconds", "3600"])?;
    let key = std::fs::read_to_string(backend.server_key_file())?.trim().to_owned();
    let url = backend.url();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let http = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let rooms = runtime.block_on(register(&http, &url, &key, size))?;
    let is_over = Arc::new(AtomicBool::new(false));
    let changing = runtime.spawn(change_on(http, url.clone(), key, rooms, Arc::clone(&is_over)));
    let seconds = if quick { 1 } else { 10 };
    let arguments = [format!("--size={size}"), format!("--seconds={seconds}")];
    let found = project.run_scene("followed", &url, &arguments);
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(changing)??;
    take(report, "list", &found?);
    backend.kill()
}

/// Changes one room after the other until it is over.
async fn change_on(
    http: Client,
    url: String,
    key: String,
    mut rooms: Vec<Room>,
    is_over: Arc<AtomicBool>,
) -> Result<()> {
    let mut ticks = interval(Duration::from_secs(1) / CHANGES_PER_SECOND as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let count = rooms.len();
    for number in 1.. {
        ticks.tick().await;
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        rooms[number % count].change(&http, &url, &key, json!({"n": number})).await?;
    }
    Ok(())
}
