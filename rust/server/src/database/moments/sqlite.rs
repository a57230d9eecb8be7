//! Whether SQLite's file has changed. Asked where one is, without a thread to hand the question to: it takes a microsecond,
//! reads no row, and sees what any process has committed.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use libsqlite3_sys as ffi;

use super::{MOST, Moment, lock};

/// Watchers of one file, so that threads need not wait for each other.
pub struct Watchers(Box<[Mutex<Option<Watcher>>]>);

impl Watchers {
    /// Watches `path`. Fails where the answer could not be relied on.
    pub fn of(path: &str) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let watcher = |_| Ok(Mutex::new(Some(Watcher::open(path)?)));
        Ok(Self((0..threads.min(MOST)).map(watcher).collect::<Result<_>>()?))
    }

    /// The state now, or one that came about while this was asked, and the time. None: SQLite is busy, or was closed.
    pub fn now(&self) -> Option<(Moment, i64)> {
        let watcher = own_number() % self.0.len();
        let version = lock(&self.0[watcher]).as_mut()?.version()?;
        // SQLite's clock is this machine's.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some((Moment { watcher, version }, i64::try_from(now.as_millis()).ok()?))
    }

    pub fn close(&self) {
        for watcher in &self.0 {
            lock(watcher).take();
        }
    }
}

/// Of this thread: those that ask all the time come to have numbers that follow each other.
fn own_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<Option<usize>> = const { Cell::new(None) });
    OWN.get().unwrap_or_else(|| {
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        OWN.set(Some(own));
        own
    })
}

/// A connection that asks one question.
struct Watcher {
    connection: NonNull<ffi::sqlite3>,
    statement: NonNull<ffi::sqlite3_stmt>,
}

// SAFETY: SQLite is compiled to be safe for threads, and a `&mut Watcher` is needed for everything that is done with it.
unsafe impl Send for Watcher {}

impl Watcher {
    fn open(path: &str) -> Result<Self> {
        let path = CString::new(path).context("a path with a zero")?;
        let mut connection = ptr::null_mut();
        // Read and write, because only who might write takes part in the bookkeeping of the log; nothing is written.
        let flags = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_NOMUTEX;
        // SAFETY: `path` ends with a zero, and `connection` is a place for a pointer.
        let code = unsafe { ffi::sqlite3_open_v2(path.as_ptr(), &raw mut connection, flags, ptr::null()) };
        // SQLite gives a connection to be closed also when it fails.
        let opened = Opened(NonNull::new(connection).context("SQLite has no memory")?);
        if code != ffi::SQLITE_OK {
            bail!("SQLite cannot open the file: code {code}");
        }
        // Of a database that is not a file each connection has its own, and sees no other's commits.
        let mut mode = opened.prepare(c"PRAGMA journal_mode")?;
        // SAFETY: the statement is alive; the text is read before the statement is finished.
        let is_wal = unsafe {
            ffi::sqlite3_step(mode.as_mut()) == ffi::SQLITE_ROW && {
                let text = ffi::sqlite3_column_text(mode.as_mut(), 0);
                !text.is_null() && CStr::from_ptr(text.cast()).to_bytes() == b"wal"
            }
        };
        // SAFETY: it was prepared above and is not used any more.
        unsafe { ffi::sqlite3_finalize(mode.as_ptr()) };
        if !is_wal {
            bail!("the database has no write-ahead log");
        }
        let statement = opened.prepare(c"PRAGMA data_version")?;
        let connection = opened.0;
        std::mem::forget(opened);
        Ok(Self { connection, statement })
    }

    /// <https://www.sqlite.org/pragma.html#pragma_data_version>: differs when another connection has committed anything
    /// since this one was last asked. None: busy.
    fn version(&mut self) -> Option<i64> {
        let statement = self.statement.as_ptr();
        // SAFETY: the statement is alive until `self` is dropped, and nobody else uses it or its connection meanwhile.
        unsafe {
            let row = ffi::sqlite3_step(statement) == ffi::SQLITE_ROW;
            let version = row.then(|| ffi::sqlite3_column_int64(statement, 0));
            // Ends the read transaction as well.
            ffi::sqlite3_reset(statement);
            version
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // SAFETY: both are alive, the statement is the connection's only one, and neither is used afterwards.
        unsafe {
            ffi::sqlite3_finalize(self.statement.as_ptr());
            ffi::sqlite3_close(self.connection.as_ptr());
        }
    }
}

/// A connection until it is a watcher's.
struct Opened(NonNull<ffi::sqlite3>);

impl Opened {
    fn prepare(&self, sql: &CStr) -> Result<NonNull<ffi::sqlite3_stmt>> {
        let mut statement = ptr::null_mut();
        let flags = ffi::SQLITE_PREPARE_PERSISTENT;
        // SAFETY: the connection is alive, `sql` ends with a zero, and `statement` is a place for a pointer.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                self.0.as_ptr(),
                sql.as_ptr(),
                -1 as c_int,
                flags,
                &raw mut statement,
                ptr::null_mut(),
            )
        };
        NonNull::new(statement).with_context(|| format!("SQLite prepares no statement: code {code}"))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the connection is alive and not used afterwards; what was prepared on it is finished.
        unsafe { ffi::sqlite3_close(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shared_is_not_watched() {
        assert!(Watchers::of(":memory:").is_err());
        assert!(Watchers::of("/nowhere/at/all.db").is_err());
    }
}
