//! `backend-server players` and `player-documents`: what the backend stores of players, as JSON.

use backend_server::database::Database;
use backend_server::player_store;
use clap::Args;

use super::{DatabaseArgument, output};

#[derive(Args)]
pub struct PlayerDocuments {
    #[command(flatten)]
    database: DatabaseArgument,
    /// Id of the player
    #[arg(long)]
    player: String,
}

#[derive(Args)]
pub struct Players {
    #[command(flatten)]
    database: DatabaseArgument,
}

pub async fn print_documents(arguments: PlayerDocuments) -> anyhow::Result<()> {
    let database = Database::open(&arguments.database.database).await?;
    output::line(format_args!("{:#}", player_store::read_back(&database, &arguments.player).await?))
}

pub async fn print_all(arguments: Players) -> anyhow::Result<()> {
    let database = Database::open(&arguments.database.database).await?;
    output::line(format_args!("{:#}", player_store::read_back_all(&database).await?))
}
