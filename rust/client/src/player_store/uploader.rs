//! The one task that speaks to the backend on its own: sends what is journalled and due, books what became of it, lets
//! leases go, and settles what dead processes left.

mod next_work;

use std::sync::{Arc, Weak};
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::player_store::{ReleasePlayer, ReleasePlayers, SavedDocuments};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::document_source::DocumentBody;
use super::state::{MAX_BATCH_BYTES, MIN_BATCH_BYTES, Name, Release};
use super::{Batch, BatchItem, Event, Inner, Pace, handover};
use crate::api::retry;
use crate::error::{Cause, ClientError, Fault};
use crate::registration::BackendIdentity;

/// Longest pause between attempts of its own accord: one request, so that a backlog of an hour does not wait for half a
/// minute once the backend is back.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The same while nobody is there who answers: then an attempt costs the backend nothing.
const UNREACHABLE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause between attempts while somebody waits for a flush.
const FLUSH_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two looks whether the server is registered.
const REGISTRATION_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two reports of the backlog.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(3_600);

/// What is to be done next.
enum Work {
    Save(Vec<Sent>),
    Release(Vec<ReleasePlayer>),
    RetireServer(String),
    Idle(Duration),
}

/// An item to send, and then what its result is booked by.
pub(super) struct Sent {
    pub name: Name,
    pub epoch: i64,
    pub sequence: i64,
    pub revision: u64,
    pub body: DocumentBody,
    /// The document's version at the backend, as it was known when this was sent.
    pub known_version: i64,
    /// The backend said before that it has this.
    pub is_repeated: bool,
    /// Version that the document was loaded with, if it is sent as it was loaded.
    pub loaded_version: Option<i64>,
}

impl Sent {
    fn item(&self) -> BatchItem {
        BatchItem {
            player_id: Arc::clone(&self.name.0),
            key: Arc::clone(&self.name.1),
            epoch: self.epoch,
            sequence: self.sequence,
            value: self.body.text().clone(),
            loaded_version: self.loaded_version,
        }
    }
}

pub(super) async fn run(store: Weak<Inner>, wake: Arc<Notify>) {
    let mut failures: u32 = 0;
    let mut reported: Option<Instant> = None;
    loop {
        let Some(inner) = store.upgrade() else { return };
        let (work, hurry) = inner.next_work();
        let done = match work {
            Work::Idle(pause) => {
                let clock = Arc::clone(&inner.clock);
                // Strong references end here: an idle store can be dropped.
                drop(inner);
                tokio::select! {
                    biased;
                    () = wake.notified() => {}
                    () = clock.sleep(pause) => {}
                }
                continue;
            }
            Work::Save(batch) => inner.save_batch(&batch).await,
            Work::Release(players) => inner.release_leases(players).await,
            Work::RetireServer(server_id) => {
                let done = inner.retire_server(server_id).await;
                inner.lock().retiring = None;
                inner.progressed();
                done
            }
        };
        let now = inner.clock.now();
        match done {
            Ok(()) => {
                failures = 0;
                let backlog = reported.map(|_| inner.lock().backlog(now));
                if let Some(backlog) = backlog.filter(|backlog| backlog.documents == 0) {
                    reported = None;
                    inner.tell([Event::BacklogChanged(backlog)]);
                }
            }
            Err(error) => {
                let nobody = error.cause == Cause::Client(Fault::Network);
                let longest = if nobody { UNREACHABLE_RETRY_INTERVAL } else { RETRY_INTERVAL };
                let pause = retry::pause_within(error.retry_after, failures, longest);
                failures = failures.saturating_add(1);
                if reported.is_none_or(|at| now >= at + REPORT_INTERVAL) {
                    reported = Some(now);
                    let backlog = inner.lock().backlog(now);
                    tracing::warn!(
                        code = error.code(),
                        documents = backlog.documents,
                        "saves wait for the backend"
                    );
                    inner.tell([Event::BacklogChanged(backlog)]);
                }
                let clock = Arc::clone(&inner.clock);
                let pause = if hurry { pause.min(FLUSH_RETRY_INTERVAL) } else { pause };
                drop(inner);
                let is_asked_for = error.retry_after.is_some();
                pause_before_retry(&store, &wake, &clock, pause, is_asked_for).await;
            }
        }
    }
}

/// Sleeps, but not through a flush: somebody who waits gets another attempt soon. Nor when the backend answers again,
/// unless it has asked for the pause itself.
async fn pause_before_retry(
    store: &Weak<Inner>,
    wake: &Notify,
    clock: &Arc<dyn crate::platform::clock::Clock>,
    pause: Duration,
    is_asked_for: bool,
) {
    let until = clock.now() + pause;
    loop {
        let left = until.saturating_duration_since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            biased;
            () = clock.sleep(left) => return,
            () = wake.notified() => {
                let (flushing, answers) = store.upgrade().map_or((true, false), |inner| {
                    let mut state = inner.lock();
                    (state.flushing > 0, std::mem::take(&mut state.answers))
                });
                if answers && !is_asked_for {
                    return;
                }
                if flushing {
                    return clock.sleep(left.min(FLUSH_RETRY_INTERVAL)).await;
                }
            }
        }
    }
}

impl Inner {
    fn next_work(&self) -> (Work, bool) {
        let now = self.clock.now();
        let server_id = self.registration.server_id().filter(|_| self.is_at_its_backend());
        let mut state = self.lock();
        // What came before this attempt is of no use to the next.
        state.answers = false;
        let hurry = state.flushing > 0;
        let work = if let Some(server_id) = server_id {
            // A store made anew finds its own server in the journal of the one before: it is not dead.
            state.predecessors.retain(|dead| *dead != server_id);
            let work = state.next_work(now);
            match &work {
                Work::Release(players) => state.note_requested(players),
                Work::RetireServer(dead) => state.retiring = Some(dead.clone()),
                Work::Save(_) | Work::Idle(_) => {}
            }
            work
        } else {
            Work::Idle(if state.pending(None) > 0 { REGISTRATION_POLL_INTERVAL } else { IDLE_INTERVAL })
        };
        (work, hurry)
    }

