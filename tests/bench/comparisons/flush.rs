//! Every player's document at once, from Dictionaries to committed replies of the real backend on SQLite: by the addon, by
//! bare reqwest in the same batches, and by one HTTPRequest each from a pool.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backend_client::protocol::limits::{MAX_BATCH, MAX_LOAD};
use backend_client::protocol::player_store::{
    LoadPlayers, LoadedPlayers, SaveDocuments, SaveItem, SaveOutcome, SavedDocuments,
};
use backend_client::protocol::registration::ServerLease;
use backend_client::protocol::routes;
use backend_client::protocol::session::Session;
use clap::Args;
use end_to_end::backend::Backend;
use end_to_end::process::Process;
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Options;
use crate::engine::{self, Figures, Project};
use crate::machine::Machine;
use crate::pinned::{Side, pin, pinned};
use crate::series::{Report, ratios};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const QUICK_SIZES: [usize; 1] = [100];
/// Documents that the pool is given: it takes as long for each, so its time for more is told by its time for these.
const POOL_AT_60: usize = 320;
const POOL_UNCAPPED: usize = 1_000;
const ADDON: &str = "addon";
const RAW: &str = "raw reqwest";
const POOL: &str = "pool (scaled)";
/// Accounts made at a time.
const AT_ONCE: usize = 16;

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

/// What a server holds, for ways that have no addon.
#[derive(Serialize, Deserialize)]
struct HeldByServer {
    server_id: String,
    key: String,
    /// Id, epoch and sequence.
    players: Vec<(String, i64, i64)>,
}

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let mut report = Report::new("flush", Machine::this()?);
    let project = Project::with(&options.library)?;
    let backend = Backend::start()?;
    pin(Side::Server, backend.id()?)?;
    let stage = Stage::new(&backend, options.quick)?;
    let sizes: &[usize] = if options.quick { &QUICK_SIZES } else { &SIZES };
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        for size in sizes {
            let scenario = format!("documents {size}");
            for (way, found) in [
                (RAW, stage.raw(*size)?),
                (ADDON, stage.addon(&project, *size)?),
                (POOL, stage.pool(&project, *size, options.quick)?),
            ] {
                for (measure, value) in found.iter().flatten() {
                    if let (true, Some(value)) = (measure != "failed", value.as_f64()) {
                        report.add(&scenario, measure, way, value);
                    }
                }
            }
        }
    }
    judge(&mut report);
    report.publish(&options.folder)?;
    for (measure, title) in [
        ("whole_60hz_ms", "Documents of 2 KiB from Dictionaries to commits at 60 frames a second, in ms"),
        ("whole_uncapped_ms", "Documents of 2 KiB from Dictionaries to commits, no limit of frames, in ms"),
    ] {
        let file = measure.trim_end_matches("_ms").replace('_', "-");
        report.lines(&options.folder, &file, "documents", measure, title, ("documents", "ms"))?;
    }
    Ok(options.quick || report.is_met())
}

fn judge(report: &mut Report) {
    let of =
        |report: &Report, measure: &str, way: &str| report.rounds("documents 10000", measure, way).to_vec();
    report.judge("capture, main thread per document (us)", of(report, "capture_us", ADDON), true, 35.0);
    let sending = ratios(&of(report, "sending_ms", ADDON), &of(report, "sending_ms", RAW));
    report.judge("sending after the last save, times raw reqwest", sending, true, 1.3);
    for (what, measure, goal) in
        [("at 60 Hz", "whole_60hz_ms", 100.0), ("uncapped", "whole_uncapped_ms", 5.0)]
    {
        let faster = ratios(&of(report, measure, POOL), &of(report, measure, ADDON));
        report.judge(&format!("10,000 documents {what}, times faster than the pool"), faster, false, goal);
    }
}

/// Where it takes place: accounts, and what leads to the backend.
struct Stage {
    folder: TempDir,
    runtime: Runtime,
    client: Client,
    url: String,
    key: String,
    players: Vec<String>,
}

