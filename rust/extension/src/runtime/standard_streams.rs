//! The process's standard streams and pipes, when their reader has closed them.
//!
//! The engine leaves SIGPIPE at its default, which ends a process that writes to a pipe or a socket nobody reads any more:
//! a backend that closes a connection in the midst of a request, `| head`, a log collector that restarts. With this, such
//! a write is an error like any other.

#[cfg(unix)]
mod imp {
    use std::ffi::c_int;
    use std::mem::zeroed;
    use std::ptr::{null, null_mut};

    /// Main thread, as the library is loaded. Whoever handles or ignores SIGPIPE already goes on doing so.
    ///
    /// A handler that does nothing, instead of `SIG_IGN`: programs that the game starts would inherit that, and many rely on
    /// the default. A handler is reset when another program takes the process's place. It stays for the life of the process:
    /// the engine writes to its standard streams until its last moment, with this library already closed.
    pub fn outlive_readers() {
        if !is_default(libc::SIGPIPE) {
            return;
        }
        // SAFETY: a zeroed `sigaction` is one with no flags and an empty mask, whose fields are then set; the handler is
        // async-signal-safe, as it does nothing, and stays mapped where the library is linked with `nodelete`.
        let failed = unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = if STAYS_MAPPED { do_nothing as *const () as usize } else { libc::SIG_IGN };
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGPIPE, &raw const action, null_mut()) != 0
        };
        if failed {
            let error = std::io::Error::last_os_error();
            tracing::error!(%error, "SIGPIPE is not handled: a closed connection may end the process");
        }
    }

    /// See `build.rs`. Elsewhere the handler's code could be gone before the signal comes.
    const STAYS_MAPPED: bool = cfg!(target_os = "linux");

    extern "C" fn do_nothing(_signal: c_int) {}

    fn is_default(signal: c_int) -> bool {
        handler_of(signal) == Some(libc::SIG_DFL)
    }

    /// Whether the process was started with the signal ignored, as `nohup` does with SIGHUP.
    pub fn is_ignored(signal: c_int) -> bool {
        handler_of(signal) == Some(libc::SIG_IGN)
    }

    fn handler_of(signal: c_int) -> Option<libc::sighandler_t> {
        // SAFETY: with no new action, `sigaction` only writes the present one to memory of ours.
        unsafe {
            let mut present: libc::sigaction = zeroed();
            (libc::sigaction(signal, null(), &raw mut present) == 0).then_some(present.sa_sigaction)
        }
    }

    /// Main thread, as the library is loaded. A standard stream that was closed by whoever started the process is opened
    /// to nothing: otherwise the next file or socket would get its number, and what the engine prints.
    pub fn fill_closed() {
        for number in 0..=2 {
            // SAFETY: `fcntl` with F_GETFD asks whether the number is in use; `open` gets a C string of ours; `close` is
            // called on what `open` has just returned.
            unsafe {
                if libc::fcntl(number, libc::F_GETFD) != -1 {
                    continue;
                }
                let opened = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                if opened != number && opened >= 0 {
                    // Somebody else was quicker, and has the number.
                    libc::close(opened);
                }
            }
        }
    }
}

#[cfg(not(unix))]
mod imp {
    pub fn outlive_readers() {}

    pub fn fill_closed() {}
}

pub use imp::*;
