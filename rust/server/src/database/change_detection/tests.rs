use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::*;
use crate::database::Database;
use crate::database::test_database::TestDatabase;

/// The current version. Others write to the same PostgreSQL, so that it may be a while until one is given.
async fn now(database: &Database) -> DbVersion {
    loop {
        if let Some((version, _clock)) = database.version().await {
            return version;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const WRITE: &str = "INSERT INTO secrets (name, value) VALUES ($1, '0')";

async fn write(tx: &mut crate::database::Transaction) {
    let name = Uuid::new_v4().to_string();
    sqlx::query(WRITE).bind(name).execute(&mut *tx.conn).await.expect("written");
}

async fn commit(database: &Database) {
    let mut tx = database.begin().await.expect("begins");
    write(&mut tx).await;
    tx.commit().await.expect("committed");
}

async fn lasts_until_somebody_commits(at: TestDatabase) {
    let (database, other) = at.open().await;
    let cache = VersionedCache::default();
    // A commit to another database of the same PostgreSQL changes the version as well.
    let attempts = if database.is_sqlite() { 1 } else { 1_000 };
    for round in 0..20 {
        // By itself, or by whoever else has the database open.
        let by = if round % 2 == 0 { &database } else { &other };
        let mut lasted = false;
        for _ in 0..attempts {
            let before = now(&database).await;
            cache.insert(before, "key".to_owned(), Arc::new(round));
            lasted = before == now(&database).await;
            let mut tx = by.begin().await.expect("begins");
            write(&mut tx).await;
            // Nothing is committed yet.
            lasted &= cache.get(now(&database).await, "key").as_deref() == Some(&round);
            tx.commit().await.expect("committed");
            assert_ne!(before, now(&database).await);
            assert_eq!(cache.get(now(&database).await, "key"), None);
            if lasted {
                break;
            }
        }
        assert!(lasted, "it ended though nobody committed");
    }
    database.close().await;
    assert!(database.version().await.is_none(), "nothing is known of a database that is closed");
    at.drop([other]).await;
}

#[tokio::test]
async fn a_moment_lasts_until_somebody_commits_to_sqlite() {
    lasts_until_somebody_commits(TestDatabase::sqlite()).await;
}

#[tokio::test]
async fn a_moment_lasts_until_somebody_commits_to_postgres() {
    lasts_until_somebody_commits(TestDatabase::postgres().await).await;
}

/// Rows that only grow, how far each has surely come, and how often memory answered for one.
#[derive(Default)]
struct Growing {
    acknowledged: [AtomicUsize; 3],
    given: AtomicUsize,
    written: AtomicUsize,
}

/// Every commit comes right after somebody was answered from memory: the worst time for the next one.
async fn grow(other: Database, growing: Arc<Growing>, row: usize) {
    for number in 1..=200_usize {
        let given = growing.given.load(Ordering::SeqCst);
        sqlx::query("UPDATE secrets SET value = $1 WHERE name = $2")
            .bind(number.to_string())
            .bind(row.to_string())
            .execute(other.pool())
            .await
            .expect("written");
        growing.acknowledged[row].store(number, Ordering::SeqCst);
        if other.is_sqlite() && number % 20 == 0 {
            // The log begins anew.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(other.pool()).await.expect("written back");
        }
        while growing.given.load(Ordering::SeqCst) == given {
            tokio::task::yield_now().await;
        }
    }
    growing.written.fetch_add(1, Ordering::SeqCst);
}

/// Reads in the way that requests do.
async fn look(database: Database, growing: Arc<Growing>, cache: Arc<VersionedCache<usize>>, first: usize) {
    for row in (0..growing.acknowledged.len()).cycle().skip(first) {
        if growing.written.load(Ordering::SeqCst) == growing.acknowledged.len() {
            return;
        }
        let least = growing.acknowledged[row].load(Ordering::SeqCst);
        let Some((version, _clock)) = database.version().await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let name = row.to_string();
        if let Some(value) = cache.get(version, &name) {
            assert!(*value >= least, "{value} of row {row} was given after {least} was acknowledged");
            growing.given.fetch_add(1, Ordering::SeqCst);
            // SQLite is asked without ever waiting.
            tokio::task::yield_now().await;
        } else {
            let row = sqlx::query("SELECT value FROM secrets WHERE name = $1").bind(&name);
            let row = row.fetch_one(database.pool()).await.expect("read");
            let value = row.try_get::<String, _>(0).expect("text").parse().expect("a number");
            assert!(value >= least);
            cache.insert(version, name, Arc::new(value));
        }
    }
}

async fn is_never_given_after_a_later_commit(at: TestDatabase) {
    let (database, other) = at.open().await;
    let (growing, cache) = (Arc::new(Growing::default()), Arc::new(VersionedCache::default()));
    for row in 0..growing.acknowledged.len() {
        sqlx::query(WRITE).bind(row.to_string()).execute(other.pool()).await.expect("written");
    }
    let mut tasks = tokio::task::JoinSet::new();
    for first in 0..16 {
        tasks.spawn(look(database.clone(), Arc::clone(&growing), Arc::clone(&cache), first));
    }
    for row in 0..growing.acknowledged.len() {
        tasks.spawn(grow(other.clone(), Arc::clone(&growing), row));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("nothing is given that is older than the question");
    }
    at.drop([database, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_read_before_a_commit_to_sqlite_is_not_given_after_it() {
    is_never_given_after_a_later_commit(TestDatabase::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_read_before_a_commit_to_postgres_is_not_given_after_it() {
    is_never_given_after_a_later_commit(TestDatabase::postgres().await).await;
}

/// The one that began first commits last: then nothing new begins or ends but itself.
#[tokio::test]
async fn each_of_several_transactions_ends_a_moment() {
    let at = TestDatabase::postgres().await;
    let (database, other) = at.open().await;
    for _ in 0..20 {
        let mut transactions = Vec::new();
        for _ in 0..3 {
            let mut tx = other.begin().await.expect("begins");
            write(&mut tx).await;
            transactions.push(tx);
        }
        let mut before = now(&database).await;
        while let Some(tx) = transactions.pop() {
            tx.commit().await.expect("committed");
            let after = now(&database).await;
            assert_ne!(before, after);
            before = after;
        }
    }
    at.drop([database, other]).await;
}

#[tokio::test]
async fn with_the_connection_everything_is_forgotten() {
    let at = TestDatabase::postgres().await;
    let (database, other) = at.open().await;
    let cache = VersionedCache::default();
    for _ in 0..3 {
        let before = now(&database).await;
        cache.insert(before, "key".to_owned(), Arc::new(()));
        let ended: bool = sqlx::query(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_is_in_recovery()%'",
        )
        .fetch_one(other.pool())
        .await
        .expect("asked")
        .try_get(0)
        .expect("whether it ended");
        assert!(ended);
        assert_eq!(database.version().await, None, "there is nobody to ask");
        let after = now(&database).await;
        assert_ne!(before, after);
        assert!(cache.get(after, "key").is_none());
    }
    at.drop([database, other]).await;
}

#[tokio::test]
async fn nobody_asks_while_something_changes_all_the_time() {
    let at = TestDatabase::postgres().await;
    let (database, other) = at.open().await;
    let mut rests = false;
    for _ in 0..1_000 {
        commit(&other).await;
        rests = database.version().await.is_none();
        if rests {
            break;
        }
    }
    assert!(rests, "it asks after each of a thousand writes");
    let mut before = now(&database).await;
    loop {
        let after = now(&database).await;
        if before == after {
            break;
        }
        before = after;
    }
    at.drop([database, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_a_database_that_was_closed() {
    let at = TestDatabase::postgres().await;
    let (database, other) = at.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..32 {
        let (database, asked) = (database.clone(), Arc::clone(&asked));
        tasks.spawn(async move {
            // None is also given while it rests; that it stays None is seen at the end.
            while asked.load(Ordering::SeqCst) < 20_000 {
                database.version().await;
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
    }
    while asked.load(Ordering::SeqCst) < 5_000 {
        tokio::task::yield_now().await;
    }
    database.close().await;
    while let Some(ended) = tasks.join_next().await {
        ended.expect("answered");
    }
    assert_eq!(database.version().await, None);
    at.drop([other]).await;
}
