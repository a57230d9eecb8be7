//! SIGTERM, SIGINT and SIGHUP, and what Windows has in their place, become a shutdown.
//!
//! SIGHUP is left alone where the process was started with it ignored: `nohup` means that the end of the terminal is not the
//! end of the server. SIGQUIT keeps its default, which is to leave a core dump at once: it is for a process that hangs.
//!
//! The watcher is installed by the first `BackendShutdown` in the tree and stays for the life of the process: a signal
//! handler cannot be removed again. Without a handler it applies the system's default action. It is
//! never installed in the editor, where a reload would leave the handler pointing into unmapped memory.
//!
//! A thread of its own waits for the system: neither a stuck main thread nor busy workers hold it up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_client::shutdown::Response;

/// Requests a shutdown, with the reason and the time limit of the system, if it has one.
pub type Trigger = Arc<dyn Fn(&str, Option<Duration>) -> Response + Send + Sync>;
/// Ends the process in the middle of a shutdown, once the journal is synced: with 0 if nothing would be lost, else with
/// this exit code.
pub type ForceExit = Arc<dyn Fn(i32) + Send + Sync>;

#[derive(Clone)]
struct Handlers {
    trigger: Trigger,
    force_exit: ForceExit,
}

static HANDLERS: Mutex<Option<Handlers>> = Mutex::new(None);

/// Main thread. Signals call `trigger` from now on.
pub fn install(trigger: Trigger, force_exit: ForceExit) {
    *lock() = Some(Handlers { trigger, force_exit });
    imp::start();
}

/// Main thread. Signals have their default effect from now on.
pub fn uninstall() {
    *lock() = None;
}

pub use imp::{exit_now, stop};

fn lock() -> std::sync::MutexGuard<'static, Option<Handlers>> {
    HANDLERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watcher's thread. Returns false if no handler is installed: the system's default then applies.
fn received(name: &str, at_most: Option<Duration>, exit_code: i32) -> bool {
    let Some(handlers) = lock().clone() else { return false };
    match (handlers.trigger)(name, at_most) {
        Response::Started => {}
        Response::Joined => tracing::debug!(signal = name, "the shutdown has begun already"),
        Response::ForceExit => (handlers.force_exit)(exit_code),
    }
    true
}

#[cfg(unix)]
mod imp {
    use std::sync::{Mutex, PoisonError};
    use std::thread::JoinHandle;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};
    use signal_hook::low_level;

    use crate::runtime::standard_streams;

    static WATCHER: Mutex<Option<(Handle, JoinHandle<()>)>> = Mutex::new(None);

    pub fn start() {
        let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_some() {
            return;
        }
        let mut watched = vec![SIGTERM, SIGINT];
        if !standard_streams::is_ignored(SIGHUP) {
            watched.push(SIGHUP);
        }
        let mut signals = match Signals::new(watched) {
            Ok(signals) => signals,
            Err(error) => return tracing::error!(%error, "termination signals cannot be watched"),
        };
        let handle = signals.handle();
        let thread = std::thread::Builder::new().name("backend-signals".into()).spawn(move || {
            for signal in signals.forever() {
                received(signal);
            }
        });
        match thread {
            Ok(thread) => *watcher = Some((handle, thread)),
            Err(error) => tracing::error!(%error, "termination signals cannot be watched"),
        }
    }

    /// Main thread, before the library goes.
    pub fn stop() {
        super::uninstall();
        let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((handle, thread)) = watcher {
            handle.close();
            // A watcher that panicked has nothing more to watch.
            let _panicked = thread.join();
        }
    }

    /// Ends the process at once: no destructors, which could hang or crash on a thread that is not the main one.
    pub fn exit_now(code: i32) -> ! {
        low_level::exit(code)
    }

    fn received(signal: i32) {
        let name = match signal {
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            _ => "SIGINT",
        };
        if super::received(name, None, 128 + signal) {
            return;
        }
        if std::process::id() == 1 {
            // The kernel ignores the default action for the first process, and a container would wait for a kill.
            exit_now(128 + signal);
        }
        // Returns only if the system ignores the signal as well.
        let _ignored = low_level::emulate_default_handler(signal);
    }
}

#[cfg(windows)]
mod imp {
    use std::io;
    use std::sync::{Mutex, PoisonError};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::signal::windows::{self, CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
    use tokio::sync::oneshot;

    /// What Windows itself uses for a process ended by Ctrl+C.
    const CONTROL_C_EXIT: i32 = 0xC000_013A_u32 as i32;
    /// Windows ends the process five seconds after a console was closed.
    const CLOSE: Duration = Duration::from_secs(4);

    static WATCHER: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>> = Mutex::new(None);

    /// Events of the console. After "close" and "shutdown" the process would be ended as soon as their handler
    /// returns; tokio's never returns, so that the shutdown has its time and ends the process itself.
    ///
    /// Not `CTRL_LOGOFF`: only services get it, whenever anybody logs off, and those have to go on.
    struct Events {
        c: CtrlC,
        r#break: CtrlBreak,
        close: CtrlClose,
        shutdown: CtrlShutdown,
    }

    impl Events {
        fn listen() -> io::Result<Self> {
            Ok(Self {
                c: windows::ctrl_c()?,
                r#break: windows::ctrl_break()?,
                close: windows::ctrl_close()?,
                shutdown: windows::ctrl_shutdown()?,
            })
        }

        /// The next event, and the time there is for it if the system sets one.
        async fn next(&mut self) -> (&'static str, Option<Duration>) {
            tokio::select! {
                _ = self.c.recv() => ("CTRL_C", None),
                _ = self.r#break.recv() => ("CTRL_BREAK", None),
                _ = self.close.recv() => ("CTRL_CLOSE", Some(CLOSE)),
                _ = self.shutdown.recv() => ("CTRL_SHUTDOWN", Some(CLOSE)),
            }
        }
    }

    pub fn start() {
        let mut watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_some() {
            return;
        }
        // Needs neither timers nor I/O: the console's handler wakes it from a thread of the system's.
        let (runtime, mut events) = match (Builder::new_current_thread().build(), Events::listen()) {
            (Ok(runtime), Ok(events)) => (runtime, events),
            (Err(error), _) | (_, Err(error)) => {
                return tracing::error!(%error, "console events cannot be watched");
            }
        };
        let (stop_sender, mut stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("backend-signals".into()).spawn(move || {
            loop {
                let next = runtime.block_on(async {
                    tokio::select! {
                        _ = &mut stopped => None,
                        event = events.next() => Some(event),
                    }
                });
                let Some((name, at_most)) = next else { return };
                // Outside of `block_on`: leaving waits for the journal, which blocks.
                if !super::received(name, at_most, CONTROL_C_EXIT) {
                    exit_now(CONTROL_C_EXIT);
                }
            }
        });
        match thread {
            Ok(thread) => *watcher = Some((stop_sender, thread)),
            Err(error) => tracing::error!(%error, "console events cannot be watched"),
        }
    }

    /// Main thread, before the library goes.
    pub fn stop() {
        super::uninstall();
        let watcher = WATCHER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((handle, thread)) = watcher {
            // It has ended already if nobody listens.
            let _ended = handle.send(());
            // A watcher that panicked has nothing more to watch.
            let _panicked = thread.join();
        }
    }

    pub fn exit_now(code: i32) -> ! {
        std::process::exit(code)
    }
}

#[cfg(not(any(unix, windows)))]
mod imp {
    pub fn start() {}

    pub fn stop() {
        super::uninstall();
    }

    pub fn exit_now(code: i32) -> ! {
        std::process::exit(code)
    }
}
