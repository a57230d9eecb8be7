//! The one database, SQLite or PostgreSQL, behind one set of SQL.

pub(crate) mod batch_loader;
mod group_commit;
pub(crate) mod location;
mod migrations;
pub(crate) mod secrets;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row};
use tokio::time::timeout;
use uuid::Uuid;

pub use group_commit::WriteGuard;
use group_commit::Writer;
use migrations::MIGRATIONS;

use crate::config::redact_secrets;

/// A transaction, with the database's time at its beginning. What was done is undone unless it is committed.
pub struct Transaction {
    /// Run statements on this.
    pub conn: WriteConnection,
    /// Milliseconds since 1970 by the database's clock.
    pub now: i64,
}

/// The connection of a transaction.
pub enum WriteConnection {
    /// A part of SQLite's shared transaction.
    Grouped(WriteGuard),
    /// A transaction of PostgreSQL.
    Own(sqlx::Transaction<'static, Any>),
}

impl std::ops::Deref for WriteConnection {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Grouped(guard) => guard.connection(),
            Self::Own(own) => own,
        }
    }
}

impl std::ops::DerefMut for WriteConnection {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Grouped(guard) => guard.connection_mut(),
            Self::Own(own) => own,
        }
    }
}

impl Transaction {
    /// Commits, durably.
    pub async fn commit(self) -> sqlx::Result<()> {
        match self.conn {
            WriteConnection::Grouped(guard) => guard.commit().await,
            WriteConnection::Own(own) => own.commit().await,
        }
    }
}

/// Longest time that the first connection takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no connection can be made.
async fn connect_error(url: &str) -> sqlx::Error {
    match timeout(CONNECT_TIMEOUT, AnyConnection::connect(url)).await {
        Ok(Err(error)) => error,
        Ok(Ok(_)) | Err(_) => sqlx::Error::PoolTimedOut,
    }
}

/// A pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: AnyPool,
    sqlite: bool,
    /// SQLite has one.
    writer: Option<Writer>,
    /// Of the backend whose data this is.
    backend_id: Arc<str>,
}

