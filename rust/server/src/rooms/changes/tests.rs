//! No change is missed, in whatever order transactions commit.

use sqlx::{AssertSqlSafe, Row};
use test_database::TestDatabase;

use super::{next_change, position, record, record_expired, remove_old};
use crate::database::Database;

async fn opened(at: &TestDatabase) -> Database {
    let database = Database::open(at.location()).await.expect("opens");
    for id in ["first", "second"] {
        let sql = format!(
            "INSERT INTO servers (server_id, key_hash, instance_id, name, address, port, map, mode, region, version, tags, \
             players, max_players, status, heartbeat_sequence, created_at, lease_until) \
             VALUES ('{id}', 'k', '{id}', 'n', 'a', 1, '', '', '', '', '', 0, 1, 'ready', 0, 0, 4102444800000)"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(database.pool()).await.expect("a server");
    }
    database
}

/// Ids of the rooms that have changed from a position on.
async fn changed(database: &Database, position: i64) -> Vec<String> {
    let rows = sqlx::query("SELECT room_id FROM room_changes WHERE change >= $1 ORDER BY room_id")
        .bind(position)
        .fetch_all(database.pool())
        .await
        .expect("read");
    rows.iter().map(|row| row.try_get(0).expect("an id")).collect()
}

/// The transaction that began first commits last: a reader in between must still get its change afterwards.
#[tokio::test]
async fn a_transaction_that_commits_late_is_not_missed_on_postgres() {
    let at = TestDatabase::postgres().expect("PostgreSQL");
    let database = opened(&at).await;
    let mut early = database.begin().await.expect("begun");
    record(&database, &mut early, &["first".into()]).await.expect("recorded");
    let mut late = database.begin().await.expect("begun");
    record(&database, &mut late, &["second".into()]).await.expect("recorded");
    late.commit().await.expect("committed");

    let read_up_to = position(&database).await.expect("a position");
    assert_eq!(changed(&database, 0).await, ["second"]);
    early.commit().await.expect("committed");
    assert!(changed(&database, read_up_to).await.contains(&"first".to_owned()));
    // Once both have ended, neither is read again. Those of other databases of the same PostgreSQL count as well.
    while !changed(&database, position(&database).await.expect("a position")).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    database.close().await;
}

async fn execute(database: &Database, sql: &'static str) {
    sqlx::query(sql).execute(database.pool()).await.expect("executed");
}

async fn is_listed(database: &Database, room_id: &str) -> bool {
    let row = sqlx::query("SELECT listed FROM room_changes WHERE room_id = $1").bind(room_id);
    let listed: i64 = row.fetch_one(database.pool()).await.expect("read").try_get(0).expect("a number");
    listed == 1
}

/// Runs `other` while a transaction has made the first room live again and is about to commit that. It waits for the commit.
async fn beside_a_revival(other: impl AsyncFnOnce(&Database)) {
    let at = TestDatabase::postgres().expect("PostgreSQL");
    let database = opened(&at).await;
    let mut tx = database.begin().await.expect("begun");
    record(&database, &mut tx, &["first".into()]).await.expect("recorded");
    tx.commit().await.expect("committed");
    execute(&database, "UPDATE servers SET lease_until = 1 WHERE server_id = 'first'").await;
    let mut revival = database.begin().await.expect("begun");
    sqlx::query("UPDATE servers SET lease_until = 4102444800000 WHERE server_id = 'first'")
        .execute(&mut *revival.conn)
        .await
        .expect("lives");
    record(&database, &mut revival, &["first".into()]).await.expect("recorded");
    let commit = async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        loop {
            let row = sqlx::query(waiting).fetch_one(database.pool()).await.expect("read");
            if row.try_get::<i64, _>(0).expect("a number") > 0 {
                break;
            }
        }
        revival.commit().await.expect("committed");
    };
    tokio::join!(other(&database), commit);
    assert!(is_listed(&database, "first").await);
    database.close().await;
}

/// As when a player who had a seat there gets another one elsewhere.
#[tokio::test]
async fn a_room_is_recorded_as_those_before_have_left_it_on_postgres() {
    beside_a_revival(async |database| {
        let mut tx = database.begin().await.expect("begun");
        record(database, &mut tx, &["first".into()]).await.expect("recorded");
        tx.commit().await.expect("committed");
    })
    .await;
}

#[tokio::test]
async fn a_room_that_comes_back_has_not_expired_on_postgres() {
    beside_a_revival(async |database| {
        record_expired(database).await.expect("recorded");
    })
    .await;
}

/// Whatever else runs on the PostgreSQL server.
#[tokio::test]
async fn an_end_is_recorded_while_an_older_transaction_is_open_on_postgres() {
    let at = TestDatabase::postgres().expect("PostgreSQL");
    let database = opened(&at).await;
    let mut older = database.begin().await.expect("begun");
    record(&database, &mut older, &["second".into()]).await.expect("recorded");
    let mut tx = database.begin().await.expect("begun");
    record(&database, &mut tx, &["first".into()]).await.expect("recorded");
    tx.commit().await.expect("committed");
    execute(&database, "UPDATE servers SET lease_until = 1 WHERE server_id = 'first'").await;
    record_expired(&database).await.expect("recorded");
    assert!(!is_listed(&database, "first").await);
    older.commit().await.expect("committed");
    database.close().await;
}

async fn numbers_go_on_after_old_rows_are_removed(at: TestDatabase) {
    let database = opened(&at).await;
    for id in ["first", "second"] {
        let mut tx = database.begin().await.expect("begun");
        record(&database, &mut tx, &[id.into()]).await.expect("recorded");
        tx.commit().await.expect("committed");
    }
    sqlx::query("UPDATE room_changes SET listed = 0, changed_at = 0")
        .execute(database.pool())
        .await
        .expect("old");
    let before = position(&database).await.expect("a position");
    let mut tx = database.begin().await.expect("begun");
    remove_old(&mut tx).await.expect("removed");
    tx.commit().await.expect("committed");
    assert_eq!(changed(&database, 0).await, ["second"]);
    assert!(position(&database).await.expect("a position") >= before);
    let mut tx = database.begin().await.expect("begun");
    let next: i64 = sqlx::query(AssertSqlSafe(format!("SELECT {}", next_change(&database))))
        .fetch_one(&mut *tx.conn)
        .await
        .expect("a number")
        .try_get(0)
        .expect("a number");
    assert!(next >= before);
    drop(tx);
    database.close().await;
}

#[tokio::test]
async fn numbers_go_on_after_old_rows_are_removed_on_sqlite() {
    numbers_go_on_after_old_rows_are_removed(TestDatabase::sqlite().expect("SQLite")).await;
}

#[tokio::test]
async fn numbers_go_on_after_old_rows_are_removed_on_postgres() {
    numbers_go_on_after_old_rows_are_removed(TestDatabase::postgres().expect("PostgreSQL")).await;
}
