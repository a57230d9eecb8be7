//! Group commit for SQLite, which has one writer. Requests that write use one connection in the order they came, and share a
//! commit, because a commit costs a disk flush. Each has a savepoint of its own, and none is acknowledged before the commit is
//! durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, AnyPool, Connection, Row};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// Most requests that share a commit.
const MAX_GROUP: usize = 128;
/// Longest time for which a commit is put off, so that those that are ready need not wait for all that come.
const MAX_COMMIT_DELAY: Duration = Duration::from_millis(10);
/// Longest wait for the connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// While requests keep coming, other processes, such as the operator's tool, get the write lock this often …
const YIELD_INTERVAL: Duration = Duration::from_millis(250);
/// … and for this long: they poll for it.
const YIELD_TIME: Duration = Duration::from_millis(10);

/// Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    group: Arc<Mutex<Group>>,
    /// Number of requests that wait for the connection.
    waiting: Arc<AtomicUsize>,
}

/// The transaction that is shared.
struct Group {
    pool: AnyPool,
    /// None before the first request, and after it broke.
    connection: Option<AnyConnection>,
    closed: bool,
    /// When the transaction began; None while there is none.
    begun_at: Option<Instant>,
    /// Those that are done but for the commit.
    members: Vec<oneshot::Sender<bool>>,
    yielded_at: Instant,
}

/// One request's part of the transaction; undone when it is dropped.
pub struct WriteGuard {
    /// Some until it is over.
    group: Option<OwnedMutexGuard<Group>>,
    writer: Writer,
}

impl Writer {
    pub fn new(pool: AnyPool) -> Self {
        let (members, yielded_at) = (Vec::new(), Instant::now());
        let group = Group { pool, connection: None, closed: false, begun_at: None, members, yielded_at };
        Self { group: Arc::new(Mutex::new(group)), waiting: Arc::default() }
    }

    /// Begins a request's part of the transaction. Returns the time by the database's clock as well.
    pub async fn begin(&self, clock: &'static str) -> sqlx::Result<(WriteGuard, i64)> {
        let waiter = Waiter::new(self);
        let group = tokio::time::timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.group).lock_owned()).await;
        let group = group.map_err(|_| sqlx::Error::PoolTimedOut)?;
        waiter.taken();
        let mut guard = WriteGuard { group: Some(group), writer: self.clone() };
        // A task of its own: if the caller is cancelled, the savepoint still ends in good order.
        let begun = tokio::spawn(async move {
            let now = guard.group_mut().begin(clock).await?;
            Ok((guard, now))
        });
        begun.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// After all that was begun, closes the connection.
    pub async fn close(&self) {
        let mut group = self.group.lock().await;
        group.commit_group().await;
        group.closed = true;
        if let Some(connection) = group.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the writer's connection did not close well");
        }
    }

    /// Commits the transaction, unless another request is about to join it.
    async fn commit_group_if_last(&self, mut group: OwnedMutexGuard<Group>) {
        // Those that are ready to write come first.
        tokio::task::yield_now().await;
        let full = group.members.len() >= MAX_GROUP
            || group.begun_at.is_some_and(|begun_at| begun_at.elapsed() >= MAX_COMMIT_DELAY);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            group.commit_group().await;
        } else if full {
            group.commit_group().await;
            if group.yielded_at.elapsed() >= YIELD_INTERVAL {
                tokio::time::sleep(YIELD_TIME).await;
                group.yielded_at = Instant::now();
            }
        }
    }
}

impl Group {
    async fn begin(&mut self, clock: &'static str) -> sqlx::Result<i64> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        if self.connection.is_none() {
            self.connection = Some(self.pool.acquire().await?.detach());
        }
        let Some(connection) = &mut self.connection else { return Err(sqlx::Error::WorkerCrashed) };
        if self.begun_at.is_none() {
            // IMMEDIATE: a transaction that first reads and then writes could otherwise fail as busy.
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            self.begun_at = Some(Instant::now());
        }
        sqlx::query("SAVEPOINT request").execute(&mut *connection).await?;
        sqlx::query(clock).fetch_one(connection).await?.try_get(0)
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        sqlx::query(sql).execute(connection).await.map(drop)
    }

    /// Commits the transaction and completes the requests that share it.
    async fn commit_group(&mut self) {
        if self.begun_at.take().is_none() {
            return;
        }
        let committed = self.run("COMMIT").await;
        if let Err(error) = &committed {
            tracing::error!(%error, members = self.members.len(), "a shared transaction was not committed");
            self.roll_back().await;
        }
        for member in self.members.drain(..) {
            // Err: the caller was cancelled.
            let _gone = member.send(committed.is_ok());
        }
    }

    /// Rolls everything back. After a failure the state of the transaction is unknown, so all its requests fail.
    async fn roll_back(&mut self) {
        self.begun_at = None;
        self.members.clear();
        if self.run("ROLLBACK").await.is_err() {
            // There may have been none left. A new connection surely has none.
            self.connection = None;
        }
    }
}

impl WriteGuard {
    fn group_mut(&mut self) -> &mut Group {
        #[allow(clippy::expect_used)] // Taken only by what consumes the turn.
        self.group.as_mut().expect("a turn that is not over")
    }

    /// The connection to write on.
    pub fn connection(&self) -> &AnyConnection {
        #[allow(clippy::expect_used)] // As above; and begin() leaves one.
        self.group.as_ref().and_then(|group| group.connection.as_ref()).expect("a connection")
    }

    /// The same.
    pub fn connection_mut(&mut self) -> &mut AnyConnection {
        #[allow(clippy::expect_used)] // As above.
        self.group_mut().connection.as_mut().expect("a connection")
    }

    /// Waits until the changes are durable.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let (sender, committed) = oneshot::channel();
        // A task of its own: others wait for it, whether the caller does or not.
        let released = tokio::spawn(async move {
            self.group_mut().run("RELEASE request").await?;
            let (writer, group) = (self.writer.clone(), self.group.take());
            let Some(mut group) = group else { return Err(sqlx::Error::WorkerCrashed) };
            group.members.push(sender);
            writer.commit_group_if_last(group).await;
            Ok(())
        });
        released.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        match committed.await {
            Ok(true) => Ok(()),
            // Rolled back, or unknown: the caller may repeat it.
            Ok(false) | Err(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }
}

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        if group.begun_at.is_none() {
            return;
        }
        let writer = self.writer.clone();
        let undo = async move {
            let undone = match group.run("ROLLBACK TO request").await {
                Ok(()) => group.run("RELEASE request").await,
                failed => failed,
            };
            if let Err(error) = undone {
                // Such as a full disk: SQLite has undone the whole transaction by itself.
                tracing::error!(%error, "a shared transaction was lost");
                group.roll_back().await;
            }
            writer.commit_group_if_last(group).await;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(undo)),
            // The process is going down: SQLite undoes what was not committed.
            Err(_) => drop(undo),
        }
    }
}

/// A request that waits for the connection. If it gives up, the requests before it must not wait for it to commit.
struct Waiter<'a> {
    writer: &'a Writer,
    over: bool,
}

impl<'a> Waiter<'a> {
    fn new(writer: &'a Writer) -> Self {
        writer.waiting.fetch_add(1, Ordering::SeqCst);
        Self { writer, over: false }
    }

    fn taken(mut self) {
        self.over = true;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.writer.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.over {
            return;
        }
        let writer = self.writer.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let group = Arc::clone(&writer.group).lock_owned().await;
                writer.commit_group_if_last(group).await;
            });
        }
    }
}

#[cfg(test)]
mod tests;
