//! A game server as far as saving goes: the product's parts put together as the addon does it, and its players.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backend_client::api::transport::HttpTransport;
use backend_client::journal::JournalFolder;
use backend_client::platform::clock::SystemClock;
use backend_client::player_store::{Content, Event, OnEvent, Pace, PlayerStore, Setup};
use backend_client::protocol::session::AnonymousLogin;
use backend_client::registration::{Registration, ServerDescription};
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use serde_json::json;
use test_harness::backend::Backend;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longest time anything takes that has to succeed.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(120);
/// A pace at which nothing is sent unless somebody flushes.
pub const NEVER: Pace =
    Pace { debounce: Duration::from_secs(86_400), max_delay: Duration::from_secs(86_400) };
/// Bytes of JSON of a document.
pub const DOCUMENT_BYTES: usize = 2_048;
/// Logins and loads on their way at a time.
const AT_ONCE: usize = 32;

/// Events, each with the moment it was told.
pub type Events = UnboundedReceiver<(Instant, Event)>;

/// Where the backend is, and the key of its servers.
pub struct Place {
    /// Base URL.
    pub url: String,
    /// File with the server key.
    pub key_file: PathBuf,
}

impl From<&Backend> for Place {
    fn from(process: &Backend) -> Self {
        Self { url: process.url(), key_file: process.server_key_file() }
    }
}

/// A registered server with its players loaded.
pub struct Game {
    /// The store under measurement.
    pub store: PlayerStore,
    /// The raw client it uses.
    pub backend: Arc<HttpBackend>,
    /// Its key.
    pub key: ServerKey,
    /// Its place in the registry.
    pub registration: Registration,
    /// Who plays.
    pub players: Vec<String>,
}

impl Game {
    /// A store with its journal in `folder`, and nobody in it.
    pub async fn start(place: &Place, folder: &Path, pace: Pace) -> Result<(Self, Events)> {
        let clock = Arc::new(SystemClock);
        let config = Config { base_url: place.url.clone(), ..Config::default() };
        let transport = Arc::new(HttpTransport::new(&config)?);
        let backend = Arc::new(HttpBackend::new(config, transport, clock.clone())?);
        let key = ServerKey::read(&place.key_file)?;
        let registration =
            Registration::new(backend.clone(), clock.clone(), key.clone(), WAIT_TIMEOUT, Arc::new(|_| {}));
        registration.register(description()).await?;
        let (sender, events) = unbounded_channel();
        let on_event: OnEvent = Arc::new(move |event| {
            // Nobody listens while a part does not care.
            let _nobody_listens = sender.send((Instant::now(), event));
        });
        let store = PlayerStore::new(Setup {
            backend: backend.clone(),
            clock,
            registration: registration.clone(),
            journal: Arc::new(JournalFolder::new(folder)),
            pace,
            on_event,
        });
        Ok((Self { store, backend, key, registration, players: Vec::new() }, events))
    }

    /// Makes accounts and lets them in.
    pub async fn welcome(&mut self, players: usize) -> Result<()> {
        let mut ids = Vec::with_capacity(players);
        let mut making = JoinSet::new();
        for number in 0..players {
            if making.len() >= AT_ONCE {
                ids.push(joined(making.join_next().await)?);
            }
            let backend = self.backend.clone();
            making.spawn(async move {
                let login = AnonymousLogin { display_name: Some(format!("Player {number}")) };
                anyhow::Ok(backend.login_anonymous(&login).await?.player_id)
            });
        }
        while !making.is_empty() {
            ids.push(joined(making.join_next().await)?);
        }
        ids.sort();
        self.admit(ids).await
    }

    /// Lets players in who have accounts.
    pub async fn admit(&mut self, ids: Vec<String>) -> Result<()> {
        let mut entering = JoinSet::new();
        for id in ids.clone() {
            if entering.len() >= AT_ONCE {
                joined(entering.join_next().await)?;
            }
            let store = self.store.clone();
            entering.spawn(async move { anyhow::Ok(store.load(&id, WAIT_TIMEOUT).await.map(drop)?) });
        }
        while !entering.is_empty() {
            joined(entering.join_next().await)?;
        }
        self.players = ids;
        Ok(())
    }
}

fn joined<T>(one: Option<Result<Result<T>, tokio::task::JoinError>>) -> Result<T> {
    one.context("nobody was on the way")??
}

/// A document of [`DOCUMENT_BYTES`] that differs from every other number's.
pub fn document(number: u64) -> Result<Content> {
    let mut content = Content::new();
    content.insert("number".into(), json!(number));
    content.insert("inventory".into(), json!(""));
    let bare = serde_json::to_string(&content)?.len();
    ensure!(bare <= DOCUMENT_BYTES, "no room");
    content.insert("inventory".into(), json!("x".repeat(DOCUMENT_BYTES - bare)));
    Ok(content)
}

fn description() -> ServerDescription {
    ServerDescription {
        name: "Bench".into(),
        address: "127.0.0.1".into(),
        port: 9,
        max_players: 10_000,
        ..ServerDescription::default()
    }
}
