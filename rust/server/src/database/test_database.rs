//! Databases of their own for tests.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use uuid::Uuid;

use super::Database;

/// A database with nothing in it.
pub struct TestDatabase {
    pub location: String,
    _folder: Option<TempDir>,
    /// The URL to drop it by, and its name.
    drop: Option<(String, String)>,
}

impl TestDatabase {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let location = folder.path().join("backend.db").display().to_string();
        Self { location, _folder: Some(folder), drop: None }
    }

    pub async fn postgres() -> Self {
        let admin = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL is not set: run `cargo xtask test`, which provides PostgreSQL");
        let name = format!("test_{}", Uuid::new_v4().simple());
        execute(&admin, format!("CREATE DATABASE {name}")).await;
        let (base, _) = admin.rsplit_once('/').expect("URL with a database");
        Self { location: format!("{base}/{name}"), _folder: None, drop: Some((admin, name)) }
    }

    /// Observed, and not.
    pub async fn open(&self) -> (Database, Database) {
        let mut watched = Database::open(&self.location).await.expect("opens");
        watched.detect_changes().await.expect("watches");
        (watched, Database::open(&self.location).await.expect("opens"))
    }

    /// With what it was opened as.
    pub async fn drop(self, open: impl IntoIterator<Item = Database>) {
        for database in open {
            database.close().await;
        }
        if let Some((admin, name)) = self.drop {
            execute(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn execute(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("executed");
}
