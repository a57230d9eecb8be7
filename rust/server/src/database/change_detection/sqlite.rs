//! Whether SQLite's file has changed. Asked where one is, without a thread to hand the question to: it takes no call of the
//! system, reads no row, and sees what any process has committed.
//!
//! Every commit to a write-ahead log changes the header of the log's index before it is acknowledged: that is how
//! readers find it. The index is memory that all processes share, and its header is what SQLite itself compares for `PRAGMA
//! data_version`, after taking two locks. Here it is only compared. Its layout, and where its version stands, are documented:
//! <https://www.sqlite.org/walformat.html>.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use libsqlite3_sys as ffi;

use super::{DbVersion, MAX_WATCHERS, lock};

/// Watchers of one file, so that threads need not wait for each other.
pub struct Watchers(Box<[Mutex<Option<Watcher>>]>);

impl Watchers {
    /// Watches `path`. Fails where the answer could not be relied on.
    pub fn of(path: &str) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let watcher = |_| Ok(Mutex::new(Some(Watcher::open(path)?)));
        Ok(Self((0..threads.min(MAX_WATCHERS)).map(watcher).collect::<Result<_>>()?))
    }

    /// The state now, or one that came about during the call, and the time. None: it was closed.
    pub fn now(&self) -> Option<(DbVersion, i64)> {
        let watcher = own_number() % self.0.len();
        let version = lock(&self.0[watcher]).as_mut()?.version();
        // SQLite's clock is this machine's.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some((DbVersion { watcher, number: version }, i64::try_from(now.as_millis()).ok()?))
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

/// The words of the header, and of its copy right after it.
const HEADER: usize = 12;
/// The header's first word, in all versions of SQLite that know write-ahead logs.
const VERSION: u32 = 3_007_000;
/// Bytes of the index that are mapped at once.
const REGION: c_int = 32_768;

/// A connection that keeps the index where it is.
struct Watcher {
    connection: NonNull<ffi::sqlite3>,
    /// Of the connection, for as long as it is open.
    header: NonNull<[AtomicU32; 2 * HEADER]>,
    /// What the header was when it was last looked at.
    last: [u32; 2 * HEADER],
    /// How many different ones there were.
    version: i64,
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
        let header = opened.header()?;
        let connection = opened.0;
        std::mem::forget(opened);
        Ok(Self { connection, header, last: [0; 2 * HEADER], version: 0 })
    }

    /// Differs when anything was committed since the last call.
    ///
    /// A commit writes the copy, then the header. So when both are as they were, in this order, no commit had
    /// begun; and what is caught half written is not the same the next time.
    fn version(&mut self) -> i64 {
        // SAFETY: the memory is mapped until the connection is closed, which is when `self` is dropped.
        let header = unsafe { self.header.as_ref() };
        let mut now = [0; 2 * HEADER];
        for (word, (now, shared)) in now.iter_mut().zip(header).enumerate() {
            if word == HEADER {
                fence(Ordering::SeqCst);
            }
            *now = shared.load(Ordering::Relaxed);
        }
        // What is read from rows is read later.
        fence(Ordering::SeqCst);
        if now != self.last {
            self.last = now;
            self.version += 1;
        }
        self.version
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // SAFETY: the connection is alive, has no statements, and neither it nor its memory is used afterwards.
        unsafe { ffi::sqlite3_close(self.connection.as_ptr()) };
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

    /// The header of the log's index, which was mapped when something was read.
    fn header(&self) -> Result<NonNull<[AtomicU32; 2 * HEADER]>> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        let mut index = ptr::null_mut();
        let place = (&raw mut file).cast();
        // SAFETY: the connection is alive, and `file` is a place for the pointer that is asked for. The file is the
        // connection's, and its methods are called as SQLite calls them; `index` is a place for a pointer.
        let code = unsafe {
            let code = ffi::sqlite3_file_control(
                self.0.as_ptr(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_FILE_POINTER,
                place,
            );
            let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
            let map = methods.filter(|methods| methods.iVersion >= 2).and_then(|methods| methods.xShmMap);
            map.filter(|_| code == ffi::SQLITE_OK).map(|map| map(file, 0, REGION, 0, &raw mut index))
        };
        let header = NonNull::new(index.cast::<[AtomicU32; 2 * HEADER]>());
        let Some(header) = header.filter(|_| code == Some(ffi::SQLITE_OK)) else {
            bail!("SQLite shows no index of the log: code {code:?}");
        };
        // SAFETY: what is mapped is larger, begins at a page, and stays for as long as the connection is open.
        let version = unsafe { header.as_ref() }[0].load(Ordering::Relaxed);
        if version != VERSION {
            bail!("the index of the log is of an unknown version: {version}");
        }
        Ok(header)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the connection is alive and not used afterwards; what was prepared on it is finished.
        unsafe { ffi::sqlite3_close(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests;
