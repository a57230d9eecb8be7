//! Rooms: registered servers as players see them.

pub mod attempt_limits;
pub mod attributes;
pub mod changes;
pub mod columns;
pub mod follow;
pub mod growing_statement;
pub mod invite_codes;
pub mod list;
pub mod live;
pub mod loaders;
pub mod password;
pub mod regions;
pub mod seats;
pub mod tickets;

use backend_protocol::rooms::Room;
use sqlx::Row;
use sqlx::any::AnyRow;

use self::columns::{status_of, visibility_of};
use crate::database::{Database, rfc3339, unsigned};
use crate::http::ApiResult;

const COLUMNS: &str = "server_id, name, address, port, query_port, map, mode, region, version, tags, players, max_players, \
                       status, created_at, visibility, \
                       CAST(CASE WHEN password_hash IS NULL THEN 0 ELSE 1 END AS BIGINT) AS has_password, attributes";
/// The columns of [`room`], with the seats that are kept at this moment.
fn columns(database: &Database) -> String {
    format!("{COLUMNS}, {} AS reserved", seats::reserved(database))
}

/// The same as of the last change that is recorded: a seat whose ticket has expired is kept until its end is.
fn recorded_columns() -> String {
    format!("{COLUMNS}, {} AS reserved", seats::RECORDED)
}

/// Games and environments may share a database; a room is for the players of its own. Written so that each planner knows
/// that most rooms are, and goes through them in the order of the list.
pub(crate) fn of_scope(database: &Database, game: &str, environment: &str) -> String {
    let keys =
        format!("SELECT key_hash FROM server_keys WHERE game = {game} AND environment = {environment}");
    if database.is_sqlite() {
        format!("+key_hash IN ({keys})")
    } else {
        format!("key_hash = ANY(ARRAY({keys}))")
    }
}

/// `+` keeps an index from being chosen for it: nearly all servers are alive, and the list's order is what saves work.
pub(crate) fn live_rooms(database: &Database) -> String {
    format!("+lease_until > {}", database.clock())
}

pub fn room(row: &AnyRow) -> ApiResult<Room> {
    let tags: String = row.try_get("tags")?;
    let status: String = row.try_get("status")?;
    let visibility: String = row.try_get("visibility")?;
    let attributes: String = row.try_get("attributes")?;
    Ok(Room {
        room_id: row.try_get("server_id")?,
        name: row.try_get("name")?,
        address: row.try_get("address")?,
        port: u16::try_from(row.try_get::<i64, _>("port")?).unwrap_or_default(),
        query_port: row.try_get::<Option<i64>, _>("query_port")?.and_then(|port| u16::try_from(port).ok()),
        map: row.try_get("map")?,
        mode: row.try_get("mode")?,
        region: row.try_get("region")?,
        version: row.try_get("version")?,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        players: unsigned(row, "players")?,
        reserved: unsigned(row, "reserved")?,
        max_players: unsigned(row, "max_players")?,
        status: status_of(&status),
        created_at: rfc3339(row.try_get("created_at")?),
        visibility: visibility_of(&visibility),
        has_password: row.try_get::<i64, _>("has_password")? != 0,
        attributes: serde_json::from_str(&attributes).map_err(anyhow::Error::from)?,
    })
}
