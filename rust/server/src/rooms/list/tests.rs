//! What the databases do for a list: along which index, and how many rooms are read for a page.

use backend_protocol::rooms::{RoomQuery, RoomSort};
use sqlx::{AssertSqlSafe, Row};
use test_database::TestDatabase;

use super::conditions::statement;
use crate::database::Database;
use crate::rooms::growing_statement::Bind;

/// The index of each order.
const ORDERS: [(RoomSort, &str); 8] = [
    (RoomSort::Name, "servers_name"),
    (RoomSort::Players, "server_players_order"),
    (RoomSort::Created, "servers_created"),
    (RoomSort::MaxPlayers, "servers_max_players"),
    (RoomSort::Map, "servers_map"),
    (RoomSort::Mode, "servers_mode"),
    (RoomSort::Region, "servers_region"),
    (RoomSort::Version, "servers_version"),
];

/// 20,000 rooms, enough for PostgreSQL to prefer an index, a hundredth of them on the map `rare`.
async fn fill(database: &Database) {
    let (numbers, real) = if database.is_sqlite() {
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)",
            "CAST(i % 7 AS REAL)",
        )
    } else {
        ("WITH n(i) AS (SELECT generate_series(1, 20000))", "CAST(i % 7 AS DOUBLE PRECISION)")
    };
    let id = "'s' || CAST(100000 + i AS TEXT)";
    let lease = "4102444800000";
    for sql in [
        "INSERT INTO server_keys (key_hash, created_at, key_id, owner, game, environment) VALUES ('k', 1, 'key_1', 'k', 'g', 'e')".into(),
        format!(
            "{numbers} INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, \
             tags, players, max_players, status, heartbeat_sequence, created_at, lease_until, name_folded) \
             SELECT {id}, 'k', {id}, 'Room ' || CAST(i * 7919 % 20000 AS TEXT), 'a', 1, \
             CASE WHEN i % 100 = 0 THEN 'rare' ELSE 'common' || CAST(i % 5 AS TEXT) END, 'm' || CAST(i % 3 AS TEXT), \
             'r' || CAST(i % 4 AS TEXT), 'v' || CAST(i % 2 AS TEXT), ',new,', i % 9, 8 + i % 3, 'ready', 0, i, {lease}, 'room' FROM n"
        ),
        "INSERT INTO server_players (listed_id, player_count) SELECT server_id, players FROM servers".into(),
        format!(
            "{numbers} INSERT INTO room_attributes (server_id, attribute_name, number_value) SELECT {id}, 'round', {real} FROM n"
        ),
        if database.is_sqlite() { "SELECT 1".into() } else { "ANALYZE".into() },
    ] {
        let sql: String = sql;
        sqlx::query(AssertSqlSafe(sql)).execute(database.pool()).await.expect("filled");
    }
}

/// The plan of a page, as one text.
async fn plan(database: &Database, query: &RoomQuery) -> String {
    let statement = statement(query, database, "g", "e").expect("a query");
    let explain = if database.is_sqlite() { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    let mut sql = format!("{explain} {}", statement.sql);
    // The planners see values, as they do when the statement runs for the first time.
    for (index, value) in statement.values.iter().enumerate().rev() {
        let literal = match value {
            Bind::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Bind::Number(number) => number.to_string(),
            Bind::Float(number) => format!("{number:?}"),
        };
        sql = sql.replace(&format!("${}", index + 1), &literal);
    }
    let column = if database.is_sqlite() { "detail" } else { "QUERY PLAN" };
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(database.pool()).await.expect("explained");
    let lines = rows.iter().map(|row| row.try_get::<String, _>(column).expect("text"));
    lines.collect::<Vec<_>>().join("\n")
}

fn queries() -> Vec<(&'static str, RoomQuery)> {
    let with = |change: fn(&mut RoomQuery)| {
        let mut query = RoomQuery::default();
        change(&mut query);
        query
    };
    vec![
        ("no filter", with(|_| {})),
        ("not_full", with(|query| query.not_full = true)),
        ("not_empty", with(|query| query.not_empty = true)),
        ("no_password", with(|query| query.no_password = true)),
        ("tags", with(|query| query.tags = Some("new".into()))),
        ("search", with(|query| query.search = Some("oom".into()))),
        (
            "attributes",
            with(|query| query.attributes = Some(r#"[{"name":"round","op":">=","value":3}]"#.into())),
        ),
    ]
}

/// Filters that most rooms pass are looked at on the way along the index of the order: no order sorts, none reads all rooms.
async fn orders_are_read_from_an_index(at: TestDatabase) {
    let database = Database::open(at.location()).await.expect("opens");
    fill(&database).await;
    for (filter, query) in queries() {
        for (sort, index) in ORDERS {
            for descending in [false, true] {
                let query = RoomQuery { sort, descending, ..query.clone() };
                let plan = plan(&database, &query).await;
                let shown = format!("{filter}, {sort:?}, {descending}:\n{plan}");
                assert!(plan.contains(index), "not by {index}: {shown}");
                // SQLite sorts in a temporary b-tree, PostgreSQL in a node of that name.
                assert!(!plan.contains("TEMP B-TREE") && !plan.contains("Sort "), "sorted: {shown}");
            }
        }
    }
    database.close().await;
}

/// Exact labels have an index of their own in the order by name: rare ones cost as little as common ones.
async fn exact_labels_are_read_from_their_index(at: TestDatabase) {
    let database = Database::open(at.location()).await.expect("opens");
    fill(&database).await;
    let query = RoomQuery { map: Some("rare".into()), ..RoomQuery::default() };
    let by_map = plan(&database, &query).await;
    assert!(by_map.contains("servers_map"), "{by_map}");
    assert!(!by_map.contains("TEMP B-TREE"), "{by_map}");
    let further = RoomQuery { mode: Some("m0".into()), region: Some("r0".into()), ..query.clone() };
    let several = plan(&database, &further).await;
    assert!(
        ["servers_map", "servers_mode", "servers_region"].iter().any(|index| several.contains(index)),
        "{several}"
    );
    // In another order, SQLite looks at labels on the way; PostgreSQL, which counts, may sort the few.
    if database.is_sqlite() {
        let other = RoomQuery { sort: RoomSort::Created, ..query };
        assert!(plan(&database, &other).await.contains("servers_created"));
    }
    database.close().await;
}

#[tokio::test]
async fn orders_are_read_from_an_index_on_sqlite() {
    orders_are_read_from_an_index(TestDatabase::sqlite().expect("SQLite")).await;
}

#[tokio::test]
async fn orders_are_read_from_an_index_on_postgres() {
    orders_are_read_from_an_index(TestDatabase::postgres().expect("PostgreSQL")).await;
}

#[tokio::test]
async fn exact_labels_are_read_from_their_index_on_sqlite() {
    exact_labels_are_read_from_their_index(TestDatabase::sqlite().expect("SQLite")).await;
}

#[tokio::test]
async fn exact_labels_are_read_from_their_index_on_postgres() {
    exact_labels_are_read_from_their_index(TestDatabase::postgres().expect("PostgreSQL")).await;
}
