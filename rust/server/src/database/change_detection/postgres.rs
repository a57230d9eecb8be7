//! Whether a transaction took effect in PostgreSQL. One connection serves all requests: those that come while a
//! statement is on its way share the next one, and none that began before a request came answers it.
//!
//! What is compared is the snapshot that statements run with: which transactions they see. A transaction that ended is not
//! among those in progress any more, or is beyond those that had begun, so two equal ones see the same rows.
//! Transactions without a number have written nothing. Snapshots are the whole cluster's: they also differ
//! when another database of it was written to.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, mem};

use anyhow::{Context, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::{DbVersion, lock};

/// The snapshot, what it is a snapshot of, and the time.
///
/// Numbers of transactions that left no trace can be given again after a crash, and another server has numbers of its own.
/// Then the connection breaks as well, but a pooler in between may hide that: the server's start and its process tell. (A
/// pooler that goes through several processes makes all states differ, and every read queries the database as if there
/// were no detection.) A standby's snapshots do not tell what it has applied.
const STATE: &str = "SELECT CAST(pg_current_snapshot() AS TEXT), pg_postmaster_start_time(), pg_backend_pid(), \
                     pg_is_in_recovery(), CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
/// Columns of [`STATE`] that have to be the same.
const COMPARED: [usize; 3] = [0, 1, 2];
const IN_RECOVERY: usize = 3;
const CLOCK: usize = 4;

/// So many changes in a row mean that the database is written to all the time: then the question is a way to it and back
/// for nothing. Fewer could be two writes that happened to come between requests.
const MAX_CHANGES_IN_A_ROW: u32 = 8;
/// No polls for so long after that. Long against the 8 questions (1 to 5 ms under load), so that constant writes cost reads
/// a few hundredths; short against a lull.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for an answer, which takes a millisecond on a busy database. Requests wait for it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest attempt to connect, as with the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to connect; requests do not wait for them.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// As the pool's connections: whoever moves the database by a name or an address is followed by all of them.
const MAX_CONNECTION_AGE: Duration = Duration::from_mins(30);

/// Asks for everybody.
pub struct Watcher {
    shared: Arc<Shared>,
    polling: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    polls: Mutex<Polls>,
    /// A request waits for the next poll.
    wanted: Notify,
    /// Polls of even and of odd numbers have ended: who waits for the next but one is not woken by the next.
    ended: [Notify; 2],
}

/// A poll is one statement.
#[derive(Default)]
struct Polls {
    /// Those that have begun.
    begun: usize,
    /// Whether a request waits for the next.
    wanted: bool,
    /// No polls run at the moment.
    paused: bool,
    /// What the last one that ended found.
    found: Option<(DbVersion, i64)>,
}

impl Watcher {
    /// Connects to `url`. Fails where the answer could not be relied on.
    pub async fn of(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse().context("not a URL of PostgreSQL")?;
        let poller = Poller::of(options.disable_statement_logging()).await?;
        let shared = Arc::new(Shared::default());
        let polling = tokio::spawn(poller.poll_for_all(Arc::clone(&shared)));
        Ok(Self { shared, polling: Mutex::new(Some(polling)) })
    }

    /// A version no older than this call, and the time by the database's clock. None: there is no connection, or it
    /// would not help.
    pub async fn now(&self) -> Option<(DbVersion, i64)> {
        let shared = &*self.shared;
        let (ended, is_first) = {
            let mut polls = lock(&shared.polls);
            if polls.paused {
                return None;
            }
            // Created under the lock, it is notified when the next poll ends.
            let ended = shared.ended[(polls.begun + 1) % 2].notified();
            (ended, !mem::replace(&mut polls.wanted, true))
        };
        if is_first {
            shared.wanted.notify_one();
        }
        ended.await;
        // That poll's or a later one's.
        lock(&shared.polls).found
    }

    /// Closes the connection.
    pub async fn close(&self) {
        let Some(polling) = lock(&self.polling).take() else { return };
        polling.abort();
        // Err: it was aborted.
        let _aborted = polling.await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(polling) = lock(&self.polling).take() {
            polling.abort();
        }
    }
}

impl Shared {
    fn begin(&self) {
        let mut polls = lock(&self.polls);
        polls.begun += 1;
        polls.wanted = false;
    }

    fn end(&self, found: Option<(DbVersion, i64)>) {
        let poll = {
            let mut polls = lock(&self.polls);
            polls.found = found;
            polls.begun
        };
        self.ended[poll % 2].notify_waiters();
    }

    /// Sends away those who wait, and those who come until [`Shared::resume`].
    fn pause(&self) {
        lock(&self.polls).paused = true;
        self.begin();
        self.end(None);
    }

    fn resume(&self) {
        lock(&self.polls).paused = false;
    }
}

/// Completes all waiting requests, however polling ends.
struct PollGuard(Arc<Shared>);

impl Drop for PollGuard {
    fn drop(&mut self) {
        // Who waits for a poll that was not finished, and who waits for the next.
        self.0.end(None);
        self.0.pause();
    }
}

/// Why there is no use in polling.
enum Pause {
    /// Something changes all the time.
    Writes,
    /// The connection is of no use.
    Broken(sqlx::Error),
    /// The connection is old.
    Old,
}

/// The connection that polls.
struct Poller {
    options: PgConnectOptions,
    connection: PgConnection,
    connected_at: Instant,
    /// The state that was found last; empty before the first.
    last: Vec<u8>,
    /// Of the state that is being looked at; kept for its memory.
    this: Vec<u8>,
    /// How many different ones there were, by any connection.
    version: i64,
    /// How many of the last answers differed from the one before.
    changes: u32,
}

impl Poller {
    async fn of(options: PgConnectOptions) -> sqlx::Result<Self> {
        let connection = PgConnection::connect_with(&options).await?;
        let (last, this) = (Vec::new(), Vec::new());
        let mut poller =
            Self { options, connection, connected_at: Instant::now(), last, this, version: 0, changes: 0 };
        poller.state().await?;
        Ok(poller)
    }

    async fn poll_for_all(mut self, shared: Arc<Shared>) {
        let polling = PollGuard(shared);
        let shared = &*polling.0;
        loop {
            let pause = self.poll_while_useful(shared).await;
            shared.pause();
            match pause {
                Pause::Writes => {
                    sleep(PAUSE).await;
                    self.changes = 0;
                }
                Pause::Old => self.connect().await,
                Pause::Broken(error) => {
                    tracing::warn!("reads ask the database each time until it can be watched again: {error}");
                    self.connect().await;
                    tracing::info!("the database is watched again");
                }
            }
            shared.resume();
        }
    }

    /// Polls, as long as they are of use.
    async fn poll_while_useful(&mut self, shared: &Shared) -> Pause {
        loop {
            shared.wanted.notified().await;
            // Requests that are ready join first: on an idle server this takes no time, on a busy one it makes one
            // poll of many.
            tokio::task::yield_now().await;
            shared.begin();
            let found = timeout(QUERY_TIMEOUT, self.state()).await;
            match found.unwrap_or_else(|_| Err(timed_out())) {
                Ok(found) => shared.end(Some(found)),
                Err(error) => {
                    shared.end(None);
                    return Pause::Broken(error);
                }
            }
            if self.changes >= MAX_CHANGES_IN_A_ROW {
                return Pause::Writes;
            }
            if self.connected_at.elapsed() > MAX_CONNECTION_AGE {
                return Pause::Old;
            }
        }
    }

    /// The state now.
    async fn state(&mut self) -> sqlx::Result<(DbVersion, i64)> {
        let row = sqlx::query(STATE).fetch_one(&mut self.connection).await?;
        if row.try_get(IN_RECOVERY)? {
            return Err(sqlx::Error::Protocol("the database is a standby".to_owned()));
        }
        self.this.clear();
        for column in COMPARED {
            let value = row.try_get_raw(column)?;
            self.this.extend_from_slice(value.as_bytes().map_err(sqlx::Error::Decode)?);
            // Not in a snapshot: where it ends is seen.
            self.this.push(b'/');
        }
        if self.this == self.last {
            self.changes = 0;
        } else {
            mem::swap(&mut self.this, &mut self.last);
            self.version += 1;
            self.changes += 1;
        }
        Ok((DbVersion { watcher: 0, number: self.version }, row.try_get(CLOCK)?))
    }

    /// Until there is a new connection that can be relied on. To it nothing is as it was before.
    async fn connect(&mut self) {
        while let Err(error) =
            timeout(CONNECT_TIMEOUT, self.connect_once()).await.unwrap_or_else(|_| Err(timed_out()))
        {
            tracing::debug!("the database cannot be watched: {error}");
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn connect_once(&mut self) -> sqlx::Result<()> {
        self.connection = PgConnection::connect_with(&self.options).await?;
        self.connected_at = Instant::now();
        self.last.clear();
        self.state().await?;
        self.changes = 0;
        Ok(())
    }
}

fn timed_out() -> sqlx::Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
