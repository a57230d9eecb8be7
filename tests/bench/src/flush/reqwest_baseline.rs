//! The bare way: reqwest that sends the batches which the addon sends, from values to booked replies.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use backend_client::protocol::limits::MAX_BATCH;
use backend_client::protocol::player_store::{SaveDocuments, SaveItem, SaveOutcome, SavedDocuments};
use backend_client::protocol::routes;
use clap::Args;
use reqwest::Client;
use serde_json::{Map, Value, json};

use super::stage::{HeldByServer, call};
use crate::engine;

/// Options of the bare way.
#[derive(Args)]
pub struct RawOptions {
    /// Base URL of the backend
    #[arg(long)]
    url: String,
    /// File with what a server holds
    #[arg(long)]
    held: PathBuf,
}

/// The process itself.
pub fn run(options: &RawOptions) -> Result<()> {
    let held: HeldByServer = serde_json::from_slice(&fs::read(&options.held)?)?;
    let url = format!("{}{}", options.url, routes::PLAYERS_SAVE);
    let documents: Vec<Map<String, Value>> = (0..held.players.len()).map(document).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let took = runtime.block_on(async {
        let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
        let begin = Instant::now();
        let players = held.players.chunks(MAX_BATCH).zip(documents.chunks(MAX_BATCH));
        for (players, documents) in players {
            let item = |((player_id, epoch, sequence), value): (&(String, i64, i64), &Map<String, Value>)| {
                SaveItem {
                    player_id: player_id.clone(),
                    key: "progress".into(),
                    epoch: *epoch,
                    sequence: sequence + 1,
                    value: value.clone(),
                    loaded_version: None,
                }
            };
            let items = players.iter().zip(documents).map(item).collect();
            let body = SaveDocuments { server_id: held.server_id.clone(), items };
            let saved: SavedDocuments = call(&client, &url, &held.key, &body).await?;
            let applied =
                saved.results.iter().filter(|result| result.outcome == SaveOutcome::Applied).count();
            ensure!(applied == players.len(), "{applied} of {} were applied", players.len());
        }
        anyhow::Ok(begin.elapsed())
    })?;
    let figures = json!({ "sending_ms": milliseconds(took), "failed": 0 });
    test_harness::print_line!("{}{figures}", engine::FIGURES);
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What `flush.gd` saves: 2 KiB of a game's nested state.
fn document(number: usize) -> Map<String, Value> {
    let inventory: Vec<Value> = (0..24)
        .map(|index| json!({ "id": format!("item_{index}"), "count": index * 3, "wear": 0.25 }))
        .collect();
    let quests: Map<String, Value> = (0..12)
        .map(|index| (format!("quest_{index}"), json!({ "state": "active", "step": index, "seen": true })))
        .collect();
    let whole = json!({ "number": number, "name": "Ada", "inventory": inventory, "quests": quests,
        "position": [1.5, 2.25, -3.0], "settings": { "volume": 0.8, "language": "en" },
        "stats": { "kills": 120, "deaths": 7, "best": { "ms": 12_345 } }, "notes": "x".repeat(330) });
    whole.as_object().cloned().unwrap_or_default()
}
