//! `backend-server keys …`: the operator's view of server keys. A key is shown once, when it is made.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use backend_protocol::limits;
use backend_server::database::Database;
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
    /// Makes a key and prints it, this once
    Create {
        #[command(flatten)]
        database: DatabaseArgument,
        /// The game whose servers may use it
        #[arg(long, env = "BACKEND_GAME", default_value = "default")]
        game: String,
        /// The environment it is for, such as `live` or `staging`
        #[arg(long, env = "BACKEND_ENVIRONMENT", default_value = "live", value_parser = server_keys::environment)]
        environment: String,
        /// A word for the list, such as the fleet's name
        #[arg(long, default_value = "", value_parser = label)]
        label: String,
        /// Write the key to this new file, for its owner alone, and print only its id
        #[arg(long)]
        key_file: Option<PathBuf>,
    },
    /// Lists all keys, without the keys themselves
    List {
        #[command(flatten)]
        database: DatabaseArgument,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Makes a key in place of another, which stays good for a while
    Rotate {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Id of the key to replace
        key_id: String,
        /// Seconds the old key stays good
        #[arg(long, default_value_t = 24 * 3600, value_parser = clap::value_parser!(u32).range(0..=90 * 24 * 3600))]
        grace_seconds: u32,
        /// Write the key to this new file, for its owner alone, and print only its id
        #[arg(long)]
        key_file: Option<PathBuf>,
    },
    /// Ends a key at once
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
            if !server_keys::revoke(&database, &key_id).await? {
                bail!("there is no key {key_id}; `keys list` shows them");
            }
            output::line(format_args!("revoked {key_id}"))
        }
    }
}

/// Before the key is made: one that cannot be written would be lost.
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
                format!("{} was made, but {} cannot be written: revoke it", made.key_id, path.display())
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
