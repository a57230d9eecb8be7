//! The account that somebody logs in to.

use backend_protocol::{Code, unicode};
use sqlx::Row;

use super::audit::Event;
use super::authorization::is_banned;
use crate::database::Transaction;
use crate::http::{ApiError, ApiResult};

/// An account that may log in.
pub struct Account {
    pub player_id: String,
    pub display_name: String,
    /// See the column of this name.
    pub tokens_before: i64,
    /// Made just now.
    pub created: bool,
}

/// The account, unless it is banned.
pub async fn require_active(tx: &mut Transaction, player_id: &str) -> ApiResult<Account> {
    let row = sqlx::query(
        "SELECT display_name, tokens_before, banned_at, banned_until FROM players WHERE player_id = $1",
    )
    .bind(player_id)
    .fetch_optional(&mut *tx.conn)
    .await?;
    let row = row.ok_or_else(|| ApiError::new(Code::PlayerNotFound, "the account is gone"))?;
    if is_banned(row.try_get("banned_at")?, row.try_get("banned_until")?, tx.now) {
        Event::new("login").player(player_id).refused("banned");
        return Err(ApiError::new(Code::Banned, "this account may not log in"));
    }
    Ok(Account {
        player_id: player_id.to_owned(),
        display_name: unicode::clean(&row.try_get::<String, _>("display_name")?).into_owned(),
        tokens_before: row.try_get("tokens_before")?,
        created: false,
    })
}
