//! How soon a change is at all who follow a list, each on a connection of their own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backend_client::protocol::routes;
use reqwest::Client;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use test_harness::backend::Backend;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::BACKEND;
use super::changes::{Room, register};
use crate::results::Report;

/// After this long, a change that has not arrived is lost.
const LOST: Duration = Duration::from_secs(60);
/// Connections beside those of the followers, on either side.
const OTHER_FILES: u64 = 200;

pub fn measure(report: &mut Report, quick: bool) -> Result<()> {
    let (followers, changes) = if quick { (20, 5) } else { (1_000, 50) };
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = followers as u64 + OTHER_FILES;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = limit.maximum.map(|maximum| maximum.max(wanted)).or(Some(wanted));
        setrlimit(Resource::Nofile, limit).context("followers need an open file each")?;
    }
    let mut backend = Backend::start_with(&["--lease-seconds", "3600"])?;
    let key = std::fs::read_to_string(backend.server_key_file())?.trim().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut times = runtime.block_on(fan_out(&backend.url(), &key, followers, changes))?;
    drop(runtime);
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    for (measure, part) in [("median_ms", 0.5), ("p99_ms", 0.99), ("longest_ms", 1.0)] {
        report.add("followers", measure, BACKEND, at(part));
    }
    backend.kill()
}

/// Milliseconds from each request that changes a room to each follower who learns of it.
async fn fan_out(url: &str, key: &str, followers: usize, changes: usize) -> Result<Vec<f64>> {
    let http = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let mut room = register(&http, url, key, 1).await?.pop().context("no room")?;
    let (told, mut telling) = unbounded_channel();
    let mut streams = JoinSet::new();
    for _ in 0..followers {
        streams.spawn(follow(
            http.clone(),
            format!("{url}{}", routes::ROOM_EVENTS),
            key.to_owned(),
            told.clone(),
        ));
    }
    drop(told);
    let mut times = Vec::with_capacity(followers * changes);
    for number in 0..=changes {
        let sent = Instant::now();
        // The first is in the list that everybody begins with: who has it follows.
        if number > 0 {
            room.change(&http, url, key, json!({"n": number})).await?;
        }
        for _ in 0..followers {
            let (seen, at) = timeout(LOST, telling.recv())
                .await
                .context("a change did not arrive")?
                .context("a follower has ended")?;
            ensure!(seen == number, "change {seen} arrived while {number} was expected");
            if number > 0 {
                times.push(Room::milliseconds(sent, at));
            }
        }
    }
    Ok(times)
}

/// Tells the number that the room has in each event, and when it came.
async fn follow(
    http: Client,
    url: String,
    key: String,
    told: UnboundedSender<(usize, Instant)>,
) -> Result<()> {
    let mut response = http.get(url).bearer_auth(key).send().await?.error_for_status()?;
    let mut buffer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let block = String::from_utf8(buffer.drain(..end + 2).collect())?;
            let Some((_, rest)) = block.split_once("\"n\":") else { continue };
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            told.send((digits.parse()?, Instant::now()))?;
        }
    }
    Ok(())
}
