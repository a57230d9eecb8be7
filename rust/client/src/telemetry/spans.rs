//! Spans that wait for an export.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use backend_settings::metrics::SPANS_DROPPED;

use super::instruments::Counter;
use super::snapshot::Family;

/// Most spans that wait. A busy server makes some hundred per minute.
const MAX_WAITING: usize = 2_048;

/// A request to the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Id of the trace, of which this is the only span.
    pub trace_id: [u8; 16],
    /// Its own id.
    pub span_id: [u8; 8],
    /// Method and route.
    pub name: String,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// Nanoseconds since 1970.
    pub end: u64,
    /// By the semantic conventions for HTTP clients.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed.
    pub is_error: bool,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Integer(i64),
}

/// Collects spans, if somebody takes them.
#[derive(Debug)]
pub struct SpanBuffer {
    enabled: AtomicBool,
    waiting: Mutex<Vec<Span>>,
    dropped: Counter,
}

impl SpanBuffer {
    /// Takes no spans before [`Self::enable`].
    pub const fn new() -> Self {
        Self {
            enabled: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
            dropped: Counter::new(&SPANS_DROPPED),
        }
    }

    /// Somebody takes spans from now on.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    /// Whether spans are wanted.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Adds spans, as far as there is room.
    pub fn push(&self, spans: impl IntoIterator<Item = Span>) {
        let mut waiting = self.waiting();
        for span in spans {
            if waiting.len() < MAX_WAITING {
                waiting.push(span);
            } else {
                self.dropped.increment();
            }
        }
    }

    /// Takes all spans.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut *self.waiting())
    }

    /// Number of spans for which there was no room.
    pub fn collect(&self) -> Family {
        self.dropped.collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Span>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SpanBuffer {
    fn default() -> Self {
        Self::new()
    }
}
