//! Notifications between replicas: `LISTEN` and `NOTIFY` of PostgreSQL. They make reading soon; who misses one reads a second later.

use std::time::Duration;

use sqlx::postgres::PgListener;
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
    retry_at: Instant,
}

impl Notifications {
    pub fn new(state: &AppState) -> Self {
        let url = (!state.database.is_sqlite()).then(|| location::url(&state.config.database));
        Self { url, listener: None, retry_at: Instant::now() }
    }

    /// Makes the connection if there is none.
    pub async fn connect(&mut self) {
        let Some(url) = &self.url else { return };
        if self.listener.is_some() || Instant::now() < self.retry_at {
            return;
        }
        let connected = async {
            let mut listener = PgListener::connect(url).await?;
            listener.listen(CHANNEL).await?;
            sqlx::Result::Ok(listener)
        };
        match connected.await {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => self.lost(&error),
        }
    }

    /// Completes with a notification.
    pub async fn received(&mut self) {
        match &mut self.listener {
            None => std::future::pending().await,
            Some(listener) => {
                if let Err(error) = listener.recv().await {
                    self.lost(&error);
                }
            }
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
    }
}
