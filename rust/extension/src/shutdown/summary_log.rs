//! The summary line of a shutdown, logged once.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use backend_client::shutdown::Summary;
use godot::prelude::*;

use crate::shutdown::signals;

/// Time-out of the write to standard output, before the process ends without it.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// The summary line of one shutdown.
#[derive(Default)]
pub struct SummaryLog(AtomicBool);

impl SummaryLog {
    /// Main thread. Writes it to the engine's log.
    pub fn log(&self, code: i32, summary: &Summary) {
        if self.is_first() {
            godot_print!("{}", describe(code, summary));
        }
    }

    /// Any thread. Writes it if it was not written, and ends the process at once. Waits neither for the main thread nor, for
    /// longer than [`OUTPUT_TIMEOUT`], for a full pipe.
    pub fn exit(&self, code: i32, summary: &Summary) {
        print_and_exit(self.is_first().then(|| describe(code, summary)), code);
    }

    fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
}

/// Any thread. Writes `text` and ends the process at once, even if nobody reads.
pub fn print_and_exit(text: Option<String>, code: i32) -> ! {
    let (done, is_done) = mpsc::channel();
    let write = move || {
        flush_engine();
        if let Some(text) = text {
            // A closed pipe cannot be reported.
            let _closed = writeln!(std::io::stdout(), "{text}");
        }
        // The wait may have timed out.
        let _late = done.send(());
    };
    if std::thread::Builder::new().name("backend-summary".into()).spawn(write).is_ok() {
        // Late or not, the process ends now.
        let _late = is_done.recv_timeout(OUTPUT_TIMEOUT);
    }
    signals::exit_now(code)
}

fn describe(code: i32, summary: &Summary) -> String {
    format!("backend_client: {summary} exit_code={code}")
}

/// What the engine has printed may still be in the C library's buffers, from where an exit without destructors would
/// not bring it out: exported games do not flush each line.
#[cfg(unix)]
fn flush_engine() {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn fflush(stream: *mut c_void) -> c_int;
    }
    // SAFETY: `fflush(NULL)` flushes all output streams of the process, may be called on any thread, and takes no
    // memory of ours.
    let _not_reported = unsafe { fflush(std::ptr::null_mut()) };
}

/// The engine has a C library of its own there.
#[cfg(not(unix))]
fn flush_engine() {}
