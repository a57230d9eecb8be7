//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::accounts::mail;
#[cfg(target_os = "linux")]
use crate::allocation::docker::DockerAllocator;
use crate::allocation::local::LocalAllocator;
use crate::allocation::settings::AllocationSettings;
use crate::allocation::{self, Allocation, Allocator};
use crate::auth::authorization::AuthorizationLoader;
use crate::auth::identity_providers::IdentityProviders;
use crate::auth::password_hash::PasswordHashes;
use crate::auth::server_keys;
use crate::auth::server_keys::KeyUses;
use crate::auth::tokens::Tokens;
use crate::config::Config;
use crate::database::Database;
use crate::http::connection_limit::ConnectionLimit;
use crate::http::listener;
use crate::http::rate_limit::RateLimits;
use crate::jobs::{self, expiry, served};
use crate::matchmaking::settings::Matchmaking;
use crate::player_store::epochs::Epochs;
use crate::relay::Relay;
use crate::rooms::follow;
use crate::rooms::loaders::RoomLoaders;
use crate::served_time::Served;
use crate::state::{AppState, Shared};
use crate::world_store::objects::Objects;
use crate::{health, matchmaking, registration, relay, router};

/// Longest wait for requests in progress when stopping.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

const CANNOT_LISTEN: &str =
    "cannot listen there; stop the program that does, or choose another address or port (0: a free one)";

/// A backend that serves.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its relay listens.
    pub relay_address: Option<SocketAddr>,
    /// A server key that was made just now and is nowhere else.
    pub new_server_key: Option<String>,
    state: AppState,
    serving: JoinHandle<()>,
    /// What can be aborted at any time: the next start goes on with it.
    background: JoinSet<()>,
    mailing: JoinHandle<()>,
    allocating: Option<JoinHandle<()>>,
}

/// Opens the database, loads the keys and begins to serve.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    health::collect_metrics();
    let matchmaking = Matchmaking::load(config.matchmaking.as_deref())?;
    let allocation = AllocationSettings::load(
        config.rooms_on_demand.as_deref(),
        config.spare_servers,
        config.room_process_program.as_deref(),
    )?;
    matchmaking.check(allocation.is_some())?;
    let database = Database::open(&config.database).await?;
    let tokens = Tokens::load(&database, &config).await?;
    let epochs = Epochs::load(&database).await?;
    let objects = Arc::new(Objects::open(&config, &database).await?);
    server_keys::prepare(&database, &config).await?;
    registration::fold_names(&database).await?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("--listen {}: {}", config.listen, CANNOT_LISTEN))?;
    let address = listener.local_addr()?;
    let relay = Relay::bind(&config, &database).await?;
    let passwords = PasswordHashes::new()?;
    let rate_limits = RateLimits::new(&config);
    let stopping = CancellationToken::new();
    let identity_providers =
        IdentityProviders::new(&config.identity_providers, config.identity_hook_secret.clone())?;
    let transport = mail::MailTransport::new(&config)?;
    let (mail_queue, mail_jobs) = mail::queue::queue();
    let authorization = AuthorizationLoader::new(&config.scope());
    let state = AppState(Arc::new(Shared {
        email_accounts: mail::email_accounts(&config),
        mail: mail_queue,
        matchmaking,
        allocation: Allocation::new(allocation),
        identity_providers,
        config,
        database,
        tokens,
        epochs,
        passwords,
        rate_limits,
        authorization,
        rooms: RoomLoaders::default(),
        key_uses: KeyUses::default(),
        objects,
        relay,
        served: Served::default(),
        stopping,
    }));
    let allocator = allocator(&state, address)?;
    if let Some(allocator) = &allocator {
        state.allocation.set_allocator(allocator);
    }
    expiry::extend_leases_after_start(&state).await?;
    if let Some(relay) = &state.relay {
        relay.end_former_rooms(&state).await?;
    }
    // The last that can fail: a key of a start that failed would be shown to nobody.
    let new_server_key = server_keys::create_first(&state.database, &state.config).await?;

    let app = router::app(state.clone());
    let (limit, timeout) = (ConnectionLimit::new(&state.config), state.config.slow_client_timeout());
    let serving = tokio::spawn(listener::serve(listener, app, limit, timeout, state.stopping.clone()));
    let mut background = JoinSet::new();
    background.spawn(jobs::run(state.clone()));
    background.spawn(served::run(state.clone()));
    let with_keys = state.clone();
    background.spawn(async move { with_keys.tokens.reload_keys(&with_keys.database).await });
    // Matches that are half formed are undone by the database; the next replica goes on.
    background.spawn(matchmaking::run(state.clone()));
    background.spawn(follow::run(state.clone()));
    background.spawn(follow::notify_replicas(state.clone()));
    if state.relay.is_some() {
        background.spawn(relay::run(state.clone()));
    }
    let mailing = mail::run(state.clone(), transport, mail_jobs);
    let allocating = allocator.map(|allocator| tokio::spawn(allocation::run(state.clone(), allocator)));
    let relay_address = state.relay.as_ref().map(Relay::local_address);
    Ok(Running { address, relay_address, new_server_key, state, serving, background, mailing, allocating })
}

/// What starts servers, if the settings have it.
#[cfg(target_os = "linux")]
fn allocator(state: &AppState, address: SocketAddr) -> anyhow::Result<Option<Arc<dyn Allocator>>> {
    let Some(settings) = state.allocation.settings() else { return Ok(None) };
    let (url, key_file) = (settings.url_of(address), state.config.server_key_file.as_deref());
    let scope = state.config.scope();
    Ok(Some(match &settings.docker {
        Some(docker) => Arc::new(DockerAllocator::new(settings, docker, &scope, url, key_file)?),
        None => Arc::new(LocalAllocator::new(settings, &scope, url, key_file)?),
    }))
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "it fails where servers are started")]
fn allocator(_state: &AppState, _address: SocketAddr) -> anyhow::Result<Option<Arc<dyn Allocator>>> {
    Ok(None)
}

impl Running {
    /// What its handlers can reach.
    #[cfg(test)]
    pub(crate) const fn state(&self) -> &AppState {
        &self.state
    }

    /// Removes worlds' objects that nothing refers to now, rather than within the next minute.
    pub async fn remove_unreferenced_objects(&self) -> anyhow::Result<()> {
        jobs::world_objects::run_once(&self.state, 0).await
    }

    /// Takes out what is past its time now, rather than within the next minute.
    pub async fn remove_expired(&self) -> anyhow::Result<()> {
        Ok(expiry::run_once(&self.state).await?)
    }

    /// Stops taking requests, finishes those in progress within ten seconds, and closes the database.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.state.stopping.cancel();
        if let Some(relay) = &self.state.relay {
            // While there is a database to take the rooms off the list.
            relay.stop().await;
        }
        self.background.abort_all();
        // Streams would go on for ever. Followers go on at another replica.
        self.state.rooms.followers.close();
        // Servers go on: the next start of the backend finds them.
        if let Some(allocating) = self.allocating.take() {
            allocating.abort();
            // Once it has ended, the log folder is free for that one.
            let _aborted = allocating.await;
        }
        self.state.allocation.notify();
        let finished = tokio::time::timeout(DRAIN_TIMEOUT, &mut self.serving).await;
        if finished.is_err() {
            tracing::warn!("requests were still running after {} s", DRAIN_TIMEOUT.as_secs());
            self.serving.abort();
        }
        // Players can request a queued mail again.
        self.mailing.abort();
        served::finish(&self.state).await;
        self.state.database.close().await;
        match finished {
            Ok(served) => Ok(served?),
            Err(_) => Ok(()),
        }
    }
}
