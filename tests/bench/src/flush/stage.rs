//! Where it takes place: a server, players whose documents it takes, and the ways that save them there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use backend_client::protocol::limits::MAX_LOAD;
use backend_client::protocol::player_store::{LoadPlayers, LoadedPlayer, LoadedPlayers};
use backend_client::protocol::registration::ServerLease;
use backend_client::protocol::routes;
use backend_client::protocol::session::Session;
use reqwest::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use test_harness::backend::Backend;
use test_harness::process::Process;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bare_server::{self, BareServer};
use crate::cpu_affinity::{Side, pinned};
use crate::engine::{self, Figures, Project};

/// Accounts made at a time.
const AT_ONCE: usize = 16;

/// What a server holds, for ways that have no addon.
#[derive(Serialize, Deserialize)]
pub struct HeldByServer {
    pub server_id: String,
    pub key: String,
    /// Id, epoch and sequence.
    pub players: Vec<(String, i64, i64)>,
}

/// A server and its players.
pub struct Stage {
    folder: TempDir,
    runtime: Runtime,
    client: Client,
    url: String,
    key: String,
    players: Vec<String>,
}

/// Documents that the pool is given, at 60 frames a second and without a limit of frames: it takes as long for each, so its
/// time for more is told by its time for these.
#[derive(Clone, Copy)]
pub struct PoolSize {
    pub at_60: usize,
    pub uncapped: usize,
}

impl Stage {
    /// The backend, which answers once the documents are committed, with accounts of so many players.
    pub fn committing(backend: &Backend, count: usize) -> Result<Self> {
        let key = fs::read_to_string(backend.server_key_file())?.trim().to_owned();
        let mut stage = Self::empty(backend.url(), key)?;
        test_harness::print_line!("making {count} accounts");
        stage.players = stage.runtime.block_on(accounts(&stage.client, &stage.url, count))?;
        Ok(stage)
    }

    /// A server that only counts, to which all players are alike.
    pub fn counting(server: &BareServer, count: usize) -> Result<Self> {
        let mut stage = Self::empty(server.url().to_owned(), bare_server::KEY.to_owned())?;
        stage.players = (0..count).map(|_| Uuid::now_v7().to_string()).collect();
        Ok(stage)
    }

    fn empty(url: String, key: String) -> Result<Self> {
        let stage = Self {
            folder: tempfile::Builder::new().prefix("flush-").tempdir()?,
            runtime: Runtime::new()?,
            client: Client::builder().no_proxy().tcp_nodelay(true).build()?,
            url,
            key,
            players: Vec::new(),
        };
        fs::write(stage.key_file(), &stage.key)?;
        Ok(stage)
    }

    /// The file with the server's key.
    fn key_file(&self) -> PathBuf {
        self.folder.path().join("server.key")
    }

    /// A server of ours takes some of the players over, and lets them go with [`Self::let_go`].
    async fn take_over(&self, count: usize) -> Result<(String, Vec<LoadedPlayer>)> {
        let say = |path: &str| format!("{}{path}", self.url);
        let server = json!({ "instance_id": Uuid::now_v7().to_string(), "name": "Bench", "address": "127.0.0.1",
            "port": 9, "max_players": 10_000 });
        let lease: ServerLease = call(&self.client, &say(routes::SERVERS), &self.key, &server).await?;
        let mut players = Vec::with_capacity(count);
        for ids in self.players[..count].chunks(MAX_LOAD) {
            let body = LoadPlayers { server_id: lease.server_id.clone(), player_ids: ids.to_vec() };
            let loaded: LoadedPlayers =
                call(&self.client, &say(routes::PLAYERS_LOAD), &self.key, &body).await?;
            ensure!(loaded.players.len() == ids.len(), "{} players are held", loaded.held.len());
            players.extend(loaded.players);
        }
        Ok((lease.server_id, players))
    }

