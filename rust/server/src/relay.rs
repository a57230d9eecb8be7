//! The realtime relay: players host rooms, and their messages go through here, over QUIC (RFC 9000, RFC 9221).
//!
//! It holds nothing but live connections. A room is an entry of the registry like a game server's; whoever has a ticket for it is
//! let in, verified with the backend's own keys, also while the database is away. Payloads are not looked at.

mod admission;
mod budget;
mod endpoint;
pub mod hosting;
mod joining;
mod listing;
mod member;
mod reading;
mod room;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use backend_protocol::relay::CloseReason;
use quinn::Endpoint;
use sqlx::Row;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use self::joining::Joining;
use self::room::Room;
use crate::auth::server_keys;
use crate::config::{Config, relay as config};
use crate::database::Database;
use crate::rooms::{changes, invite_codes, seats};
use crate::state::AppState;

/// Longest wait for players to receive what is under way, and for rooms to leave the list, when the relay stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A relay that listens.
pub struct Relay {
    endpoint: Endpoint,
    local_address: SocketAddr,
    /// Where players connect.
    public_address: String,
    /// PEM: what players insist on.
    certificate: String,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
    /// One for each player who may connect.
    places: Arc<Semaphore>,
    most_rooms: usize,
    /// Connections that have not shown a ticket yet.
    joining: Joining,
    /// Connections and the listings of rooms.
    tasks: TaskTracker,
}

impl Relay {
    /// Listens, if the settings have a relay.
    pub async fn bind(settings: &Config, database: &Database) -> anyhow::Result<Option<Self>> {
        let Some(listen) = settings.relay_listen else { return Ok(None) };
        let public_address = config::public_address(settings, listen);
        let (endpoint, certificate) = endpoint::bind(listen, &public_address).with_context(|| {
            format!("--relay-listen {listen}: cannot listen there; choose another address or port")
        })?;
        let local_address = endpoint.local_addr()?;
        server_keys::of_relay(database, settings).await?;
        Ok(Some(Self {
            endpoint,
            local_address,
            public_address,
            certificate,
            rooms: Mutex::default(),
            places: Arc::new(Semaphore::new(settings.relay_max_players as usize)),
            // Each has a host.
            most_rooms: settings.relay_max_players as usize,
            joining: Joining::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Where it listens.
    pub const fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<String, Arc<Room>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, room_id: &str) -> Option<Arc<Room>> {
        self.rooms().get(room_id).cloned()
    }

    /// Takes rooms off the list that a process at this address had and could not take off itself: their players are gone.
    pub async fn end_former_rooms(&self, state: &AppState) -> anyhow::Result<()> {
        let Some(key_hash) = server_keys::of_relay(&state.database, &state.config).await? else {
            return Ok(());
        };
        let mut tx = state.database.begin().await?;
        let rows = sqlx::query(
            "UPDATE servers SET lease_until = 0 WHERE key_hash = $1 AND address = $2 AND port = $3 AND lease_until > 0 \
             RETURNING server_id",
        )
        .bind(key_hash)
        .bind(&self.public_address)
        .bind(i64::from(self.local_address.port()))
        .fetch_all(&mut *tx.conn)
        .await?;
        let ended = rows.iter().map(|row| row.try_get("server_id")).collect::<sqlx::Result<Vec<String>>>()?;
        for room_id in &ended {
            invite_codes::remove(&mut tx, room_id).await.map_err(|error| anyhow::anyhow!(error.0.detail))?;
            seats::end_all(&state.database, &mut tx, room_id)
                .await
                .map_err(|error| anyhow::anyhow!(error.0.detail))?;
        }
        changes::record(&state.database, &mut tx, &ended).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends all rooms, tells their players, and takes the rooms off the list.
    pub async fn stop(&self) {
        let rooms: Vec<_> = self.rooms().values().cloned().collect();
        for room in rooms {
            room.end(CloseReason::RelayStopping);
        }
        self.tasks.close();
        if tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the relay's players were still connected after {} s", STOP_TIMEOUT.as_secs());
        }
        self.endpoint.close(u32::from(CloseReason::RelayStopping.number()).into(), b"");
    }
}

/// Lets players in until the process stops.
pub async fn run(state: AppState) {
    let Some(relay) = &state.relay else { return };
    while let Some(incoming) = relay.endpoint.accept().await {
        if state.is_stopping() {
            incoming.refuse();
        } else if let Some(incoming) = admission::proven(relay, incoming) {
            let task = admission::serve(state.clone(), incoming);
            relay.tasks.spawn(task);
        }
    }
}
