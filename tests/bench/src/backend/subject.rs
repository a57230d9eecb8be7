//! A real backend on its cores, on a database that is full of rows.

use std::fs;
use std::path::Path;

use anyhow::Result;
use test_database::TestDatabase;
use test_harness::backend::Backend;
use test_harness::programs;
use tokio::runtime::Runtime;

use super::population::{self, Population};
use crate::cpu_affinity::{Side, pin};

/// What the backend stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Sqlite,
    /// On the same machine, on whichever cores the system gives it.
    Postgres,
}

impl Base {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Backend and database.
pub struct Subject {
    pub base: Base,
    pub backend: Backend,
    /// Dropped after the backend.
    _on_server: Option<TestDatabase>,
    pub key: String,
    /// The database's URL.
    pub database: String,
    pub population: Population,
}

impl Subject {
    pub fn start(base: Base, name: &str) -> Result<Self> {
        Self::start_program(&programs::backend_server()?, base, name)
    }

    /// With this build of the backend.
    pub fn start_program(program: &Path, base: Base, name: &str) -> Result<Self> {
        // The backend has a file of SQLite's in its own folder.
        let on_server = match base {
            Base::Sqlite => None,
            Base::Postgres => Some(TestDatabase::postgres_named(name)?),
        };
        let location = on_server.as_ref().map(|database| database.location().to_owned());
        // Of a machine with two cores there would be two workers. Servers that were put in are to live on.
        let backend = Backend::start_program(
            program,
            &[("TOKIO_WORKER_THREADS", "2")],
            location.clone(),
            &["--lease-seconds", "3600"],
        )?;
        pin(Side::Server, backend.id()?)?;
        let key = fs::read_to_string(backend.server_key_file())?.trim().to_owned();
        let database =
            location.unwrap_or_else(|| format!("sqlite://{}", backend.folder().join("backend.db").display()));
        let population = Population { servers: 0, players: 0, document: 0 };
        Ok(Self { base, backend, _on_server: on_server, key, database, population })
    }

    /// The backend, and those of PostgreSQL's processes that work for it.
    pub fn processes(&self, runtime: &Runtime) -> Result<Vec<u32>> {
        runtime.block_on(self.all_processes())
    }

    /// [`Self::processes`], the backend's first.
    pub async fn all_processes(&self) -> Result<Vec<u32>> {
        let mut processes = vec![self.backend.id()?];
        if self.base == Base::Postgres {
            processes.extend(population::postgres_processes(&self.database).await?);
        }
        Ok(processes)
    }

    /// Saves that were ever applied.
    pub fn saves(&self, runtime: &Runtime) -> Result<i64> {
        runtime.block_on(population::saves(&self.database))
    }

    /// Puts in what is missing.
    pub fn grow(&mut self, runtime: &Runtime, to: Population) -> Result<()> {
        runtime.block_on(population::grow(&self.database, &self.key, self.population, to))?;
        self.population = to;
        Ok(())
    }
}
