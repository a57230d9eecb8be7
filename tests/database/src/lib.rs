//! Databases of their own for tests, trials and benchmarks. Dropping one drops the database, also when a test fails.

use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use uuid::Uuid;

/// The variable that names a PostgreSQL server.
const SERVER: &str = "TEST_POSTGRES_URL";

/// A database with nothing in it.
pub struct TestDatabase {
    location: String,
    folder: TempDir,
    on_server: Option<OnServer>,
}

/// What drops a database of PostgreSQL's.
struct OnServer {
    url: String,
    name: String,
}

impl TestDatabase {
    /// A file of SQLite's, in [`Self::folder`].
    pub fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let location = folder.path().join("backend.db").display().to_string();
        Ok(Self { location, folder, on_server: None })
    }

    /// A database in the server that `TEST_POSTGRES_URL` names.
    pub fn postgres() -> Result<Self> {
        Self::postgres_named(&format!("test_{}", Uuid::new_v4().simple()))
    }

    /// [`Self::postgres`] under a name that is always the same: one that an earlier run has left is replaced.
    pub fn postgres_named(name: &str) -> Result<Self> {
        let url = std::env::var(SERVER).map_err(|_| {
            anyhow!(
                "{SERVER} is not set: run `cargo xtask test`, `chaos` or `bench`, which provide PostgreSQL"
            )
        })?;
        Self::postgres_on(&url, name)
    }

    /// [`Self::postgres_named`] in the server of another database's URL.
    pub fn postgres_on(url: &str, name: &str) -> Result<Self> {
        let (server, _) = url.rsplit_once('/').context("the URL of PostgreSQL names no database")?;
        let location = format!("{server}/{name}");
        let on_server = OnServer { url: url.to_owned(), name: name.to_owned() };
        on_server.execute(&[on_server.drop_statement(), format!("CREATE DATABASE {name}")])?;
        Ok(Self { location, folder: tempfile::tempdir()?, on_server: Some(on_server) })
    }

    /// As `backend-server --database` takes it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// A folder that is gone with the database, for files that belong to it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl OnServer {
    fn drop_statement(&self) -> String {
        format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)
    }

    /// On a thread of its own, because callers may be within a runtime.
    fn execute(&self, statements: &[String]) -> Result<()> {
        let work = || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection =
                    PgConnection::connect(&self.url).await.context("PostgreSQL does not answer")?;
                for statement in statements {
                    sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut connection).await?;
                }
                Ok(connection.close().await?)
            })
        };
        thread::scope(|scope| scope.spawn(work).join())
            .unwrap_or_else(|_panic| Err(anyhow!("a statement panicked")))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Some(on_server) = &self.on_server else { return };
        if let Err(error) = on_server.execute(&[on_server.drop_statement()]) {
            eprintln!("the database {} is left behind: {error:#}", on_server.name);
        }
    }
}
