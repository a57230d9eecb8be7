//! The database's own rate: the statement of a save in bare transactions of a hundred, without a backend.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use sqlx::{AnyConnection, Connection};
use test_harness::process::Process;

use super::population::{document, player_id};
use super::routes::BATCH;
use crate::cpu_affinity::{Side, pinned};
use crate::engine::{self, FIGURES};

/// Connections that write at a time where the database has more than one writer.
const WRITERS: usize = 8;

#[derive(Args)]
pub struct Options {
    /// The database's URL
    #[arg(long)]
    database: String,
    /// The first of the players whose documents are written
    #[arg(long)]
    first: usize,
    /// How many players
    #[arg(long)]
    players: usize,
    /// Bytes of a document
    #[arg(long)]
    document: usize,
    /// All sequences are above this
    #[arg(long)]
    since: i64,
    #[arg(long)]
    seconds: u64,
}

/// Documents a second, from a process on the server's cores.
pub fn measure(
    database: &str,
    players: (usize, usize),
    document: usize,
    since: u64,
    seconds: usize,
) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["batches", "--database", database, "--first", &players.0.to_string()]);
    command.args(["--players", &players.1.to_string(), "--document", &document.to_string()]);
    command.args(["--since", &since.to_string(), "--seconds", &seconds.to_string()]);
    let mut process = Process::start("batches", pinned(Side::Server, &command))?;
    process.wait_for_exit(0)?;
    let figures = engine::figures_of(process.log())?;
    figures.first().and_then(|one| one.get("per_second")?.as_f64()).context("no rate was told")
}

/// The process itself.
pub fn run(options: &Options) -> Result<()> {
    sqlx::any::install_default_drivers();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let per_second = runtime.block_on(write(options))?;
    test_harness::print_line!(
        "{FIGURES}{}",
        json!({ "run": "batches", "failed": 0, "per_second": per_second })
    );
    Ok(())
}

async fn write(options: &Options) -> Result<f64> {
    let writers = if options.database.starts_with("postgres") { WRITERS } else { 1 };
    let batches = options.players / BATCH;
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.seconds);
    let mut all = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let mine = (writer..batches).step_by(writers).map(|batch| options.first + batch * BATCH).collect();
        all.spawn(write_batches(
            options.database.clone(),
            mine,
            options.since,
            document(options.document),
            end,
        ));
    }
    let mut written = 0;
    while let Some(one) = all.join_next().await {
        written += one??;
    }
    Ok(written as f64 / begin.elapsed().as_secs_f64())
}

async fn write_batches(
    database: String,
    batches: Vec<usize>,
    since: i64,
    document: String,
    end: Instant,
) -> Result<usize> {
    let mut connection = AnyConnection::connect(&database).await?;
    let mut begin = "BEGIN";
    if !database.starts_with("postgres") {
        begin = "BEGIN IMMEDIATE";
        for pragma in [
            "PRAGMA busy_timeout = 10000",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA foreign_keys = ON",
        ] {
            sqlx::query(pragma).execute(&mut connection).await?;
        }
    }
    let mut written = 0;
    for round in 1.. {
        for first in &batches {
            if Instant::now() >= end {
                connection.close().await?;
                return Ok(written);
            }
            let sequence = since + round;
            let value = document.replace('@', &sequence.to_string());
            let mut work = connection.begin_with(begin).await?;
            for number in 0..BATCH {
                let done = sqlx::query(
                    "INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) \
                     SELECT l.player_id, $2, 1, $3, $4, $5, $6 FROM player_leases l WHERE l.player_id = $1 AND l.epoch = $4 \
                     ON CONFLICT (player_id, document_key) DO UPDATE SET version = documents.version + 1, \
                     value = excluded.value, epoch = excluded.epoch, sequence = excluded.sequence, \
                     updated_at = excluded.updated_at WHERE documents.epoch < excluded.epoch \
                     OR (documents.epoch = excluded.epoch AND documents.sequence < excluded.sequence)",
                )
                .bind(player_id(first + number))
                .bind("progress")
                .bind(&value)
                .bind(1_i64)
                .bind(sequence)
                .bind(1_700_000_000_000_i64)
                .execute(&mut *work)
                .await?;
                written += done.rows_affected() as usize;
            }
            work.commit().await?;
        }
        if batches.is_empty() {
            break;
        }
    }
    Ok(written)
}
