use super::*;
use crate::database::Database;

async fn database(folder: &tempfile::TempDir) -> Database {
    let database = Database::open(&folder.path().join("test.db").display().to_string()).await.expect("opens");
    let mut tx = database.begin().await.expect("begins");
    sqlx::query("CREATE TABLE marks (mark BIGINT PRIMARY KEY)").execute(&mut *tx.conn).await.expect("made");
    tx.commit().await.expect("committed");
    database
}

async fn marks(database: &Database) -> Vec<i64> {
    let rows = sqlx::query("SELECT mark FROM marks ORDER BY mark").fetch_all(database.pool()).await;
    rows.expect("read").iter().map(|row| row.try_get(0).expect("a number")).collect()
}

async fn mark(database: Database, mark: i64) -> sqlx::Result<crate::database::Transaction> {
    let mut tx = database.begin().await?;
    sqlx::query("INSERT INTO marks (mark) VALUES ($1)").bind(mark).execute(&mut *tx.conn).await?;
    Ok(tx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_shares_a_commit_stands_or_falls_for_itself() {
    let folder = tempfile::tempdir().expect("folder");
    let database = database(&folder).await;
    let mut tasks = Vec::new();
    for number in 0..300 {
        let database = database.clone();
        tasks.push(tokio::spawn(async move {
            let tx = mark(database.clone(), number).await.expect("written");
            match number % 3 {
                0 => tx.commit().await.expect("committed"),
                1 => drop(tx),
                // The third breaks a rule of the table, as a handler might, and gives up.
                _ => {
                    let mut tx = tx;
                    let twice = sqlx::query("INSERT INTO marks (mark) VALUES ($1)").bind(number);
                    twice.execute(&mut *tx.conn).await.expect_err("there is one");
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("ended");
    }
    let committed: Vec<i64> = (0..300).filter(|number| number % 3 == 0).collect();
    assert_eq!(marks(&database).await, committed);
    database.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_hangs_up_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("folder");
    let database = database(&folder).await;
    let mut tasks = Vec::new();
    for number in 0..300 {
        let database = database.clone();
        let task = tokio::spawn(async move { mark(database, number).await?.commit().await });
        if number % 2 == 1 {
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
        tasks.push(task);
    }
    let mut acknowledged = Vec::new();
    for (number, task) in (0..).zip(tasks) {
        match task.await {
            Ok(Ok(())) => acknowledged.push(number),
            Ok(Err(error)) => panic!("{number}: {error}"),
            Err(error) => assert!(error.is_cancelled()),
        }
    }
    let kept = marks(&database).await;
    assert!(acknowledged.iter().all(|number| kept.contains(number)), "what was acknowledged is there");
    assert!((0..300).step_by(2).all(|number| acknowledged.contains(&number)));
    database.close().await;
}

#[tokio::test]
async fn another_process_gets_its_turn() {
    let folder = tempfile::tempdir().expect("folder");
    let one = database(&folder).await;
    let other = database_beside(&folder).await;
    for number in 0..20 {
        mark(one.clone(), number * 2).await.expect("written").commit().await.expect("committed");
        mark(other.clone(), number * 2 + 1).await.expect("written").commit().await.expect("committed");
    }
    assert_eq!(marks(&one).await, (0..40).collect::<Vec<i64>>());
}

async fn database_beside(folder: &tempfile::TempDir) -> Database {
    Database::open(&folder.path().join("test.db").display().to_string()).await.expect("opens")
}
