//! `backend-server admin-keys`: creates, lists and revokes keys for the operator's tools. A key is shown once, when it is created.

use anyhow::bail;
use backend_server::admin_keys;
use backend_server::database::Database;
use clap::{Args, Subcommand};

use super::DatabaseArgument;
use super::output;

#[derive(Args)]
pub struct AdminKeyCommands {
    #[command(subcommand)]
    command: AdminKeyCommand,
}

#[derive(Subcommand)]
enum AdminKeyCommand {
    /// Creates a key and prints it. It is not shown again
    Create {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Label in the list, such as the name of the tool
        #[arg(long, default_value = "", value_parser = super::server_keys::label)]
        label: String,
    },
    /// Lists the ids and labels of all keys as JSON
    List {
        #[command(flatten)]
        database: DatabaseArgument,
    },
    /// Revokes a key immediately
    Revoke {
        #[command(flatten)]
        database: DatabaseArgument,
        /// Id of the key
        key_id: String,
    },
}

pub async fn run(commands: AdminKeyCommands) -> anyhow::Result<()> {
    match commands.command {
        AdminKeyCommand::Create { database, label } => {
            let made = admin_keys::create(&Database::open(&database.database).await?, &label).await?;
            output::secret(&made.key_id, format_args!("{} (shown once): {}", made.key_id, made.key))?;
        }
        AdminKeyCommand::List { database } => {
            let records = admin_keys::list(&Database::open(&database.database).await?).await?;
            output::line(serde_json::to_string_pretty(&records)?)?;
        }
        AdminKeyCommand::Revoke { database, key_id } => {
            if !admin_keys::revoke(&Database::open(&database.database).await?, &key_id).await? {
                bail!("there is no key {key_id}; `admin-keys list` shows them");
            }
            output::line(format_args!("revoked {key_id}"))?;
        }
    }
    Ok(())
}
