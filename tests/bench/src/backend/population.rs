//! Who is in the database before anything is measured: put there by SQL, since a million logins would take hours.

use anyhow::Result;
use aws_lc_rs::digest;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

/// Added to numbers, so that ids are equally long.
const FIRST_NUMBER: usize = 10_000_000;
/// Rows a statement puts in: one for all would keep the database from anything else.
const AT_ONCE: usize = 100_000;

/// How many of what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Population {
    /// Servers that are listed.
    pub servers: usize,
    /// Players with one document each.
    pub players: usize,
    /// Bytes of each document.
    pub document: usize,
}

/// The id of a server, counted from 0.
pub fn server_id(number: usize) -> String {
    format!("server-{}", FIRST_NUMBER + number)
}

/// The id of a player, counted from 0.
pub fn player_id(number: usize) -> String {
    format!("player-{}", FIRST_NUMBER + number)
}

/// A document of about `bytes`, in which `@` stands for a number.
pub fn document(bytes: usize) -> String {
    format!("{{\"progress\":@,\"inventory\":\"{}\"}}", "x".repeat(bytes.saturating_sub(30)))
}

/// Puts in what is missing between `from` and `to`. All servers are those of `key`; the first one holds the players.
pub async fn grow(url: &str, key: &str, from: Population, to: Population) -> Result<()> {
    let mut connection = AnyConnection::connect(url).await?;
    if !url.starts_with("postgres") {
        sqlx::query("PRAGMA busy_timeout = 10000").execute(&mut connection).await?;
    }
    let key_hash = digest::digest(&digest::SHA256, key.as_bytes());
    let key_hash: Vec<String> = key_hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let key_hash = key_hash.concat();
    for (first, last) in parts(from.servers, to.servers) {
        // Names are not in the order of ids, as in life.
        let sql = format!(
            "INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, tags, \
             players, max_players, status, heartbeat_sequence, created_at, lease_until) \
             WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last}) \
             SELECT 'server-' || (i + {FIRST_NUMBER}), $1, 'instance-' || i, 'Pond ' || ((i * 7919) % 1000003), '203.0.113.7', \
             7777, 'map-' || (i % 20), 'mode-' || (i % 4), 'region-' || (i % 8), '1.0.0', ',ranked,', i % 16, 16, \
             'ready', 0, 1700000000000 + i, 4102444800000 FROM n"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(&key_hash).execute(&mut connection).await?;
        sqlx::query("INSERT INTO server_players (listed_id, player_count) SELECT server_id, players FROM servers WHERE true \
                     ON CONFLICT (listed_id) DO NOTHING").execute(&mut connection).await?;
    }
    for (first, last) in parts(from.players, to.players) {
        let numbers =
            format!("WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})");
        let mut work = connection.begin().await?;
        for sql in [
            format!(
                "INSERT INTO players (player_id, display_name, created_at) {numbers} \
                 SELECT 'player-' || (i + {FIRST_NUMBER}), 'Guest', 1700000000000 FROM n"
            ),
            format!(
                "INSERT INTO player_leases (player_id, server_id, epoch, lease_until) {numbers} \
                 SELECT 'player-' || (i + {FIRST_NUMBER}), NULL, 1, 0 FROM n"
            ),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *work).await?;
        }
        let sql = format!(
            "INSERT INTO documents (player_id, document_key, version, value, epoch, sequence, updated_at) {numbers} \
             SELECT 'player-' || (i + {FIRST_NUMBER}), 'progress', 1, $1, 1, 0, 1700000000000 FROM n"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(document(to.document).replace('@', "1"))
            .execute(&mut *work)
            .await?;
        work.commit().await?;
    }
    // What either database would do by itself sooner or later.
    sqlx::query("ANALYZE").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

fn parts(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    (from..to).step_by(AT_ONCE).map(move |first| (first, (first + AT_ONCE).min(to) - 1))
}

/// Makes `server_id` the holder of some players, as a load of each would.
pub async fn hold(url: &str, server_id: &str, first: usize, count: usize) -> Result<()> {
    let mut connection = AnyConnection::connect(url).await?;
    sqlx::query(
        "UPDATE player_leases SET server_id = $1, lease_until = 4102444800000 WHERE player_id >= $2 AND player_id < $3",
    )
    .bind(server_id)
    .bind(player_id(first))
    .bind(player_id(first + count))
    .execute(&mut connection)
    .await?;
    Ok(connection.close().await?)
}

/// The processes by which PostgreSQL serves the database's other connections.
pub async fn postgres_processes(url: &str) -> Result<Vec<u32>> {
    let mut connection = AnyConnection::connect(url).await?;
    let rows = sqlx::query(
        "SELECT CAST(pid AS BIGINT) FROM pg_stat_activity WHERE datname = current_database() \
         AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut connection)
    .await?;
    connection.close().await?;
    rows.iter().map(|row| Ok(u32::try_from(row.try_get::<i64, _>(0)?)?)).collect()
}

/// The sum of all versions: grows by one with each save that is applied.
pub async fn saves(url: &str) -> Result<i64> {
    let mut connection = AnyConnection::connect(url).await?;
    let sum = sqlx::query("SELECT CAST(SUM(version) AS BIGINT) AS saves FROM documents")
        .fetch_one(&mut connection)
        .await?;
    Ok(sum.try_get("saves")?)
}
