//! What the backend really did, taken from its database behind its back: triggers write every application of a save,
//! every kept conflict and every new epoch into a log of our own, in the transaction that does it.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tokio::runtime::Runtime;

use crate::history::History;

const SQLITE: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS chaos_log (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, player_id TEXT NOT NULL, \
     document_key TEXT, version BIGINT, epoch BIGINT, sequence BIGINT, value TEXT)",
    "CREATE INDEX IF NOT EXISTS chaos_log_player ON chaos_log (player_id)",
    "CREATE TRIGGER IF NOT EXISTS chaos_insert AFTER INSERT ON documents BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, version, epoch, sequence, value) \
     VALUES ('applied', NEW.player_id, NEW.document_key, NEW.version, NEW.epoch, NEW.sequence, NEW.value); END",
    "CREATE TRIGGER IF NOT EXISTS chaos_update AFTER UPDATE ON documents BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, version, epoch, sequence, value) \
     VALUES ('applied', NEW.player_id, NEW.document_key, NEW.version, NEW.epoch, NEW.sequence, NEW.value); END",
    "CREATE TRIGGER IF NOT EXISTS chaos_conflict AFTER INSERT ON save_conflicts BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, epoch, sequence, value) \
     VALUES ('conflict', NEW.player_id, NEW.document_key, NEW.epoch, NEW.sequence, NEW.value); END",
    "CREATE TRIGGER IF NOT EXISTS chaos_newer_conflict AFTER UPDATE ON save_conflicts \
     WHEN NEW.resolved_at IS NULL AND NEW.sequence <> OLD.sequence BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, epoch, sequence, value) \
     VALUES ('conflict', NEW.player_id, NEW.document_key, NEW.epoch, NEW.sequence, NEW.value); END",
    "CREATE TRIGGER IF NOT EXISTS chaos_lease AFTER INSERT ON player_leases BEGIN \
     INSERT INTO chaos_log (kind, player_id, epoch, value) VALUES ('lease', NEW.player_id, NEW.epoch, NEW.taken_from); END",
    "CREATE TRIGGER IF NOT EXISTS chaos_next_lease AFTER UPDATE ON player_leases WHEN NEW.epoch <> OLD.epoch BEGIN \
     INSERT INTO chaos_log (kind, player_id, epoch, value) VALUES ('lease', NEW.player_id, NEW.epoch, NEW.taken_from); END",
];

// An identity column draws its number while the rows that the transaction changes are locked: the order of the numbers
// is the order of the changes to a player, if the backend locks what it has to.
const POSTGRES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS chaos_log (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind TEXT NOT NULL, \
     player_id TEXT NOT NULL, document_key TEXT, version BIGINT, epoch BIGINT, sequence BIGINT, value TEXT)",
    "CREATE INDEX IF NOT EXISTS chaos_log_player ON chaos_log (player_id)",
    "CREATE OR REPLACE FUNCTION chaos_applied() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, version, epoch, sequence, value) \
     VALUES ('applied', NEW.player_id, NEW.document_key, NEW.version, NEW.epoch, NEW.sequence, NEW.value); \
     RETURN NEW; END $$",
    "CREATE OR REPLACE FUNCTION chaos_conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     INSERT INTO chaos_log (kind, player_id, document_key, epoch, sequence, value) \
     VALUES ('conflict', NEW.player_id, NEW.document_key, NEW.epoch, NEW.sequence, NEW.value); \
     RETURN NEW; END $$",
    "CREATE OR REPLACE FUNCTION chaos_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
     INSERT INTO chaos_log (kind, player_id, epoch, value) VALUES ('lease', NEW.player_id, NEW.epoch, NEW.taken_from); \
     RETURN NEW; END $$",
    "CREATE OR REPLACE TRIGGER chaos_applied AFTER INSERT OR UPDATE ON documents \
     FOR EACH ROW EXECUTE FUNCTION chaos_applied()",
    "CREATE OR REPLACE TRIGGER chaos_conflict AFTER INSERT ON save_conflicts \
     FOR EACH ROW EXECUTE FUNCTION chaos_conflict()",
    "CREATE OR REPLACE TRIGGER chaos_newer_conflict AFTER UPDATE ON save_conflicts FOR EACH ROW \
     WHEN (NEW.resolved_at IS NULL AND NEW.sequence <> OLD.sequence) EXECUTE FUNCTION chaos_conflict()",
    "CREATE OR REPLACE TRIGGER chaos_lease AFTER INSERT ON player_leases \
     FOR EACH ROW EXECUTE FUNCTION chaos_lease()",
    "CREATE OR REPLACE TRIGGER chaos_next_lease AFTER UPDATE ON player_leases FOR EACH ROW \
     WHEN (NEW.epoch <> OLD.epoch) EXECUTE FUNCTION chaos_lease()",
];

