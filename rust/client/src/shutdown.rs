//! One orderly shutdown with a deadline: draining → collecting → journalling → sending → releasing → completed.
//!
//! The plan runs on a worker. The main thread is asked for final state and told the outcome, but not waited for longer
//! than it deserves: when it is stuck, the plan goes on with what the game had handed over, and a watchdog thread ends
//! the process at the deadline whatever else happens.
//!
//! | phase | may last until | then |
//! |---|---|---|
//! | collecting | 2 s, at most 30 % of the grace | what the game handed over so far has to do |
//! | journalling | a quarter of the grace | sending begins; the journal goes on trying |
//! | sending | 80 % of the grace | what is left stays in the journal for the next start |
//! | releasing | 85 %, and leaving the registry 90 % | leases run out by themselves |
//! | leaving the host | 1 s, at most until 94 % | it sees the process end |
//! | all of it | 95 % | the journal has its last chance |
//! | quitting | the end of the grace | the process is ended from under it |

mod last_chance;
mod outcome;
mod plan;
mod store;
mod unopened;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::platform::clock::{Alarm, Clock};

pub use outcome::{EXIT_UNSAVED, Ending, Summary};
pub use store::{Pending, Store};
pub(crate) use unopened::Count;
pub use unopened::UnopenedJournal;

/// Longest last chance of the journal before the process is ended, and the part of the grace it may take.
const LAST_CHANCE: Duration = Duration::from_secs(1);
const LAST_CHANCE_SHARE: f64 = 0.05;
/// Supervisors and terminals send several signals for one request, in any order. Within this time of the first, and until
/// the game's final state is in, they are one request.
const SAME_REQUEST: Duration = Duration::from_secs(2);
/// Longest time for which final state that is not in makes them one: the collecting itself might be stuck.
const SAME_WHILE_COLLECTING: Duration = Duration::from_secs(10);
/// What a store may need to notice that its time is over.
const OVERRUN: Duration = Duration::from_millis(100);

/// Where a shutdown is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// No new players. Carries the reason and the time until the process ends at the latest.
    Draining(String, Duration),
    /// The game hands in final state and then calls [`Shutdown::collected`].
    Collecting,
    /// Everything that is unsent is brought to local disk. When this is over, a kill loses nothing.
    Journalling,
    /// Everything that is unsent is on its way to the backend.
    Sending,
    /// Players without anything unsent are let go, and the server leaves the registry.
    Releasing,
    /// All is done; the main thread quits and the process ends.
    Completed(Summary),
}

/// What has to be brought in order before the process may end.
#[async_trait]
pub trait Participants: Send + Sync {
    /// Stop taking players in.
    fn drain(&self);
    /// What holds unsaved documents. Asked at the beginning of each phase.
    fn stores(&self) -> Vec<Arc<dyn Store>>;
    /// Leave the registry; true when it is done.
    async fn deregister(&self) -> bool;
    /// Tell what runs this process that it is about to end. `owes_saves`: the backend does not have everything.
    async fn leave_host(&self, _owes_saves: bool) {}
}

/// Told about each [`Phase`], on a worker thread.
pub type OnPhase = Arc<dyn Fn(Phase) + Send + Sync>;
/// Ends the process with an exit code, having said what the shutdown achieved. On any thread; outside of tests it does
/// not return. It must not wait for the main thread.
pub type Exit = Arc<dyn Fn(i32, &Summary) + Send + Sync>;

/// A shutdown that happens at most once. Cheap to clone.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    participants: Arc<dyn Participants>,
    on_phase: OnPhase,
    exit: Exit,
    requested: AtomicBool,
    collected: CancellationToken,
    /// The deadline has moved forward.
    hastened: Notify,
    leaving: CancellationToken,
    /// Nobody is left on the main thread.
    abandoned: AtomicBool,
    /// Where the stores do their work: known once the shutdown has begun.
    runtime: OnceLock<Handle>,
    so_far: Mutex<SoFar>,
    /// They keep the deadline.
    alarms: Mutex<Vec<Alarm>>,
}

/// What becomes of a request from outside of the game: a signal, or a closed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// It began the shutdown.
    Started,
    /// It belongs to the shutdown that has begun already: nothing changes.
    Joined,
    /// Whoever asks does not want to wait any longer: the process is to end as soon as the journal is synced.
    ForceExit,
}

/// What is known if the plan ends now.
#[derive(Default)]
struct SoFar {
    summary: Summary,
    begun: Option<Instant>,
    /// From the beginning to the end of the process.
    grace: Duration,
    /// For each time that the deadline has moved forward, the part of the time that was left.
    hastenings: Vec<f64>,
    /// The first request from outside of the game.
    asked: Option<Instant>,
    /// The game's final state is in, or was waited for long enough.
    collected: bool,
    /// It was not in when stores were sealed, and there was something it could have been about.
    lost_state: bool,
    complete: bool,
    /// It is over, and the process goes on.
    stayed: bool,
}

impl Shutdown {
    /// A shutdown nobody asked for yet.
    pub fn new(
        clock: Arc<dyn Clock>,
        participants: Arc<dyn Participants>,
        on_phase: OnPhase,
        exit: Exit,
    ) -> Self {
        Self(Arc::new(Inner {
            clock,
            participants,
            on_phase,
            exit,
            requested: AtomicBool::new(false),
            collected: CancellationToken::new(),
            hastened: Notify::new(),
            leaving: CancellationToken::new(),
            abandoned: AtomicBool::new(false),
            runtime: OnceLock::new(),
            so_far: Mutex::default(),
            alarms: Mutex::default(),
        }))
    }

