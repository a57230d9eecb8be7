//! What a process has printed, line by line, while it runs.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::WAIT_TIMEOUT;

/// Words that mean a defect when the engine or the extension prints them. The backend's refusals are values in
/// GDScript, never engine errors, so a clean run has none of these.
const DEFECTS: &[&str] =
    &["SCRIPT ERROR", "ERROR:", "panicked at", "leaked at exit", "still in use at exit", "handle_crash"];

/// How tokens (JWT, RFC 7519), refresh tokens and server keys begin. None belongs into a log.
const SECRETS: &[&str] = &["eyJ", "grt_", "gsk_"];

/// Lines shown when a wait fails.
const TAIL: usize = 60;

/// The merged standard output and error of one process. Cloning shares it.
#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    open_streams: usize,
}

impl Log {
    /// Reads `stream` to its end on a thread of its own.
    pub(crate) fn follow(&self, stream: impl Read + Send + 'static) {
        self.state().open_streams += 1;
        let log = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            // A read error is the end of the stream, as far as a test is concerned.
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                log.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            log.state().open_streams -= 1;
            log.shared.grown.notify_all();
        });
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// How many lines there are; a position for [`Log::wait_after`].
    pub fn len(&self) -> usize {
        self.state().lines.len()
    }

    /// Nothing printed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first line that contains `part`, once it is there.
    pub fn wait_for(&self, part: &str) -> Result<String> {
        self.wait_after(0, part)
    }

    /// The first line from position `start` on that contains `part`, once it is there.
    pub fn wait_after(&self, start: usize, part: &str) -> Result<String> {
        self.wait_until(start, &format!("a line with {part:?}"), |line| line.contains(part))
    }

    /// The first line from position `start` on that satisfies `wanted`, once it is there. Fails when the process
    /// closed its output without it, or after [`WAIT_TIMEOUT`].
    pub fn wait_until(&self, start: usize, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + WAIT_TIMEOUT;
        let mut state = self.state();
        let mut looked_at = start;
        loop {
            while let Some(line) = state.lines.get(looked_at) {
                if wanted(line) {
                    return Ok(line.clone());
                }
                looked_at += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.open_streams == 0 || left.is_zero() {
                let reason = if left.is_zero() { "in time" } else { "before the output ended" };
                drop(state);
                bail!("{what} did not come {reason}\n{}", self.tail());
            }
            state = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the process has closed its output, so that the log is whole.
    pub(crate) fn wait_for_end(&self) {
        let end = Instant::now() + WAIT_TIMEOUT;
        let mut state = self.state();
        while state.open_streams > 0 && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            state = self.shared.grown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether some line so far contains `part`.
    pub fn contains(&self, part: &str) -> bool {
        self.state().lines.iter().any(|line| line.contains(part))
    }

    /// Fails if the log holds an engine error, a script error, a leak, a panic or a secret. Lines containing one of
    /// `expected` are not held against the process.
    pub fn check_clean(&self, expected: &[&str]) -> Result<()> {
        let defects: Vec<String> = self
            .lines()
            .into_iter()
            .filter(|line| DEFECTS.iter().chain(SECRETS).any(|word| line.contains(word)))
            .filter(|line| !expected.iter().any(|part| line.contains(part)))
            .collect();
        if defects.is_empty() {
            return Ok(());
        }
        bail!("the log holds what it should not:\n  {}\n{}", defects.join("\n  "), self.tail())
    }

    /// The last lines, for a failure message.
    pub fn tail(&self) -> String {
        let state = self.state();
        let skipped = state.lines.len().saturating_sub(TAIL);
        let mut text =
            format!("--- log, last {} of {} lines\n", state.lines.len() - skipped, state.lines.len());
        for line in &state.lines[skipped..] {
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "| {line}");
        }
        text
    }

    fn push(&self, line: String) {
        self.state().lines.push(line);
        self.shared.grown.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