/// A way into the backend's database that is not the backend's.
pub struct GroundTruth {
    runtime: Runtime,
    url: String,
    sqlite: bool,
}

impl GroundTruth {
    /// The database at `url`; nothing is opened yet.
    pub fn new(url: &str) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, url: url.to_owned(), sqlite: url.starts_with("sqlite:") })
    }

    /// Installs the triggers. The backend has made its tables.
    pub fn install(&self) -> Result<()> {
        self.with(async |connection| {
            for statement in if self.sqlite { SQLITE } else { POSTGRES } {
                sqlx::query(AssertSqlSafe(*statement)).execute(&mut *connection).await?;
            }
            Ok(())
        })
    }

    /// Runs one statement, such as the creation of a database.
    pub fn execute(&self, statement: &str) -> Result<()> {
        self.with(async |connection| {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
            Ok(())
        })
    }

    /// Number of the last thing in the log.
    pub fn position(&self) -> Result<i64> {
        self.with(async |connection| {
            let last = "SELECT COALESCE(MAX(id), 0) FROM chaos_log";
            Ok(sqlx::query_scalar(last).fetch_one(&mut *connection).await?)
        })
    }

    /// Who holds which of these players, whether or not the lease has run out.
    pub fn leases(&self, players: &[String]) -> Result<Value> {
        let held = "SELECT server_id FROM player_leases WHERE player_id = $1 AND server_id IS NOT NULL";
        self.with(async |connection| {
            let mut leases = Vec::new();
            for player in players {
                let server: Option<String> =
                    sqlx::query_scalar(held).bind(player).fetch_optional(&mut *connection).await?;
                leases.extend(server.map(|server| json!({ "player": player, "server_id": server })));
            }
            Ok(Value::Array(leases))
        })
    }

    /// What the log holds beyond `position`.
    pub fn rows_after(&self, position: i64) -> Result<Vec<LogRow>> {
        let rows = "SELECT id, kind, player_id, document_key, version, epoch, sequence, value FROM chaos_log \
                    WHERE id > $1 ORDER BY id";
        self.with(async |connection| {
            let rows = sqlx::query(rows).bind(position).fetch_all(&mut *connection).await?;
            rows.iter().map(LogRow::read).collect()
        })
    }

    /// Puts `undone` back into a log that has gone back to `position`, and notes for each of these players that what they
    /// had in between is undone.
    pub fn carry_over(&self, undone: &[LogRow], position: i64, players: &[String]) -> Result<()> {
        let system = if self.sqlite { "" } else { "OVERRIDING SYSTEM VALUE" };
        let columns = "id, kind, player_id, document_key, version, epoch, sequence, value";
        let insert =
            format!("INSERT INTO chaos_log ({columns}) {system} VALUES ($1, $2, $3, $4, $5, $6, $7, $8)");
        let mut id = undone.last().map_or(position, |row| row.id);
        let mut rows = undone.to_vec();
        for player in players {
            id += 1;
            rows.push(LogRow {
                id,
                kind: "restored".to_owned(),
                player: player.clone(),
                version: Some(position),
                ..LogRow::default()
            });
        }
        self.with(async |connection| {
            for row in rows {
                sqlx::query(AssertSqlSafe(insert.as_str()))
                    .bind(row.id)
                    .bind(row.kind)
                    .bind(row.player)
                    .bind(row.key)
                    .bind(row.version)
                    .bind(row.epoch)
                    .bind(row.sequence)
                    .bind(row.value)
                    .execute(&mut *connection)
                    .await?;
            }
            if !self.sqlite {
                let next = "SELECT setval(pg_get_serial_sequence('chaos_log', 'id'), $1)";
                sqlx::query(next).bind(id).execute(&mut *connection).await?;
            }
            Ok(())
        })
    }

    /// Writes what the database of this backend knows of these players into the history.
    pub fn dump(&self, backend: usize, players: &[String], history: &History) -> Result<()> {
        let note = |mut event: Value| {
            event["backend"] = json!(backend);
            history.note(event);
        };
        self.with(async |connection| {
            for player in players {
                let log = "SELECT id, kind, player_id, document_key, version, epoch, sequence, value FROM chaos_log \
                           WHERE player_id = $1 ORDER BY id";
                for row in sqlx::query(log).bind(player).fetch_all(&mut *connection).await? {
                    note(log_row(&row)?);
                }
                let documents = "SELECT player_id, document_key, version, epoch, sequence, value FROM documents \
                                 WHERE player_id = $1 ORDER BY document_key";
                for row in sqlx::query(documents).bind(player).fetch_all(&mut *connection).await? {
                    let mut document = saved(&row)?;
                    document["event"] = json!("document");
                    document["version"] = json!(row.try_get::<i64, _>("version")?);
                    note(document);
                }
                let conflicts = "SELECT player_id, document_key, epoch, sequence, value, resolved_at FROM save_conflicts \
                                 WHERE player_id = $1 ORDER BY received_at";
                for row in sqlx::query(conflicts).bind(player).fetch_all(&mut *connection).await? {
                    let mut conflict = saved(&row)?;
                    conflict["event"] = json!("conflict");
                    conflict["resolved"] = json!(row.try_get::<Option<i64>, _>("resolved_at")?.is_some());
                    note(conflict);
                }
            }
            Ok(())
        })
    }

    fn with<T>(&self, work: impl AsyncFnOnce(&mut AnyConnection) -> Result<T>) -> Result<T> {
        self.within(Duration::from_secs(30), async {
            let mut connection = AnyConnection::connect(&self.url).await?;
            if self.sqlite {
                sqlx::query("PRAGMA busy_timeout = 10000").execute(&mut connection).await?;
            }
            let result = work(&mut connection).await;
            connection.close().await?;
            result
        })
    }

    fn within<T>(&self, timeout: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(timeout, work).await })
            .context("the backend's database does not answer")?
            .with_context(|| "the backend's database".to_owned())
    }
}