impl Database {
    /// Opens `location`, a SQLite file (made if absent) or a `postgres://` URL, and brings its schema up to date.
    pub async fn open(location: &str) -> anyhow::Result<Self> {
        sqlx::any::install_default_drivers();
        location::check(location)?;
        let url = location::url(location);
        let sqlite = url.starts_with("sqlite:");
        let named = || format!("--database {}", redact_secrets(location));
        if sqlite {
            location::create_file(location).with_context(named)?;
        } else {
            location::check_certificates(location).with_context(named)?;
            for parameter in location::postgres_url(location).1 {
                tracing::warn!("--database: {parameter} is not used");
            }
        }
        let pool = AnyPoolOptions::new()
            .max_connections(if sqlite { 8 } else { 16 })
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        // FULL: NORMAL loses acknowledged saves in a power cut.
                        for pragma in [
                            "PRAGMA busy_timeout = 5000",
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = FULL",
                            "PRAGMA foreign_keys = ON",
                        ] {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await;
        let pool = match pool {
            // For as long as nobody answers, the pool tries again, and then does not say why.
            Err(sqlx::Error::PoolTimedOut) => Err(connect_error(&url).await),
            pool => pool,
        };
        let pool = pool.with_context(|| format!("{}: the database cannot be opened", named()))?;
        let writer = sqlite.then(|| Writer::new(pool.clone()));
        let mut database = Self { pool, sqlite, writer, backend_id: "".into() };
        database.require_durable_commits().await?;
        MIGRATIONS
            .run(&database.pool)
            .await
            .with_context(|| format!("{}: the schema cannot be brought up to date", named()))?;
        database.set_fillfactor().await?;
        database.backend_id = database.identity().await.context("cannot read the backend's identity")?.into();
        Ok(database)
    }

    /// Identity of the backend whose data this is: the same for all replicas, and after a restored backup.
    pub fn backend_id(&self) -> &str {
        &self.backend_id
    }

    /// Created by the first process that opens the database.
    async fn identity(&self) -> sqlx::Result<String> {
        sqlx::query(
            "INSERT INTO backend_identity (id, backend_id) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
        )
        .bind(Uuid::new_v4().to_string())
        .execute(&self.pool)
        .await?;
        sqlx::query("SELECT backend_id FROM backend_identity WHERE id = 1")
            .fetch_one(&self.pool)
            .await?
            .try_get("backend_id")
    }

    async fn require_durable_commits(&self) -> anyhow::Result<()> {
        if self.sqlite {
            let synchronous: i64 =
                sqlx::query("PRAGMA synchronous").fetch_one(&self.pool).await?.try_get(0)?;
            if synchronous < 2 {
                bail!("SQLite does not run with synchronous=FULL");
            }
        } else {
            let commit: String = sqlx::query("SELECT current_setting('synchronous_commit')")
                .fetch_one(&self.pool)
                .await?
                .try_get(0)?;
            if commit == "off" {
                bail!("PostgreSQL runs with synchronous_commit=off: acknowledged saves could be lost");
            }
        }
        Ok(())
    }

    /// Rows that are written over and over get room for it on their page: there PostgreSQL writes a new version of one without
    /// touching an index, and tidies up in passing. SQLite has one version of a row.
    async fn set_fillfactor(&self) -> anyhow::Result<()> {
        if self.sqlite {
            return Ok(());
        }
        for table in ["servers", "server_players", "player_leases", "documents"] {
            // Only once: it waits for a running vacuum of the table.
            let count: i64 = sqlx::query(
                "SELECT COUNT(*) FROM pg_class WHERE oid = CAST($1 AS regclass) AND 'fillfactor=70' = ANY(reloptions)",
            )
            .bind(table)
            .fetch_one(&self.pool)
            .await?
            .try_get(0)?;
            if count == 0 {
                let sql = format!("ALTER TABLE {table} SET (fillfactor = 70)");
                sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await?;
            }
        }
        Ok(())
    }

    /// Whether it is SQLite, for the few statements that have to differ.
    pub const fn is_sqlite(&self) -> bool {
        self.sqlite
    }

    /// For single statements that only read.
    pub const fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        if let Some(writer) = &self.writer {
            let (guard, now) = writer.begin(self.select_clock()).await?;
            return Ok(Transaction { conn: WriteConnection::Grouped(guard), now });
        }
        let mut tx = self.pool.begin().await?;
        let now: i64 = sqlx::query(self.select_clock()).fetch_one(&mut *tx).await?.try_get(0)?;
        Ok(Transaction { conn: WriteConnection::Own(tx), now })
    }

    /// Milliseconds since 1970 by the database's clock.
    pub async fn now(&self) -> sqlx::Result<i64> {
        sqlx::query(self.select_clock()).fetch_one(&self.pool).await?.try_get(0)
    }

    const fn select_clock(&self) -> &'static str {
        if self.sqlite {
            "SELECT CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)"
        } else {
            "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
        }
    }

    /// Milliseconds since 1970 by the database's clock, as a part of a statement.
    pub fn clock(&self) -> &'static str {
        self.select_clock().trim_start_matches("SELECT ")
    }

    /// A condition: one of the strings in the JSON list `placeholder`. However many there are, the statement is the same.
    pub fn is_in(&self, placeholder: &str) -> String {
        if self.sqlite {
            format!("IN (SELECT value FROM json_each({placeholder}))")
        } else {
            format!("= ANY(ARRAY(SELECT json_array_elements_text(CAST({placeholder} AS json))))")
        }
    }

    /// Appended to a SELECT whose rows the transaction goes on to change. SQLite has one writer anyway.
    pub const fn for_update(&self) -> &'static str {
        if self.sqlite { "" } else { " FOR UPDATE" }
    }

    /// Waits for running statements and closes all connections.
    pub async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        self.pool.close().await;
    }
}

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(milliseconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(milliseconds / 1000)
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

/// A column that counts and is never negative.
pub fn unsigned(row: &AnyRow, column: &str) -> sqlx::Result<u32> {
    let value: i64 = row.try_get(column)?;
    Ok(u32::try_from(value).unwrap_or_default())
}
