//! Databases of their own for tests.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use uuid::Uuid;

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

    /// Once it is closed.
    pub async fn drop(self) {
        if let Some((admin, name)) = self.drop {
            execute(&admin, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn execute(url: &str, sql: String) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("executed");
}