    /// Starts the shutdown on the current tokio runtime, once. False when it has begun already.
    pub fn request(&self, reason: &str, grace: Duration) -> bool {
        if self.0.requested.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.0.runtime.get_or_init(Handle::current);
        {
            let mut so_far = self.0.so_far();
            so_far.begun = Some(self.0.clock.now());
            so_far.grace = grace;
            reason.clone_into(&mut so_far.summary.reason);
        }
        self.guard(grace);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.run().await });
        true
    }

    /// A request from outside of the game. The first one starts the shutdown, or joins the one that the game has begun.
    /// Another one soon after, and any before the game's final state is in, is the same request: GNU `timeout`, process
    /// groups and some supervisors send a signal twice, or several signals. A later one is from somebody who does not want
    /// to wait: call [`Self::cut_short`] then.
    pub fn request_from_outside(&self, reason: &str, grace: Duration) -> Response {
        let now = self.0.clock.now();
        if self.request(reason, grace) {
            self.0.so_far().asked = Some(now);
            return Response::Started;
        }
        let mut so_far = self.0.so_far();
        if so_far.stayed {
            return Response::ForceExit;
        }
        let Some(asked) = so_far.asked else {
            so_far.asked = Some(now);
            return Response::Joined;
        };
        let since_asked = since(asked, now);
        let is_collecting = !so_far.collected && since_asked < SAME_WHILE_COLLECTING;
        if since_asked < SAME_REQUEST || is_collecting { Response::Joined } else { Response::ForceExit }
    }

    /// The process has to end within `grace` from now, if that is sooner than its deadline. What is left of the phase under way
    /// shrinks in proportion. Returns whether the deadline has moved. Not for a watchdog thread.
    pub fn hasten(&self, grace: Duration) -> bool {
        let now = self.0.clock.now();
        {
            let mut so_far = self.0.so_far();
            let Some(begun) = so_far.begun.filter(|_| !so_far.complete && !so_far.stayed) else {
                return false;
            };
            let left = since(now, begun + so_far.grace);
            if grace >= left {
                return false;
            }
            so_far.grace = since(begun, now) + grace;
            so_far.hastenings.push(grace.as_secs_f64() / left.as_secs_f64());
        }
        self.guard(grace);
        self.0.hastened.notify_waiters();
        true
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// The game has handed in its final state.
    pub fn collected(&self) {
        self.0.collected.cancel();
    }

    /// The main thread is on its way out; the process is not ended from under it before the deadline.
    pub fn leaving(&self) {
        self.0.leaving.cancel();
    }

    /// The main thread has left before the end: the plan goes on without it, and ends the process by itself.
    pub fn abandoned(&self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.collected.cancel();
        self.0.leaving.cancel();
    }

    /// All is done, and nobody ends the process any more: it is to go on, or about to end by itself. Not for a worker
    /// thread: waits for the threads that keep the deadline.
    pub fn stay(&self) {
        self.0.participants.stores().iter().for_each(|store| store.unseal());
        self.0.so_far().stayed = true;
        self.0.leaving.cancel();
        let alarms = std::mem::take(&mut *self.0.alarms());
        drop(alarms);
    }

    /// For somebody who does not want to wait any longer, with a shutdown under way: brings what is unsent to local
    /// disk, at most a second, and says where everything is. Blocks; not for a worker thread. Needs no main thread.
    pub fn cut_short(&self) -> Summary {
        self.0.cut_short(Ending::ForcedBySecondSignal, LAST_CHANCE)
    }

    /// Keeps the deadline even when the runtime's workers are all stuck.
    fn guard(&self, grace: Duration) {
        let last_chance = LAST_CHANCE.min(grace.mul_f64(LAST_CHANCE_SHARE));
        let in_time = self.0.after(grace.saturating_sub(last_chance), move |inner| {
            if !inner.so_far().complete {
                let summary = inner.cut_short(Ending::Deadline, last_chance);
                (inner.exit)(summary.exit_code(), &summary);
            }
        });
        // A main thread that is on its way out has the rest of the time.
        let at_last = self.0.after(grace, |inner| {
            let (complete, summary) = {
                let so_far = inner.so_far();
                (so_far.complete, so_far.summary.clone())
            };
            if complete {
                (inner.exit)(summary.exit_code(), &summary);
            }
        });
        let before = std::mem::replace(&mut *self.0.alarms(), vec![in_time, at_last]);
        // Not under the lock: waits for a thread that has begun.
        drop(before);
    }
}

impl Inner {
    /// Runs `work` on a thread of its own after `delay`, unless it is called off.
    fn after(self: &Arc<Self>, delay: Duration, work: impl FnOnce(&Arc<Self>) + Send + 'static) -> Alarm {
        let inner = Arc::downgrade(self);
        let work = move || {
            if let Some(inner) = inner.upgrade() {
                work(&inner);
            }
        };
        self.clock.run_after(delay, Box::new(work)).unwrap_or_else(|error| {
            tracing::error!(%error, "no watchdog: the shutdown's deadline is not enforced");
            Alarm::default()
        })
    }

    /// Waits for `work`, at most `limit`, or what a deadline that moves forward leaves of it.
    async fn at_most<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut end = self.clock.now() + limit;
        let mut known = self.so_far().hastenings.len();
        tokio::pin!(work);
        loop {
            let left = since(self.clock.now(), end);
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.clock.sleep(left) => return None,
                () = self.hastened.notified() => {
                    let now = self.clock.now();
                    let so_far = self.so_far();
                    let part: f64 = so_far.hastenings[known..].iter().product();
                    known = so_far.hastenings.len();
                    end = now + since(now, end).mul_f64(part);
                }
            }
        }
    }

    fn grace(&self) -> Duration {
        self.so_far().grace
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<Alarm>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since(earlier: Instant, later: Instant) -> Duration {
    later.saturating_duration_since(earlier)
}

#[cfg(test)]
mod tests;
