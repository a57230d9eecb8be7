//! From a query to a statement: filters, orders, and where a page begins.
//!
//! A list is read along the index of its order and ends with the page, so that what it costs depends on how many rooms are read
//! until the page is full, not on how many there are. `+` before a column keeps SQLite from leaving that way.

use backend_protocol::limits;
use backend_protocol::rooms::{RoomQuery, RoomSort};

use super::cursor::Cursor;
use crate::database::Database;
use crate::http::ApiResult;
use crate::rooms::columns::folded;
use crate::rooms::growing_statement::{Bind, Conditions};
use crate::rooms::{attributes, columns, live_rooms, of_scope, seats};

/// `text` anywhere, with LIKE's own characters taken literally.
fn contains(text: &str) -> Bind {
    let literal = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Bind::Text(format!("%{literal}%"))
}

/// The columns of an order, which an index keeps. The last one is unique.
pub const fn order(sort: RoomSort) -> &'static [&'static str] {
    match sort {
        RoomSort::Name => &["name", "server_id"],
        RoomSort::Players => &["player_count", "listed_id"],
        RoomSort::Created => &["created_at", "server_id"],
        RoomSort::MaxPlayers => &["max_players", "server_id"],
        RoomSort::Map => &["map", "name", "server_id"],
        RoomSort::Mode => &["mode", "name", "server_id"],
        RoomSort::Region => &["region", "name", "server_id"],
        RoomSort::Version => &["version", "name", "server_id"],
    }
}

/// The statement for one page, with one room more than requested, which shows whether there is a next page.
pub fn statement(
    query: &RoomQuery,
    database: &Database,
    game: &str,
    environment: &str,
) -> ApiResult<Conditions> {
    // CROSS makes SQLite begin with the order; PostgreSQL finds that out.
    let from = if query.sort == RoomSort::Players { "server_players CROSS JOIN servers" } else { "servers" };
    let mut conditions = Conditions {
        sql: format!(
            "SELECT {} FROM {from} WHERE {} AND {}",
            columns(database),
            live_rooms(database),
            of_scope(database, "$1", "$2")
        ),
        values: vec![Bind::Text(game.to_owned()), Bind::Text(environment.to_owned())],
    };
    conditions.and("visibility = ?", Bind::Text("public".into()));
    conditions.and("status <> ?", Bind::Text("unhealthy".into()));
    if !query.include_draining {
        conditions.and("status <> ?", Bind::Text("draining".into()));
    }
    labels(&mut conditions, query, database);
    if let Some(search) = &query.search {
        conditions.and("name_folded LIKE ? ESCAPE '\\'", contains(&folded(search)));
    }
    for tag in query.tag_list() {
        // LIKE of SQLite takes a capital for a small letter.
        let is_in = if database.is_sqlite() { "instr(tags, ?) > 0" } else { "strpos(tags, ?) > 0" };
        conditions.and(is_in, Bind::Text(format!(",{tag},")));
    }
    if query.not_full {
        conditions.sql +=
            &format!(" AND players < max_players AND players + {} < max_players", seats::reserved(database));
    }
    if query.not_empty {
        conditions.and("players > ?", Bind::Number(0));
    }
    if query.no_password {
        conditions.sql += " AND password_hash IS NULL";
    }
    for filter in query.attribute_filters()? {
        attributes::filter(&mut conditions, database, &filter);
    }
    if query.sort == RoomSort::Players {
        conditions.sql += " AND server_id = listed_id";
        if database.is_sqlite() {
            // It would prepare for all servers, reading each of them, and does not see that the page ends soon.
            conditions.sql += " AND unlikely(+player_count >= 0)";
        }
    }
    let columns = order(query.sort);
    if let Some(text) = &query.cursor {
        let after = Cursor::read(text, query)?.values(query.sort);
        let places: Vec<String> = after.into_iter().map(|value| conditions.bind(value)).collect();
        let compare = if query.descending { '<' } else { '>' };
        conditions.sql += &format!(" AND ({}) {compare} ({})", columns.join(", "), places.join(", "));
    }
    let direction = if query.descending { "DESC" } else { "ASC" };
    let columns: Vec<String> = columns.iter().map(|column| format!("{column} {direction}")).collect();
    let limit = i64::from(query.limit.unwrap_or(limits::DEFAULT_PAGE)) + 1;
    let limit = conditions.bind(Bind::Number(limit));
    conditions.sql += &format!(" ORDER BY {} LIMIT {limit}", columns.join(", "));
    Ok(conditions)
}

/// Exact map, mode, region and version. Their indexes go by name: they are used in that order, and in the order of the label.
fn labels(conditions: &mut Conditions, query: &RoomQuery, database: &Database) {
    for (sort, indexed, bare, value) in [
        (RoomSort::Map, "map = ?", "+map = ?", &query.map),
        (RoomSort::Mode, "mode = ?", "+mode = ?", &query.mode),
        (RoomSort::Region, "region = ?", "+region = ?", &query.region),
        (RoomSort::Version, "version = ?", "+version = ?", &query.version),
    ] {
        let in_order = !database.is_sqlite() || query.sort == RoomSort::Name || query.sort == sort;
        if let Some(value) = value {
            conditions.and(if in_order { indexed } else { bare }, Bind::Text(value.clone()));
        }
    }
}
