//! `backend-server keys`: creates, lists, rotates and revokes server keys. A key is shown once, when it is created.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use backend_protocol::limits;
use backend_server::database::Database;
use backend_server::revoke_server_key;
use backend_server::server_keys::{self, KeyRecord, MadeKey, NewKey};
use clap::{Args, Subcommand};

use super::DatabaseArgument;
use super::output;

#[derive(Args)]
pub struct KeyCommands {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Creates a key and prints it. It is not shown again
    Create {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Game whose servers may use the key
        #[arg(long, env = "BACKEND_GAME", default_value = "default")]
        game: String,
        /// Environment of the key, such as `live` or `staging`
        #[arg(long, env = "BACKEND_ENVIRONMENT", default_value = "live", value_parser = server_keys::environment)]
        environment: String,
        /// Label in the list, such as the name of the fleet
        #[arg(long, default_value = "", value_parser = label)]
        label: String,
        /// New file to write the key to, readable by its owner only. Only the id is printed then
        #[arg(long)]
        key_file: Option<PathBuf>,
    },
    /// Lists the ids, labels and states of all keys
    List {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replaces a key by a new one. The old key stays valid for a grace period
    Rotate {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Id of the key to replace
        key_id: String,
        /// Seconds until the old key expires
        #[arg(long, default_value_t = 24 * 3600, value_parser = clap::value_parser!(u32).range(0..=90 * 24 * 3600))]
        grace_seconds: u32,
        /// New file to write the key to, readable by its owner only. Only the id is printed then
        #[arg(long)]
        key_file: Option<PathBuf>,
    },
    /// Revokes a key immediately
    Revoke {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Id of the key
        key_id: String,
    },
}

pub fn label(text: &str) -> Result<String, String> {
    limits::text("label", text, 0, limits::MAX_LABEL).map(|()| text.to_owned()).map_err(|error| error.rule)
}

pub async fn run(commands: KeyCommands) -> anyhow::Result<()> {
    match commands.command {
        KeyCommand::Create { database, game, environment, label, key_file } => {
            refuse_existing(key_file.as_deref())?;
            let database = Database::open(&database.database).await?;
            let made = server_keys::create(&database, &NewKey { game, environment, label }).await?;
            hand_out(&made, key_file.as_deref())
        }
        KeyCommand::List { database, json } => {
            let records = server_keys::list(&Database::open(&database.database).await?).await?;
            if json {
                output::line(serde_json::to_string_pretty(&records)?)
            } else {
                output::line(table(&records).trim_end())
            }
        }
        KeyCommand::Rotate { database, key_id, grace_seconds, key_file } => {
            refuse_existing(key_file.as_deref())?;
            let database = Database::open(&database.database).await?;
            let made = server_keys::rotate(&database, &key_id, grace_seconds).await?;
            hand_out(&made, key_file.as_deref())
        }
        KeyCommand::Revoke { database, key_id } => {
            let database = Database::open(&database.database).await?;
            if !revoke_server_key(&database, &key_id).await? {
                bail!("there is no key {key_id}; `keys list` shows them");
            }
            output::line(format_args!("revoked {key_id}"))
        }
    }
}

/// Called before the key is created: a key that cannot be written would be lost.
fn refuse_existing(key_file: Option<&Path>) -> anyhow::Result<()> {
    match key_file {
        Some(path) if path.exists() => bail!("{} exists already", path.display()),
        _ => Ok(()),
    }
}

fn hand_out(made: &MadeKey, key_file: Option<&Path>) -> anyhow::Result<()> {
    match key_file {
        Some(path) => {
            server_keys::write_private(path, &made.key).with_context(|| {
                format!("{} was created, but {} cannot be written: revoke it", made.key_id, path.display())
            })?;
            output::line(format_args!("{} is in {}", made.key_id, path.display()))
        }
        None => output::secret(&made.key_id, format_args!("{} (shown once): {}", made.key_id, made.key)),
    }
}

fn table(records: &[KeyRecord]) -> String {
    let mut rows =
        vec![["KEY ID", "STATE", "GAME", "ENVIRONMENT", "CREATED", "LAST USED", "LABEL"].map(str::to_owned)];
    rows.extend(records.iter().map(|record| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        [
            record.key_id.clone(),
            record.state.clone(),
            or_dash(&record.game),
            or_dash(&record.environment),
            record.created_at.clone(),
            or_dash(&record.last_used_at),
            record.label.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