/// One line of the log as it is stored.
#[derive(Debug, Clone, Default)]
pub struct LogRow {
    id: i64,
    kind: String,
    player: String,
    key: Option<String>,
    version: Option<i64>,
    epoch: Option<i64>,
    sequence: Option<i64>,
    value: Option<String>,
}

impl LogRow {
    fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            player: row.try_get("player_id")?,
            key: row.try_get("document_key")?,
            version: row.try_get("version")?,
            epoch: row.try_get("epoch")?,
            sequence: row.try_get("sequence")?,
            value: row.try_get("value")?,
        })
    }
}

fn log_row(row: &AnyRow) -> Result<Value> {
    let kind: String = row.try_get("kind")?;
    let mut event = if kind == "restored" {
        json!({ "player": row.try_get::<String, _>("player_id")? })
    } else if kind == "lease" {
        json!({
            "player": row.try_get::<String, _>("player_id")?, "epoch": row.try_get::<i64, _>("epoch")?,
            "taken_from": row.try_get::<Option<String>, _>("value")?,
        })
    } else {
        saved(row)?
    };
    event["event"] = json!("log");
    event["id"] = json!(row.try_get::<i64, _>("id")?);
    event["version"] = json!(row.try_get::<Option<i64>, _>("version")?);
    event["kind"] = json!(kind);
    Ok(event)
}

/// Of a document, only what the checker looks at: the ballast stays behind.
fn saved(row: &AnyRow) -> Result<Value> {
    let value: String = row.try_get("value")?;
    let mut value: Value = serde_json::from_str(&value).context("a stored document")?;
    if let Value::Object(content) = &mut value {
        content.remove("pad");
    }
    Ok(json!({
        "player": row.try_get::<String, _>("player_id")?,
        "key": row.try_get::<String, _>("document_key")?,
        "epoch": row.try_get::<i64, _>("epoch")?,
        "sequence": row.try_get::<i64, _>("sequence")?,
        "value": value,
    }))
}
