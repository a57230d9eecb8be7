//! A game server as far as saving goes: the product's parts put together as the addon does it, and its players.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backend_client::clock::SystemClock;
use backend_client::journal::JournalFolder;
use backend_client::player_store::{Content, Event, OnEvent, Pace, PlayerStore, Setup};
use backend_client::protocol::session::AnonymousLogin;
use backend_client::registration::{Registration, ServerDescription};
use backend_client::transport::HttpTransport;
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use end_to_end::backend::Backend;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longest time anything takes that has to succeed.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A pace at which nothing is sent unless somebody flushes.
pub const NEVER: Pace =
    Pace { debounce: Duration::from_secs(86_400), max_delay: Duration::from_secs(86_400) };
/// Bytes of JSON of a document.
pub const DOCUMENT_BYTES: usize = 2_048;
/// Logins and loads on their way at a time.
const AT_ONCE: usize = 32;

/// Events, each with the moment it was told.
pub type Events = UnboundedReceiver<(Instant, Event)>;

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
    /// Makes accounts and loads them into a store with its journal in `folder`.
    pub async fn start(
        process: &Backend,
        folder: &Path,
        pace: Pace,
        players: usize,
    ) -> Result<(Self, Events)> {
        let clock = Arc::new(SystemClock);
        let config = Config { base_url: process.url(), ..Config::default() };
        let transport = Arc::new(HttpTransport::new(&config)?);
        let backend = Arc::new(HttpBackend::new(config, transport, clock.clone())?);
        let key = ServerKey::read(&process.server_key_file())?;
        let registration =
            Registration::new(backend.clone(), clock.clone(), key.clone(), PATIENCE, Arc::new(|_| {}));
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
        let mut ids = Vec::with_capacity(players);
        let mut entering = JoinSet::new();
        for number in 0..players {
            if entering.len() >= AT_ONCE {
                ids.push(entered(entering.join_next().await)?);
            }
            let (backend, store) = (backend.clone(), store.clone());
            entering.spawn(async move {
                let login = AnonymousLogin { display_name: Some(format!("Player {number}")) };
                let player_id = backend.login_anonymous(&login).await?.player_id;
                store.load(&player_id, PATIENCE).await?;
                anyhow::Ok(player_id)
            });
        }
        while !entering.is_empty() {
            ids.push(entered(entering.join_next().await)?);
        }
        ids.sort();
        Ok((Self { store, backend, key, registration, players: ids }, events))
    }
}

fn entered(joined: Option<Result<Result<String>, tokio::task::JoinError>>) -> Result<String> {
    joined.context("nobody was entering")??
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
        map: String::new(),
        mode: String::new(),
        region: String::new(),
        version: String::new(),
        tags: Vec::new(),
        max_players: 10_000,
        certificate: None,
    }
}