    /// Whether registrations reach the backend that this store is for. Told once when they do not.
    pub(super) fn is_at_its_backend(&self) -> bool {
        let now = self.registration.backend();
        let (told, other) = {
            let mut state = self.lock();
            // A backend that does not tell is taken for the same one: replicas of two versions are one backend.
            let other = match (&state.backend, &now) {
                (Some(BackendIdentity::Known(own)), Some(BackendIdentity::Known(now))) => own != now,
                _ => false,
            };
            (std::mem::replace(&mut state.at_another_backend, other), other)
        };
        if other && !told {
            let message = "the backend's address leads to another backend now: nothing is sent to that one, and saves are \
                           kept for the one that the players were loaded from";
            tracing::error!("{message}");
            self.tell([Event::JournalWarning(message.to_owned())]);
        }
        !other
    }

    async fn save_batch(self: &Arc<Self>, sent: &[Sent]) -> Result<(), ClientError> {
        let count = sent.len();
        // Written here where the journal has failed, and not under the lock, on which the game's thread would wait for it.
        let items = sent.iter().map(Sent::item).collect();
        let body = Batch { server_id: self.server_id()?, items };
        let rolled_back = self.lock().rolled_back;
        let reply = self.backend.save_documents(self.registration.key(), &body).await;
        let SavedDocuments { results, wanted } = match reply {
            Ok(reply) if reply.results.len() == count => reply,
            Ok(reply) => {
                let message = format!("{} results for {count} documents", reply.results.len());
                return Err(ClientError::new(Fault::BadReply, message));
            }
            Err(error) => {
                self.refused(sent, &error);
                if error.cause == Cause::Client(Fault::Timeout) {
                    // Too much for this connection or this backend, perhaps: the same again would be, too.
                    let bytes: usize = sent.iter().map(|sent| sent.body.text().as_str().len()).sum();
                    self.lock().batch_bytes = (bytes / 2).clamp(MIN_BATCH_BYTES, MAX_BATCH_BYTES);
                }
                return Err(error);
            }
        };
        let news = {
            let mut state = self.lock();
            if state.rolled_back != rolled_back {
                // The answer may be from before the backend went back, and what it says gone: everything is sent once more.
                return Ok(());
            }
            state.batch_bytes = (state.batch_bytes * 2).min(MAX_BATCH_BYTES);
            state.apply_results(sent, results, self.clock.now())
        };
        self.tell(news);
        self.wake_journal.notify_one();
        self.progressed();
        handover::wanted(self, wanted);
        Ok(())
    }

    /// A whole batch that did not go through. Everything stays pending; only what will not mend itself is told.
    fn refused(&self, sent: &[Sent], error: &ClientError) {
        if error.is_unanswered() || error.is(Code::ServerUnknown) {
            return;
        }
        self.tell(sent.iter().map(|sent| Event::SaveFailed {
            player_id: sent.name.0.to_string(),
            key: sent.name.1.to_string(),
            error: error.clone(),
        }));
    }

    async fn release_leases(&self, players: Vec<ReleasePlayer>) -> Result<(), ClientError> {
        let body = ReleasePlayers { server_id: self.server_id()?, players: Some(players.clone()) };
        let behind = match self.backend.release_players(self.registration.key(), &body).await {
            // A backend that does not know the server may have gone back to before it was registered, and lack what it had confirmed:
            // it is asked again once the server is listed.
            Err(error) if error.is_unanswered() || error.is(Code::ServerUnknown) => return Err(error),
            Err(error) => {
                tracing::warn!(code = error.code(), "leases run out by themselves: {error}");
                Vec::new()
            }
            Ok(released) => released.behind,
        };
        let mut rolled_back = false;
        {
            let mut state = self.lock();
            for player in players {
                let is_this = |release: &Release| release.epoch == player.epoch;
                if state.releases.get(&*player.player_id).is_some_and(is_this) {
                    if behind.contains(&player.player_id) && state.keep_for_resending(&player.player_id) {
                        rolled_back = true;
                        continue;
                    }
                    state.releases.remove(&*player.player_id);
                }
                state.wanted.remove(&*player.player_id);
            }
            rolled_back = rolled_back && state.rolled_back(self.clock.now());
        }
        if rolled_back {
            self.tell([Event::RollbackDetected]);
        }
        self.wake_journal.notify_one();
        self.progressed();
        Ok(())
    }

    /// A dead process of this journal: all it saved is settled, so nobody needs to wait for its leases to run out.
    async fn retire_server(&self, server_id: String) -> Result<(), ClientError> {
        let body = ReleasePlayers { server_id: server_id.clone(), players: None };
        let key = self.registration.key();
        for outcome in [
            self.backend.release_players(key, &body).await.map(drop),
            self.backend.deregister_server(key, &server_id).await,
        ] {
            match outcome {
                Err(error) if error.is_unanswered() => return Err(error),
                // The backend forgot it, or the key is another one now: its leases run out by themselves.
                Err(error) => {
                    tracing::debug!(code = error.code(), "an earlier run is unknown to the backend");
                }
                Ok(()) => {}
            }
        }
        {
            let mut state = self.lock();
            state.predecessors.retain(|known| *known != server_id);
            state.retired_servers.push(server_id);
        }
        self.wake_journal.notify_one();
        self.progressed();
        Ok(())
    }
}
