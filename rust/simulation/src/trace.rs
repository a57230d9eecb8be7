//! What happened, as one number: two runs of a seed that differ anywhere have different ones.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// Lines kept for a person to read.
const LINES: usize = 80;

pub struct Trace(Mutex<Inner>);

struct Inner {
    started: Instant,
    hash: u64,
    events: u64,
    /// Lines cost more than all the rest: only a run that is looked at has them.
    lines: Option<VecDeque<String>>,
    /// All lines go to the standard error output as well.
    aloud: bool,
    failure: Option<String>,
    faults: Faults,
}

/// Kind of fault → how often it happened.
pub type Faults = BTreeMap<&'static str, u64>;

impl Trace {
    pub fn new(with_lines: bool, aloud: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            started: Instant::now(),
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: with_lines.then(VecDeque::new),
            aloud,
            failure: None,
            faults: Faults::new(),
        })))
    }

    /// One event: what, where, about whom, and numbers.
    pub fn note(&self, what: &'static str, place: usize, whom: &str, numbers: &[i64]) {
        let mut inner = self.lock();
        let elapsed = inner.started.elapsed();
        inner.events += 1;
        inner.fold(what.as_bytes());
        inner.fold(whom.as_bytes());
        inner.fold(&place.to_le_bytes());
        inner.fold(&elapsed.as_nanos().to_le_bytes());
        for number in numbers {
            inner.fold(&number.to_le_bytes());
        }
        let aloud = inner.aloud;
        if inner.failure.is_some() {
            // What matters came before.
            return;
        }
        if let Some(lines) = &mut inner.lines {
            let mut line = format!("{:>12.3} s  {place}  {what} {whom}", elapsed.as_secs_f64());
            for number in numbers {
                // Writing into a String cannot fail.
                let _infallible = write!(line, " {number}");
            }
            if aloud {
                eprintln!("{line}");
            }
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// An event that is a fault.
    pub fn fault(&self, what: &'static str, place: usize, whom: &str) {
        *self.lock().faults.entry(what).or_default() += 1;
        self.note(what, place, whom, &[]);
    }

    pub fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    pub fn elapsed(&self) -> Duration {
        self.lock().started.elapsed()
    }

    /// Something that must never happen has happened. The first one counts.
    pub fn fail(&self, what: impl FnOnce() -> String) {
        let mut inner = self.lock();
        if inner.failure.is_none() {
            let what = what();
            let elapsed = inner.started.elapsed().as_secs_f64();
            if let Some(lines) = &mut inner.lines {
                lines.push_back(format!("{elapsed:>12.3} s  FAILED: {what}"));
            }
            inner.failure = Some(what);
        }
    }

    pub fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    pub fn events(&self) -> u64 {
        self.lock().events
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("not poisoned")
    }
}

impl Inner {
    /// FNV-1a.
    fn fold(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
