//! Notifications between replicas: `LISTEN` and `NOTIFY` of PostgreSQL. They make reading soon; who misses one reads a second later.

use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::database::location;
use crate::state::AppState;

const CHANNEL: &str = "backend_room_changes";
/// Shortest time between two notifications of a process: each is a commit that waits for all others that notify.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(50);
/// Wait after a connection for notifications could not be made.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until the task is aborted. Notifies other replicas that this one has changed rooms, after the commit.
pub async fn notify_replicas(state: AppState) {
    if state.database.is_sqlite() {
        return;
    }
    loop {
        state.rooms.followers.committed().await;
        let sent = sqlx::query("SELECT CAST(pg_notify($1, '') AS TEXT)").bind(CHANNEL);
        if let Err(error) = sent.execute(state.database.pool()).await {
            tracing::debug!(%error, "other replicas were not notified of changed rooms; they read within a second");
        }
        tokio::time::sleep(NOTIFY_INTERVAL).await;
    }
}

/// A connection that receives other replicas' notifications; none on SQLite, whose one process knows.
pub struct Notifications {
    url: Option<String>,
    listener: Option<PgListener>,
    /// Makes the connection, beside the readings: a server without a connection to spare answers late.
    connecting: JoinSet<sqlx::Result<PgListener>>,
    retry_at: Instant,
}

impl Notifications {
    pub fn new(state: &AppState) -> Self {
        let url = (!state.database.is_sqlite()).then(|| location::url(&state.config.database));
        Self { url, listener: None, connecting: JoinSet::new(), retry_at: Instant::now() }
    }

    /// Begins to make the connection if there is none.
    pub fn connect(&mut self) {
        let Some(url) = self.url.clone() else { return };
        if self.listener.is_some() || !self.connecting.is_empty() || Instant::now() < self.retry_at {
            return;
        }
        self.connecting.spawn(async move {
            let mut listener = PgListener::connect(&url).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        });
    }

    /// Completes with a notification, and when there may have been some that were not received.
    pub async fn received(&mut self) {
        if let Some(listener) = &mut self.listener {
            if let Err(error) = listener.recv().await {
                self.lost(&error);
            }
            return;
        }
        match self.connecting.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Ok(listener))) => self.listener = Some(listener),
            Some(Ok(Err(error))) => self.lost(&error),
            Some(Err(_)) => self.lost(&sqlx::Error::WorkerCrashed),
        }
    }

    fn lost(&mut self, error: &sqlx::Error) {
        tracing::debug!(%error, "no notifications of changed rooms from other replicas; they are read every second");
        self.listener = None;
        self.retry_at = Instant::now() + RECONNECT_INTERVAL;
    }

    /// Closes the connection.
    pub fn disconnect(&mut self) {
        self.listener = None;
        self.connecting = JoinSet::new();
    }
}
