//! SIGTERM and SIGINT, and what Windows has in their place, become a shutdown.
//!
//! The watcher is installed by the first `BackendShutdown` in the tree and stays for the life of the process: a signal
//! handler cannot be taken out again. Without a shutdown to trigger it does what the system would have done. It is
//! never installed in the editor, where a reload would leave the handler pointing into unmapped memory.

use std::sync::{Arc, Mutex, PoisonError};

/// Begins a shutdown for a reason. False: it has begun already, and whoever asks again does not want to wait.
pub type Trigger = Arc<dyn Fn(&str) -> bool + Send + Sync>;
/// The exit code for leaving in the middle of a shutdown: 0 if nothing would be lost.
pub type ExitCode = Arc<dyn Fn() -> Option<i32> + Send + Sync>;

#[derive(Clone)]
struct Answer {
    trigger: Trigger,
    exit_code: ExitCode,
}

static ANSWER: Mutex<Option<Answer>> = Mutex::new(None);

/// Main thread. Answers signals with `trigger` from now on.
pub fn answer_with(trigger: Trigger, exit_code: ExitCode) {
    *lock() = Some(Answer { trigger, exit_code });
    imp::watch();
}

/// Main thread. Answers signals as the system would.
pub fn answer_no_more() {
    *lock() = None;
}

pub use imp::{exit_now, unwatch};

fn lock() -> std::sync::MutexGuard<'static, Option<Answer>> {
    ANSWER.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
mod imp {
    use std::sync::{Mutex, PoisonError};
    use std::thread::JoinHandle;

    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};
    use signal_hook::low_level;

    static WATCHER: Mutex<Option<(Handle, JoinHandle<()>)>> = Mutex::new(None);

    pub fn watch() {
        let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_some() {
            return;
        }
        let mut signals = match Signals::new([SIGTERM, SIGINT]) {
            Ok(signals) => signals,
            Err(error) => return tracing::error!(%error, "termination signals cannot be watched"),
        };
        let stop = signals.handle();
        let thread = std::thread::Builder::new().name("backend-signals".into()).spawn(move || {
            for signal in signals.forever() {
                received(signal);
            }
        });
        match thread {
            Ok(thread) => *watcher = Some((stop, thread)),
            Err(error) => tracing::error!(%error, "termination signals cannot be watched"),
        }
    }

    /// Main thread, before the library goes.
    pub fn unwatch() {
        super::answer_no_more();
        let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = watcher {
            stop.close();
            // A watcher that panicked has nothing more to watch.
            let _panicked = thread.join();
        }
    }

    /// Ends the process at once: no destructors, which could hang or crash on a thread that is not the main one.
    pub fn exit_now(code: i32) -> ! {
        low_level::exit(code)
    }

    fn received(signal: i32) {
        let Some(answer) = super::lock().clone() else {
            // Returns only if the system ignores the signal as well.
            let _ignored = low_level::emulate_default_handler(signal);
            return;
        };
        let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
        if !(answer.trigger)(name) {
            tracing::warn!("{name} again: leaving at once");
            exit_now((answer.exit_code)().unwrap_or(128 + signal));
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::signal::windows;

    /// What Windows itself uses for a process ended by Ctrl+C.
    const CONTROL_C_EXIT: i32 = 0xC000_013A_u32 as i32;

    static WATCHED: AtomicBool = AtomicBool::new(false);

    pub fn watch() {
        if WATCHED.swap(true, Ordering::SeqCst) {
            return;
        }
        crate::runtime::spawn(async {
            let sources =
                (windows::ctrl_c(), windows::ctrl_break(), windows::ctrl_close(), windows::ctrl_shutdown());
            let (Ok(mut c), Ok(mut r#break), Ok(mut close), Ok(mut shutdown)) = sources else {
                return tracing::error!("console events cannot be watched");
            };
            loop {
                let name = tokio::select! {
                    _ = c.recv() => "CTRL_C",
                    _ = r#break.recv() => "CTRL_BREAK",
                    _ = close.recv() => "CTRL_CLOSE",
                    _ = shutdown.recv() => "CTRL_SHUTDOWN",
                };
                let answer = super::lock().clone();
                match answer {
                    Some(answer) if (answer.trigger)(name) => {}
                    Some(answer) => exit_now((answer.exit_code)().unwrap_or(CONTROL_C_EXIT)),
                    None => exit_now(CONTROL_C_EXIT),
                }
            }
        });
    }

    pub fn unwatch() {
        super::answer_no_more();
        WATCHED.store(false, Ordering::SeqCst);
    }

    pub fn exit_now(code: i32) -> ! {
        std::process::exit(code)
    }
}

#[cfg(not(any(unix, windows)))]
mod imp {
    pub fn watch() {}

    pub fn unwatch() {
        super::answer_no_more();
    }

    pub fn exit_now(code: i32) -> ! {
        std::process::exit(code)
    }
}
