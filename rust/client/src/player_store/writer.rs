//! The one task that sends: collects what is due into batches, and books what became of them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use backend_protocol::limits::MAX_BATCH;
use backend_protocol::player_store::{SaveDocuments, SaveItem, SaveOutcome, SaveResult};
use backend_protocol::{Code, Problem};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Event, Held, Inner, Sent, lease_lost};
use crate::error::{ClientError, Fault};
use crate::retry;

/// Most bytes of documents in one batch; the backend reads twice as much.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Longest pause between attempts while somebody waits for a flush.
const FLUSH_PAUSE: Duration = Duration::from_millis(500);
const NOTHING_DUE: Duration = Duration::from_secs(3_600);

/// What a sent item was, for booking its result.
struct Pending {
    player_id: String,
    key: String,
    generation: u64,
}

pub(super) async fn run(store: Weak<Inner>, wake: Arc<Notify>) {
    let mut failures: u32 = 0;
    loop {
        let Some(inner) = store.upgrade() else { return };
        let now = inner.clock.now();
        let (batch, due_in, hurry) = {
            let mut held = inner.lock();
            let hurry = held.flushing > 0;
            let batch = collect(&mut held, now);
            (batch, due_in(&held, now), hurry)
        };
        let clock = Arc::clone(&inner.clock);
        let Some((items, pending)) = batch else {
            // Strong references end here: an idle store can be dropped.
            drop(inner);
            tokio::select! {
                () = wake.notified() => {}
                () = clock.sleep(due_in) => {}
            }
            continue;
        };
        match send(&inner, items).await {
            Ok(results) => {
                failures = 0;
                book(&inner, &pending, results);
            }
            Err(error) => {
                let pause = error.retry_after.unwrap_or_else(|| retry::backoff(failures));
                failures = failures.saturating_add(1);
                refuse(&inner, &pending, &error);
                let pause = if hurry { pause.min(FLUSH_PAUSE) } else { pause };
                drop(inner);
                pause_unless_flushed(&store, &wake, &clock, pause).await;
            }
        }
    }
}

/// Sleeps, but not through a flush: somebody who waits gets another attempt soon.
async fn pause_unless_flushed(
    store: &Weak<Inner>,
    wake: &Notify,
    clock: &Arc<dyn crate::clock::Clock>,
    pause: Duration,
) {
    let until = clock.now() + pause;
    loop {
        let left = until.saturating_duration_since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = clock.sleep(left) => return,
            () = wake.notified() => {
                let flushing = store.upgrade().is_none_or(|inner| inner.lock().flushing > 0);
                if flushing {
                    return clock.sleep(left.min(FLUSH_PAUSE)).await;
                }
            }
        }
    }
}

async fn send(inner: &Inner, items: Vec<SaveItem>) -> Result<Vec<SaveResult>, ClientError> {
    let count = items.len();
    let body = SaveDocuments { server_id: inner.server_id()?, items };
    let reply = inner.backend.save_documents(inner.registration.key(), &body).await?;
    if reply.results.len() != count {
        let message = format!("{} results for {count} documents", reply.results.len());
        return Err(ClientError::new(Fault::BadReply, message));
    }
    Ok(reply.results)
}

fn is_due(held: &Held, dirty: super::Dirty, now: Instant) -> bool {
    held.flushing > 0 || now >= dirty.last + held.pace.debounce || now >= dirty.first + held.pace.max_delay
}

/// Up to one batch of what is due. Numbers each item once: the same content sent again keeps its sequence.
fn collect(held: &mut Held, now: Instant) -> Option<(Vec<SaveItem>, Vec<Pending>)> {
    let mut due = Vec::new();
    let mut bytes = 0;
    'players: for (player_id, player) in &held.players {
        if player.lost {
            continue;
        }
        for (key, document) in &player.documents {
            let Some(dirty) = document.dirty else { continue };
            if !is_due(held, dirty, now) {
                continue;
            }
            if due.len() == MAX_BATCH || (bytes > 0 && bytes + document.bytes > MAX_BATCH_BYTES) {
                break 'players;
            }
            bytes += document.bytes;
            due.push((player_id.clone(), key.clone()));
        }
    }
    let mut items = Vec::with_capacity(due.len());
    let mut pending = Vec::with_capacity(due.len());
    for (player_id, key) in due {
        let Some(player) = held.players.get_mut(&player_id) else { continue };
        let Some(document) = player.documents.get_mut(&key) else { continue };
        let same_content = |sent: &Sent| sent.generation == document.generation && sent.epoch == player.epoch;
        let sequence = document.sent.filter(same_content).map_or(player.next_sequence, |sent| sent.sequence);
        player.next_sequence = player.next_sequence.max(sequence + 1);
        let generation = document.generation;
        document.sent = Some(Sent { epoch: player.epoch, sequence, generation });
        items.push(SaveItem {
            player_id: player_id.clone(),
            key: key.clone(),
            epoch: player.epoch,
            sequence,
            value: (*document.content).clone(),
        });
        pending.push(Pending { player_id, key, generation });
    }
    (!items.is_empty()).then_some((items, pending))
}

/// Time until the next document is due.
fn due_in(held: &Held, now: Instant) -> Duration {
    let documents =
        held.players.values().filter(|player| !player.lost).flat_map(|player| player.documents.values());
    let due = documents
        .filter_map(|document| document.dirty)
        .map(|dirty| (dirty.last + held.pace.debounce).min(dirty.first + held.pace.max_delay));
    due.min().map_or(NOTHING_DUE, |at| at.saturating_duration_since(now))
}

fn book(inner: &Inner, pending: &[Pending], results: Vec<SaveResult>) {
    let mut news = Vec::with_capacity(pending.len());
    let mut held = inner.lock();
    let mut freed = 0;
    for (sent, result) in pending.iter().zip(results) {
        let Some(player) = held.players.get_mut(&sent.player_id) else { continue };
        let Some(document) = player.documents.get_mut(&sent.key) else { continue };
        let (player_id, key) = (sent.player_id.clone(), sent.key.clone());
        match result.outcome {
            SaveOutcome::Applied | SaveOutcome::Replayed | SaveOutcome::Superseded => {
                document.version = document.version.max(result.version);
                document.sent = None;
                // Changed while it was on its way: still dirty, with what came after.
                if document.generation == sent.generation {
                    document.dirty = None;
                    freed += document.bytes;
                }
                news.push(Event::Saved { player_id, key, version: result.version });
            }
            SaveOutcome::LeaseLost | SaveOutcome::PlayerNotFound => {
                player.lost = true;
                let error = match result.outcome {
                    SaveOutcome::LeaseLost => lease_lost(),
                    _ => Problem::new(Code::PlayerNotFound, "the backend does not know this player").into(),
                };
                news.push(Event::SaveFailed { player_id, key, error });
            }
        }
    }
    held.backlog_bytes = held.backlog_bytes.saturating_sub(freed);
    held.forget_leavers();
    drop(held);
    for event in news {
        (inner.on_event)(event);
    }
    inner.settled.send_modify(|count| *count += 1);
}

/// A whole batch that did not go through. Everything stays dirty; only what will not mend itself is told.
fn refuse(inner: &Inner, pending: &[Pending], error: &ClientError) {
    let mends_itself = error.is_unanswered() || error.is(Code::ServerUnknown);
    tracing::warn!(code = error.code(), documents = pending.len(), "saves are waiting for the backend");
    if mends_itself {
        return;
    }
    for sent in pending {
        let (player_id, key) = (sent.player_id.clone(), sent.key.clone());
        (inner.on_event)(Event::SaveFailed { player_id, key, error: error.clone() });
    }
}
