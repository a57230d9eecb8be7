//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accounts::mail;
use crate::auth::authorization::Standings;
use crate::auth::identity_providers::Identities;
use crate::auth::password_hash::Passwords;
use crate::auth::server_keys;
use crate::auth::server_keys::KeyUses;
use crate::auth::tokens::Tokens;
use crate::config::Config;
use crate::database::Database;
use crate::http::listener;
use crate::http::rate_limit::RateLimits;
use crate::jobs::{self, expiry};
use crate::player_store::epochs::Epochs;
use crate::rooms::Rooms;
use crate::state::{AppState, Shared};
use crate::world_store::objects::Objects;
use crate::{health, registration, router};

/// Longest wait for requests in progress when stopping.
const DRAIN: Duration = Duration::from_secs(10);

const WHEN_NOT_LISTENING: &str =
    "cannot listen there; stop the program that does, or choose another address or port (0: a free one)";

/// A backend that serves.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// A server key that was made just now and is nowhere else.
    pub new_server_key: Option<String>,
    state: AppState,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    following_keys: JoinHandle<()>,
    mailing: JoinHandle<()>,
}

/// Opens the database, loads the keys and begins to serve.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    health::collect_metrics();
    let mut database = Database::open(&config.database).await?;
    if let Err(error) = database.watch().await {
        tracing::warn!("reads will ask the database each time: {error:#}");
    }
    let tokens = Tokens::load(&database, &config).await?;
    let epochs = Epochs::load(&database).await?;
    let objects = Arc::new(Objects::open(&config, &database).await?);
    let new_server_key = server_keys::provide(&database, &config).await?;
    registration::fold_names(&database).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("--listen {}: {}", config.listen, WHEN_NOT_LISTENING))?;
    let address = listener.local_addr()?;
    let passwords = Passwords::new()?;
    let rate_limits = RateLimits::default();
    let stopping = AtomicBool::new(false);
    let identities = Identities::new(&config)?;
    let sender = mail::Sender::new(&config)?;
    let (mailbox, letters) = mail::mailbox();
    let standings = Standings::new(&config.scope());
    let state = AppState(Arc::new(Shared {
        email_accounts: mail::email_accounts(&config),
        mail: mailbox,
        identities,
        config,
        database,
        tokens,
        epochs,
        passwords,
        rate_limits,
        standings,
        rooms: Rooms::default(),
        key_uses: KeyUses::default(),
        objects,
        stopping,
    }));
    expiry::grace_after_start(&state).await?;

    let (stop, mut stopped) = watch::channel(false);
    let (app, serving_state) = (router::app(state.clone()), state.clone());
    let serving = tokio::spawn(async move {
        let signal = async move {
            // Err: whoever could stop us is gone, which is a stop as well.
            let _sender_gone = stopped.wait_for(|stop| *stop).await;
        };
        listener::serve(listener, app, serving_state, signal).await;
    });
    let sweeping = tokio::spawn(jobs::run(state.clone()));
    let followed = state.clone();
    let following_keys = tokio::spawn(async move { followed.tokens.follow(&followed.database).await });
    let mailing = mail::run(state.clone(), sender, letters);
    Ok(Running { address, new_server_key, state, stop, serving, sweeping, following_keys, mailing })
}

impl Running {
    /// Removes worlds' objects that nothing refers to now, rather than within the next minute.
    pub async fn sweep_worlds(&self) -> anyhow::Result<()> {
        jobs::world_objects::once(&self.state, 0).await
    }

    /// Takes out what is past its time now, rather than within the next minute.
    pub async fn sweep(&self) -> anyhow::Result<()> {
        Ok(expiry::once(&self.state).await?)
    }

    /// Stops taking requests, finishes those in progress within ten seconds, and closes the database.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.state.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        self.sweeping.abort();
        self.following_keys.abort();
        let finished = tokio::time::timeout(DRAIN, &mut self.serving).await;
        if finished.is_err() {
            tracing::warn!("requests were still running after {} s", DRAIN.as_secs());
            self.serving.abort();
        }
        // A letter that waits can be asked for again.
        self.mailing.abort();
        self.state.database.close().await;
        match finished {
            Ok(served) => Ok(served?),
            Err(_) => Ok(()),
        }
    }
}
