//! The line that says what a shutdown achieved: said once, by whoever comes first.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use backend_client::shutdown::Summary;
use godot::prelude::*;

use crate::shutdown::signals;

/// Longest wait for whoever reads our output, before the process ends without its last words.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// The last line of one shutdown.
#[derive(Default)]
pub struct SummaryLog(AtomicBool);

impl SummaryLog {
    /// Main thread. Says it in the engine's log.
    pub fn log(&self, code: i32, summary: &Summary) {
        if self.is_first() {
            godot_print!("{}", describe(code, summary));
        }
    }

    /// Any thread. Says it if it was not said, and ends the process at once. Waits neither for the main thread nor, for
    /// longer than a moment, for a pipe that nobody empties.
    pub fn exit(&self, code: i32, summary: &Summary) {
        let line = self.is_first().then(|| describe(code, summary));
        let (done, is_done) = mpsc::channel();
        let speak = move || {
            flush_engine();
            if let Some(line) = line {
                // Nobody is left to be told about a closed pipe.
                let _closed = writeln!(std::io::stdout(), "{line}");
            }
            // Whoever waited may have lost patience.
            let _late = done.send(());
        };
        if std::thread::Builder::new().name("backend-last-line".into()).spawn(speak).is_ok() {
            // Late or not, the process ends now.
            let _late = is_done.recv_timeout(OUTPUT_TIMEOUT);
        }
        signals::exit_now(code);
    }

    fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
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
    let _nobody_to_tell = unsafe { fflush(std::ptr::null_mut()) };
}

/// The engine has a C library of its own there.
#[cfg(not(unix))]
fn flush_engine() {}
