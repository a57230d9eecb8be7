//! The backend's API as far as contestants call it, without a database behind it: what is measured is the caller.

mod players;
mod rooms;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use backend_client::protocol::registration::{Heartbeat, HeartbeatReply};
use backend_client::protocol::routes;
use backend_client::protocol::validation::{TokenKind, Validate, Validated};
use serde::{Deserialize, Serialize};
use test_harness::process::Process;
use tokio::net::TcpListener;

use crate::cpu_affinity::{Side, pinned};

/// What servers show to it.
pub const KEY: &str = "gsk_bench_0123456789abcdef0123456789abcdef0123456789abcdef";
/// The server whose heartbeats it takes.
pub const SERVER: &str = "server-1";
/// How tokens begin whose replies never come.
pub const HELD: &str = "held";
/// Where it does nothing at all.
pub const EMPTY: &str = "/empty";
const LISTENING: &str = "listening on ";
const COUNTS: &str = "/counts";
/// As many as there are cores for it.
const WORKERS: usize = 2;

/// A running server.
pub struct BareServer {
    url: String,
    process: Process,
}

impl BareServer {
    /// Starts it on its cores.
    pub fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve");
        let process = Process::start("bare-server", pinned(Side::Server, &command))?;
        let line = process.log().wait_for(LISTENING)?;
        let (_, url) = line.split_once(LISTENING).context("no address")?;
        Ok(Self { url: url.to_owned(), process })
    }

    /// Its base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Result<Counts> {
        let client = reqwest::blocking::Client::builder().no_proxy().build()?;
        Ok(client.get(format!("{}{COUNTS}", self.url)).send()?.json()?)
    }

    /// Documents of players that it has answered as applied so far.
    pub fn documents(&self) -> Result<usize> {
        let client = reqwest::blocking::Client::builder().no_proxy().build()?;
        Ok(client.get(format!("{}{}", self.url, players::DOCUMENTS)).send()?.json()?)
    }
}

/// What a server has seen.
#[derive(Serialize, Deserialize)]
pub struct Counts {
    /// Connections accepted, those left out that asked for the counts.
    pub connections: usize,
    /// Calls answered.
    pub calls: usize,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    calls: AtomicUsize,
}

/// The process itself.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        let seen = Arc::new(Seen::default());
        let router = Router::new()
            .route(routes::VALIDATE, post(validate))
            .route(routes::HEARTBEAT, post(heartbeat))
            .route(EMPTY, get(|| async {}))
            .route(COUNTS, get(counts))
            .with_state(Arc::clone(&seen))
            .merge(rooms::routes())
            .merge(players::routes());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{LISTENING}http://{}", listener.local_addr()?);
        let listener = listener.tap_io(move |stream| {
            seen.connections.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = stream.set_nodelay(true) {
                eprintln!("no TCP_NODELAY: {error}");
            }
        });
        Ok(axum::serve(listener, router).await?)
    })
}

async fn validate(
    State(seen): State<Arc<Seen>>,
    headers: HeaderMap,
    Json(body): Json<Validate>,
) -> Result<Json<Validated>, StatusCode> {
    seen.calls.fetch_add(1, Ordering::Relaxed);
    if !shows_key(&headers) || body.token.is_empty() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    if body.token.starts_with(HELD) {
        // Until whoever waits goes away.
        std::future::pending::<()>().await;
    }
    Ok(Json(Validated {
        player_id: "player-1".into(),
        display_name: "Ada".into(),
        kind: TokenKind::Access,
        expires_in: 600,
        ticket_id: None,
    }))
}

async fn heartbeat(
    State(seen): State<Arc<Seen>>,
    UrlPath(server): UrlPath<String>,
    headers: HeaderMap,
    Json(body): Json<Heartbeat>,
) -> Result<Json<HeartbeatReply>, StatusCode> {
    seen.calls.fetch_add(1, Ordering::Relaxed);
    if !shows_key(&headers) || server != SERVER {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(Json(HeartbeatReply {
        lease_seconds: 30,
        heartbeat_seconds: 10,
        drain: false,
        rolled_back: false,
        wanted: Vec::new(),
        conflicts: Vec::new(),
        revocations: Vec::new(),
        revocations_as_of: body.revocations_after.unwrap_or_default(),
        key_ids: Some(vec!["0123456789abcdef".into()]),
        invite_code: None,
        room: None,
    }))
}

/// Whether a request shows [`KEY`].
pub fn shows_key(headers: &HeaderMap) -> bool {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    shown.and_then(|value| value.strip_prefix("Bearer ")) == Some(KEY)
}

async fn counts(State(seen): State<Arc<Seen>>) -> Json<Counts> {
    // The connection that asks is not one of theirs.
    let connections = seen.connections.fetch_sub(1, Ordering::Relaxed) - 1;
    Json(Counts { connections, calls: seen.calls.load(Ordering::Relaxed) })
}