impl Stage {
    fn new(backend: &Backend, quick: bool) -> Result<Self> {
        let stage = Self {
            folder: tempfile::Builder::new().prefix("flush-").tempdir()?,
            runtime: Runtime::new()?,
            client: Client::builder().no_proxy().tcp_nodelay(true).build()?,
            url: backend.url(),
            key: fs::read_to_string(backend.server_key_file())?.trim().to_owned(),
            players: Vec::new(),
        };
        let count = if quick { QUICK_SIZES[0] } else { SIZES[SIZES.len() - 1] };
        println!("making {count} accounts");
        let players = stage.runtime.block_on(accounts(&stage.client, &stage.url, count))?;
        fs::write(stage.key_file(), &stage.key)?;
        Ok(Self { players, ..stage })
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// A server that holds some of them, in a file.
    fn hold(&self, count: usize) -> Result<PathBuf> {
        let held = self.runtime.block_on(async {
            let say = |path: &str| format!("{}{path}", self.url);
            let server = json!({ "instance_id": uuid::Uuid::now_v7().to_string(), "name": "Bench", "address": "127.0.0.1",
                "port": 9, "max_players": 10_000 });
            let lease: ServerLease = call(&self.client, &say(routes::SERVERS), &self.key, &server).await?;
            let mut players = Vec::with_capacity(count);
            for ids in self.players[..count].chunks(MAX_LOAD) {
                let body = LoadPlayers { server_id: lease.server_id.clone(), player_ids: ids.to_vec() };
                let loaded: LoadedPlayers =
                    call(&self.client, &say(routes::PLAYERS_LOAD), &self.key, &body).await?;
                ensure!(loaded.players.len() == ids.len(), "{} players are held", loaded.held.len());
                players.extend(loaded.players.into_iter().map(|one| (one.player_id, one.epoch, one.sequence)));
            }
            anyhow::Ok(HeldByServer { server_id: lease.server_id, key: self.key.clone(), players })
        })?;
        let path = self.folder.path().join("held.json");
        fs::write(&path, serde_json::to_string(&held)?)?;
        Ok(path)
    }

    /// Lets go of what [`Self::hold`] took.
    fn let_go(&self, held: &PathBuf) -> Result<()> {
        let held: HeldByServer = serde_json::from_slice(&fs::read(held)?)?;
        let url = format!("{}{}", self.url, routes::server(&held.server_id));
        self.runtime.block_on(async {
            let body = json!({ "server_id": held.server_id });
            let release = format!("{}{}", self.url, routes::PLAYERS_RELEASE);
            let released = self.client.post(release).bearer_auth(&self.key).json(&body).send().await?;
            ensure!(released.status().is_success(), "release: {}", released.status());
            let gone = self.client.delete(url).bearer_auth(&self.key).send().await?;
            ensure!(gone.status().is_success(), "deregistration: {}", gone.status());
            anyhow::Ok(())
        })
    }

    fn raw(&self, count: usize) -> Result<Vec<Figures>> {
        let held = self.hold(count)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["raw-flush", "--url", &self.url]).arg("--held").arg(&held);
        let mut process = Process::start("raw-flush", pinned(Side::Client, &command))?;
        process.wait_for_exit(0)?;
        self.let_go(&held)?;
        engine::figures_of(process.log())
    }

    fn addon(&self, project: &Project, count: usize) -> Result<Vec<Figures>> {
        let players = self.folder.path().join("players.txt");
        fs::write(&players, self.players[..count].join("\n"))?;
        let arguments = [
            "--way=addon".to_owned(),
            format!("--players={}", players.display()),
            format!("--key-file={}", self.key_file().display()),
        ];
        project.run_scene("flush", &self.url, &arguments)
    }

    fn pool(&self, project: &Project, count: usize, quick: bool) -> Result<Vec<Figures>> {
        let (at_60, uncapped) = if quick { (32, 100) } else { (POOL_AT_60, POOL_UNCAPPED) };
        let (at_60, uncapped) = (at_60.min(self.players.len()), uncapped.min(self.players.len()));
        let held = self.hold(at_60.max(uncapped))?;
        let arguments = [
            "--way=pool".to_owned(),
            format!("--url={}", self.url),
            format!("--held={}", held.display()),
            format!("--at-60={at_60}"),
            format!("--uncapped={uncapped}"),
            format!("--size={count}"),
        ];
        let found = project.run_scene("flush", &self.url, &arguments)?;
        self.let_go(&held)?;
        Ok(found)
    }
}

async fn call<T: DeserializeOwned>(
    client: &Client,
    url: &str,
    key: &str,
    body: &impl Serialize,
) -> Result<T> {
    let reply = client.post(url).bearer_auth(key).json(body).send().await?;
    ensure!(reply.status().is_success(), "{url}: {}", reply.status());
    Ok(reply.json().await?)
}

async fn accounts(client: &Client, url: &str, count: usize) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(count);
    let mut making = JoinSet::new();
    for number in 0..count {
        if making.len() >= AT_ONCE {
            ids.push(making.join_next().await.context("nobody")???);
        }
        let (client, url) = (client.clone(), format!("{url}{}", routes::AUTH_ANONYMOUS));
        making.spawn(async move {
            let body = json!({ "display_name": format!("Player {number}") });
            let session: Session = call(&client, &url, "", &body).await?;
            anyhow::Ok(session.player_id)
        });
    }
    while let Some(made) = making.join_next().await {
        ids.push(made??);
    }
    Ok(ids)
}

/// The bare way's process: the batches that the addon sends, one after the other, from values to booked replies.
pub fn run_raw(options: &RawOptions) -> Result<()> {
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
    println!("{}{figures}", engine::FIGURES);
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