    async fn let_go(&self, server_id: &str) -> Result<()> {
        let body = json!({ "server_id": server_id });
        let release = format!("{}{}", self.url, routes::PLAYERS_RELEASE);
        let released = self.client.post(release).bearer_auth(&self.key).json(&body).send().await?;
        ensure!(released.status().is_success(), "release: {}", released.status());
        let url = format!("{}{}", self.url, routes::server(server_id));
        let gone = self.client.delete(url).bearer_auth(&self.key).send().await?;
        ensure!(gone.status().is_success(), "deregistration: {}", gone.status());
        Ok(())
    }

    /// Runs a way without the addon while a server of ours holds so many players.
    fn holding<T>(&self, count: usize, way: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let (server_id, players) = self.runtime.block_on(self.take_over(count))?;
        let players = players.into_iter().map(|one| (one.player_id, one.epoch, one.sequence)).collect();
        let held = HeldByServer { server_id, key: self.key.clone(), players };
        let path = self.folder.path().join("held.json");
        fs::write(&path, serde_json::to_string(&held)?)?;
        let found = way(&path)?;
        self.runtime.block_on(self.let_go(&held.server_id))?;
        Ok(found)
    }

    /// Players whose document does not hold this `number`, and the next one for the next player.
    pub fn missing(&self, count: usize, number: i64) -> Result<usize> {
        self.runtime.block_on(async {
            let (server_id, players) = self.take_over(count).await?;
            let saved = |player: &LoadedPlayer| {
                let progress = player.documents.iter().find(|document| document.key == "progress")?;
                progress.value.get("number")?.as_i64()
            };
            let missing = (number..).zip(&players).filter(|(number, player)| saved(player) != Some(*number));
            let missing = missing.count();
            self.let_go(&server_id).await?;
            Ok(missing)
        })
    }

    /// The file with the players that a game loads.
    pub fn players_file(&self, count: usize) -> Result<PathBuf> {
        let path = self.folder.path().join("players.txt");
        fs::write(&path, self.players[..count].join("\n"))?;
        Ok(path)
    }

    /// Bare reqwest.
    pub fn raw(&self, count: usize) -> Result<Vec<Figures>> {
        self.holding(count, |held| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["raw-flush", "--url", &self.url]).arg("--held").arg(held);
            let mut process = Process::start("raw-flush", pinned(Side::Client, &command))?;
            process.wait_for_exit(0)?;
            engine::figures_of(process.log())
        })
    }

    /// The addon.
    pub fn addon(&self, project: &Project, count: usize) -> Result<Vec<Figures>> {
        project.run_scene("flush", &self.url, &self.arguments("addon", count)?)
    }

    /// What the scenes that save by the addon are told. Each has a journal of its own: what a process had no time to strike
    /// off its journal, the next one with it sends again.
    pub fn arguments(&self, way: &str, count: usize) -> Result<Vec<String>> {
        let journal = tempfile::Builder::new().prefix("journal-").tempdir_in(self.folder.path())?.keep();
        Ok(vec![
            format!("--backend-journal-folder={}", journal.display()),
            format!("--way={way}"),
            format!("--players={}", self.players_file(count)?.display()),
            format!("--key-file={}", self.key_file().display()),
        ])
    }

    /// One HTTPRequest each, from a pool.
    pub fn pool(&self, project: &Project, count: usize, size: PoolSize) -> Result<Vec<Figures>> {
        let (at_60, uncapped) = (size.at_60.min(self.players.len()), size.uncapped.min(self.players.len()));
        self.holding(at_60.max(uncapped), |held| {
            let arguments = [
                "--way=pool".to_owned(),
                format!("--url={}", self.url),
                format!("--held={}", held.display()),
                format!("--at-60={at_60}"),
                format!("--uncapped={uncapped}"),
                format!("--size={count}"),
            ];
            project.run_scene("flush", &self.url, &arguments)
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Posts as a server does.
pub async fn call<T: DeserializeOwned>(
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
