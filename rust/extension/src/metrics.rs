//! What is counted, from any thread. The numbers that are looked up instead are in [`crate::telemetry::collection`].

use std::borrow::Cow;

use backend_client::telemetry::instruments::{Counter, CounterSet, Gauge, Histogram, Label};
use backend_client::telemetry::measured_transport::RequestMetrics;
use backend_client::{player_store, registration, world_store};
use backend_settings::metrics;

/// In seconds: frames of servers with 120, 60, 30, 20 and 10 ticks, and what players notice.
const FRAME_BOUNDS: &[f64; 9] = &[0.009, 0.017, 0.034, 0.051, 0.101, 0.25, 0.5, 1.0, 5.0];

pub static REQUESTS: RequestMetrics = RequestMetrics::new();
pub static FRAMES: Histogram<9> = Histogram::new(&metrics::FRAME_SECONDS, FRAME_BOUNDS);
pub static LOG_MESSAGES: CounterSet = CounterSet::new(&metrics::LOG_MESSAGES);
pub static PLAYERS: Gauge = Gauge::new(&metrics::PLAYERS);
pub static MAX_PLAYERS: Gauge = Gauge::new(&metrics::MAX_PLAYERS);
pub static DRAINING: Gauge = Gauge::new(&metrics::DRAINING);
pub static HEARTBEATS_FAILED: Counter = Counter::new(&metrics::HEARTBEATS_FAILED);
pub static REGISTRATIONS_LOST: Counter = Counter::new(&metrics::REGISTRATIONS_LOST);
pub static PEERS_VERIFIED: Counter = Counter::new(&metrics::PEERS_VERIFIED);
pub static PEERS_REFUSED: CounterSet = CounterSet::new(&metrics::PEERS_REFUSED);
pub static DOCUMENTS_SAVED: Counter = Counter::new(&metrics::DOCUMENTS_SAVED);
pub static SAVES_FAILED: CounterSet = CounterSet::new(&metrics::SAVES_FAILED);
pub static SAVE_CONFLICTS: Counter = Counter::new(&metrics::SAVE_CONFLICTS);
pub static LEASES_LOST: Counter = Counter::new(&metrics::LEASES_LOST);
pub static JOURNAL_FAILURES: Counter = Counter::new(&metrics::JOURNAL_FAILURES);
pub static ROLLBACKS: Counter = Counter::new(&metrics::ROLLBACKS);
pub static CHUNKS_SAVED: Counter = Counter::new(&metrics::CHUNKS_SAVED);
pub static CHUNKS_FAILED: CounterSet = CounterSet::new(&metrics::CHUNKS_FAILED);
pub static EXPORTS: CounterSet = CounterSet::new(&metrics::EXPORTS);

/// Counts an event of a player store.
pub fn count_player_event(event: &player_store::Event) {
    use player_store::Event;
    match event {
        Event::Saved { .. } => DOCUMENTS_SAVED.increment(),
        Event::SaveFailed { error, .. } => SAVES_FAILED.increment([label(error.code())]),
        Event::Conflicted { .. } => SAVE_CONFLICTS.increment(),
        Event::LeaseLost { .. } => LEASES_LOST.increment(),
        Event::JournalFailed(_) => JOURNAL_FAILURES.increment(),
        Event::RollbackDetected => ROLLBACKS.increment(),
        Event::Journalled(_)
        | Event::ConflictFound(_)
        | Event::PlayerWanted { .. }
        | Event::JournalWarning(_)
        | Event::JournalRecovered
        | Event::BacklogChanged(_) => {}
    }
}

/// Counts an event of a world store.
pub fn count_world_event(event: &world_store::Event) {
    use world_store::Event;
    match event {
        Event::Saved { .. } => CHUNKS_SAVED.increment(),
        Event::SaveFailed { error, .. } => CHUNKS_FAILED.increment([label(error.code())]),
        Event::LeaseLost => LEASES_LOST.increment(),
        Event::SavedLocally { .. } | Event::PutAside { .. } => {}
    }
}

/// Counts an event of a registration.
pub fn count_registration_event(event: &registration::Event) {
    use registration::Event;
    match event {
        Event::HeartbeatFailed(_) => HEARTBEATS_FAILED.increment(),
        Event::Lost(_) => REGISTRATIONS_LOST.increment(),
        _ => {}
    }
}

/// A label that is made at run time.
pub fn label(text: &str) -> Label {
    Cow::Owned(text.to_owned())
}
