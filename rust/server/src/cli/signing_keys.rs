//! `backend-server signing-keys`: lists, rotates and revokes the keys that sign tokens.

use backend_server::database::Database;
use backend_server::signing_keys;
use clap::{Args, Subcommand};

use super::DatabaseArgument;
use super::output;

#[derive(Args)]
pub struct SigningKeyCommands {
    #[command(subcommand)]
    command: SigningKeyCommand,
}

#[derive(Subcommand)]
enum SigningKeyCommand {
    /// Lists the ids and states of all keys
    List {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Creates a key that is published immediately and signs later. Tokens of the older keys stay valid
    Rotate {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Seconds until the key signs. Must cover the time for which verifiers cache the published keys
        #[arg(long, default_value_t = signing_keys::PUBLISHED_AHEAD_SECONDS,
            value_parser = clap::value_parser!(u32).range(0..=90 * 24 * 3600))]
        ahead_seconds: u32,
    },
    /// Revokes a leaked key immediately, together with every token it signed
    Revoke {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Id of the key (`kid`)
        kid: String,
    },
}

pub async fn run(commands: SigningKeyCommands) -> anyhow::Result<()> {
    match commands.command {
        SigningKeyCommand::List { database, json } => {
            let records = signing_keys::list(&Database::open(&database.database).await?).await?;
            if json {
                output::line(serde_json::to_string_pretty(&records)?)?;
            } else {
                for record in records {
                    let (kid, state, from) = (record.kid, record.state, record.signs_from);
                    output::line(format_args!("{kid}  {state:9}  signs from {from}"))?;
                }
            }
        }
        SigningKeyCommand::Rotate { database, ahead_seconds } => {
            let database = Database::open(&database.database).await?;
            let kid = signing_keys::rotate(&database, ahead_seconds).await?;
            output::line(format_args!("created {kid}; it signs in {ahead_seconds} s"))?;
        }
        SigningKeyCommand::Revoke { database, kid } => {
            signing_keys::revoke(&Database::open(&database.database).await?, &kid).await?;
            output::line(format_args!("revoked {kid}"))?;
        }
    }
    Ok(())
}
