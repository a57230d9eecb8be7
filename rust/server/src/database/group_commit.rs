//! SQLite's one writer. Requests that write take turns on one connection, in the order they came, and share a commit: what
//! takes time is the disk, once for each commit. Each has a savepoint of its own, and none hears that it is done before the
//! commit is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, AnyPool, Connection, Row};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// Most requests that share a commit.
const MOST: usize = 128;
/// Longest time for which a commit is put off, so that those that are ready need not wait for all that come.
const LONGEST: Duration = Duration::from_millis(10);
/// Longest wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// When requests keep coming, other processes, such as the operator's tool, are let in this often …
const LETS_IN_EVERY: Duration = Duration::from_millis(250);
/// … and this long: they look only from time to time.
const LETS_IN: Duration = Duration::from_millis(10);

/// Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    group: Arc<Mutex<Group>>,
    /// How many wait for their turn.
    waiting: Arc<AtomicUsize>,
}

/// The transaction that is shared.
struct Group {
    pool: AnyPool,
    /// None before the first turn, and when it broke.
    connection: Option<AnyConnection>,
    closed: bool,
    /// When the transaction began; None while there is none.
    began: Option<Instant>,
    /// Those that are done but for the commit.
    members: Vec<oneshot::Sender<bool>>,
    let_in_at: Instant,
}

/// One request's part of the transaction; undone when it is dropped.
pub struct Turn {
    /// Some until it is over.
    group: Option<OwnedMutexGuard<Group>>,
    writer: Writer,
}

impl Writer {
    pub fn new(pool: AnyPool) -> Self {
        let (members, let_in_at) = (Vec::new(), Instant::now());
        let group = Group { pool, connection: None, closed: false, began: None, members, let_in_at };
        Self { group: Arc::new(Mutex::new(group)), waiting: Arc::default() }
    }

    /// Begins a turn; gives the time by the database's clock as well.
    pub async fn begin(&self, clock: &'static str) -> sqlx::Result<(Turn, i64)> {
        let waits = Waits::new(self);
        let group = tokio::time::timeout(PATIENCE, Arc::clone(&self.group).lock_owned()).await;
        let group = group.map_err(|_| sqlx::Error::PoolTimedOut)?;
        waits.taken();
        let mut turn = Turn { group: Some(group), writer: self.clone() };
        // A task of its own: if the caller goes away in the middle, the turn still ends in good order.
        let begun = tokio::spawn(async move {
            let now = turn.group_mut().begin(clock).await?;
            Ok((turn, now))
        });
        begun.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// After all that was begun, closes the connection.
    pub async fn close(&self) {
        let mut group = self.group.lock().await;
        group.settle().await;
        group.closed = true;
        if let Some(connection) = group.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the writer's connection did not close well");
        }
    }

    /// Ends the transaction, unless somebody is about to go on with it.
    async fn settle_if_last(&self, mut group: OwnedMutexGuard<Group>) {
        // Those that are ready to write come first.
        tokio::task::yield_now().await;
        let full = group.members.len() >= MOST || group.began.is_some_and(|began| began.elapsed() >= LONGEST);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            group.settle().await;
        } else if full {
            group.settle().await;
            if group.let_in_at.elapsed() >= LETS_IN_EVERY {
                tokio::time::sleep(LETS_IN).await;
                group.let_in_at = Instant::now();
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
        if self.began.is_none() {
            // IMMEDIATE: a transaction that first reads and then writes could otherwise fail as busy.
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            self.began = Some(Instant::now());
        }
        sqlx::query("SAVEPOINT turn").execute(&mut *connection).await?;
        sqlx::query(clock).fetch_one(connection).await?.try_get(0)
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        sqlx::query(sql).execute(connection).await.map(drop)
    }

    /// Commits what there is, and tells those that wait for it.
    async fn settle(&mut self) {
        if self.began.take().is_none() {
            return;
        }
        let committed = self.run("COMMIT").await;
        if let Err(error) = &committed {
            tracing::error!(%error, members = self.members.len(), "a shared transaction was not committed");
            self.abandon().await;
        }
        for member in self.members.drain(..) {
            // Err: whoever asked has hung up.
            let _gone = member.send(committed.is_ok());
        }
    }

    /// After a failure nobody knows what the transaction holds: all of it is undone, and all members are told.
    async fn abandon(&mut self) {
        self.began = None;
        self.members.clear();
        if self.run("ROLLBACK").await.is_err() {
            // There may have been none left. A new connection surely has none.
            self.connection = None;
        }
    }
}

impl Turn {
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

    /// Waits until what was done is durable.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        let (sender, committed) = oneshot::channel();
        // A task of its own: others wait for it, whether the caller does or not.
        let released = tokio::spawn(async move {
            self.group_mut().run("RELEASE turn").await?;
            let (writer, group) = (self.writer.clone(), self.group.take());
            let Some(mut group) = group else { return Err(sqlx::Error::WorkerCrashed) };
            group.members.push(sender);
            writer.settle_if_last(group).await;
            Ok(())
        });
        released.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        match committed.await {
            Ok(true) => Ok(()),
            // Undone, or nobody knows: to be repeated, which does no harm.
            Ok(false) | Err(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        if group.began.is_none() {
            return;
        }
        let writer = self.writer.clone();
        let undo = async move {
            let undone = match group.run("ROLLBACK TO turn").await {
                Ok(()) => group.run("RELEASE turn").await,
                failed => failed,
            };
            if let Err(error) = undone {
                // Such as a full disk: SQLite has undone the whole transaction by itself.
                tracing::error!(%error, "a shared transaction was lost");
                group.abandon().await;
            }
            writer.settle_if_last(group).await;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(undo)),
            // The process is going down: SQLite undoes what was not committed.
            Err(_) => drop(undo),
        }
    }
}

/// One that waits for its turn. If it gives up, those that counted on it to go on with the transaction must not wait for it.
struct Waits<'a> {
    writer: &'a Writer,
    over: bool,
}

impl<'a> Waits<'a> {
    fn new(writer: &'a Writer) -> Self {
        writer.waiting.fetch_add(1, Ordering::SeqCst);
        Self { writer, over: false }
    }

    fn taken(mut self) {
        self.over = true;
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.writer.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.over {
            return;
        }
        let writer = self.writer.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let group = Arc::clone(&writer.group).lock_owned().await;
                writer.settle_if_last(group).await;
            });
        }
    }
}

#[cfg(test)]
mod tests;
