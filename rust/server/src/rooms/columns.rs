//! How what servers report of their rooms is stored.

use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::RoomVisibility;
use unicode_normalization::UnicodeNormalization;

use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};

pub const fn status_text(status: ServerStatus) -> &'static str {
    match status {
        ServerStatus::Ready => "ready",
        ServerStatus::Draining => "draining",
        ServerStatus::Unhealthy => "unhealthy",
    }
}

pub fn status_of(text: &str) -> ServerStatus {
    match text {
        "ready" => ServerStatus::Ready,
        "draining" => ServerStatus::Draining,
        _ => ServerStatus::Unhealthy,
    }
}

pub const fn visibility_text(visibility: RoomVisibility) -> &'static str {
    match visibility {
        RoomVisibility::Public => "public",
        RoomVisibility::Unlisted => "unlisted",
        RoomVisibility::Private => "private",
    }
}

/// What this build does not know is shown to nobody.
pub fn visibility_of(text: &str) -> RoomVisibility {
    match text {
        "public" => RoomVisibility::Public,
        "unlisted" => RoomVisibility::Unlisted,
        _ => RoomVisibility::Private,
    }
}

/// Tags as one column, in which `,tag,` can be searched.
pub fn tags_text(tags: &[String]) -> ApiResult<String> {
    if tags.iter().any(|tag| tag.contains(',')) {
        return Err(ApiError::field("tags", "must not contain commas"));
    }
    Ok(if tags.is_empty() { String::new() } else { format!(",{},", tags.join(",")) })
}

/// `text` as it is searched: what differs only in case, or in how its characters are put together, is the same.
pub fn folded(text: &str) -> String {
    text.nfkc().collect::<String>().to_lowercase().nfkc().collect()
}

/// Puts a server where it belongs in lists by players.
pub async fn list_players(tx: &mut Transaction, server_id: &str, players: i64) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO server_players (listed_id, player_count) VALUES ($1, $2) \
         ON CONFLICT (listed_id) DO UPDATE SET player_count = excluded.player_count",
    )
    .bind(server_id)
    .bind(players)
    .execute(&mut *tx.conn)
    .await?;
    Ok(())
}
