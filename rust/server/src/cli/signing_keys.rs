//! `backend-server signing-keys …`: the operator's view of the keys that tokens are signed with.

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
    /// Lists all keys, without the keys themselves
    List {
        #[command(flatten)]
        database: DatabaseArgument,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Makes a key that is published now and signs later; nobody is refused because of it
    Rotate {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Seconds until it signs: at least as long as verifiers may have an older set
        #[arg(long, default_value_t = signing_keys::PUBLISHED_AHEAD_SECONDS,
            value_parser = clap::value_parser!(u32).range(0..=90 * 24 * 3600))]
        ahead_seconds: u32,
    },
    /// Ends a key at once, with every token it signed: for a key that leaked
    Revoke {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Name of the key
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
            output::line(format_args!("made {kid}; it signs in {ahead_seconds} s"))?;
        }
        SigningKeyCommand::Revoke { database, kid } => {
            signing_keys::revoke(&Database::open(&database.database).await?, &kid).await?;
            output::line(format_args!("revoked {kid}"))?;
        }
    }
    Ok(())
}
