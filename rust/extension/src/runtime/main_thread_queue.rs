//! The only way from worker threads to the main thread: a queue that is drained once per frame, within a time budget.
//!
//! Workers enqueue plain `Send` data. Objects never cross: messages carry ids, which are looked up on the main thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backend_client::error::{ClientError, Fault};
use tokio_util::sync::CancellationToken;

/// Main-thread time one frame may spend on messages, the last of them not counted: half of the millisecond that is ours, as
/// frames that read results make calls as well.
const BUDGET: Duration = Duration::from_micros(500);
/// The same while a burst is worked off: several frames rather than one long one, and not so many that results grow old.
const BUDGET_OF_BURST: Duration = Duration::from_millis(2);
/// Waiting messages that make a burst: more than a frame's budget is good for.
const BURST: usize = 500;

/// Names a request across threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// Names those whose requests are cancelled together: a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

/// What became of a request's work.
pub enum Outcome {
    /// What the work returned, a `Result<T, ClientError>`, still untyped.
    Finished(Box<dyn Any + Send>),
    /// The work did not return: it was cancelled, or its worker panicked.
    Aborted(ClientError),
}

/// Completes a request with an outcome. It holds the request, also when the script has dropped it.
pub type Complete = Box<dyn FnOnce(Outcome)>;

enum Message {
    /// Work for the main thread.
    Work(Box<dyn FnOnce() + Send>),
    /// The outcome of a request.
    Outcome(RequestId, Outcome),
}

/// A request on its way.
struct Pending {
    complete: Complete,
    owner: OwnerId,
    cancellation: CancellationToken,
}

/// Messages that were enqueued and not taken yet.
static QUEUE: Mutex<Vec<Message>> = Mutex::new(Vec::new());

thread_local! {
    // Used on the main thread only.
    static PENDING: RefCell<HashMap<RequestId, Pending>> = RefCell::default();
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    /// Messages that were taken and not run yet.
    static BATCH: RefCell<VecDeque<Message>> = const { RefCell::new(VecDeque::new()) };
}

/// Any thread. Runs `work` on the main thread in a later step of the main loop.
pub fn enqueue(work: impl FnOnce() + Send + 'static) {
    queue().push(Message::Work(Box::new(work)));
}

/// Main thread, from within a message. Runs `work` next, before anything that waits already: the rest of a message that is
/// processed piece by piece, so that the time budget is kept between the pieces.
pub fn requeue_front(work: impl FnOnce() + Send + 'static) {
    BATCH.with_borrow_mut(|batch| batch.push_front(Message::Work(Box::new(work))));
}

/// Any thread. Completes a request on the main thread in a later step of the main loop, unless it is completed already.
pub fn complete(id: RequestId, outcome: Outcome) {
    queue().push(Message::Outcome(id, outcome));
}

/// Any thread. Messages that were enqueued and not taken yet.
pub fn len() -> usize {
    queue().len()
}

fn queue() -> MutexGuard<'static, Vec<Message>> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Main thread. An owner nobody else has.
pub fn new_owner() -> OwnerId {
    OwnerId(next_id())
}

/// Main thread. Keeps a new request until it is completed, and returns its id. `cancellation` stops its work: the request then
/// completes with `cancelled` in a later frame.
pub fn register(owner: OwnerId, cancellation: CancellationToken, complete: Complete) -> RequestId {
    let id = RequestId(next_id());
    PENDING.with_borrow_mut(|table| table.insert(id, Pending { complete, owner, cancellation }));
    id
}

/// Main thread. Stops the work of all requests of `owner`.
pub fn cancel_all(owner: OwnerId) {
    PENDING.with_borrow(|table| {
        table
            .values()
            .filter(|pending| pending.owner == owner)
            .for_each(|pending| pending.cancellation.cancel());
    });
}

/// Main thread. Completes all requests of `owner` with `cancelled` at once. For a node on its way out of the tree: whoever
/// awaits may be leaving as well, and is not there any more in a later frame.
pub fn cancel_all_now(owner: OwnerId) {
    let mut own: Vec<(RequestId, Pending)> =
        PENDING.with_borrow_mut(|table| table.extract_if(|_, pending| pending.owner == owner).collect());
    own.sort_by_key(|(id, _)| id.0);
    for (_, pending) in own {
        pending.cancellation.cancel();
        pending.complete(Outcome::Aborted(cancelled()));
    }
}

/// Main thread, once per frame. Runs messages in the order they were enqueued, also those that messages enqueue, until there
/// is none or the time is up; the rest runs in the next frame.
pub fn drain() {
    let started = Instant::now();
    let waiting = BATCH.with_borrow(VecDeque::len) + queue().len();
    let budget = if waiting > BURST { BUDGET_OF_BURST } else { BUDGET };
    loop {
        let message = match BATCH.with_borrow_mut(VecDeque::pop_front) {
            Some(message) => message,
            None if take_batch() => continue,
            None => return,
        };
        // Nothing is borrowed while it runs: handlers make calls, and may end the process.
        match message {
            Message::Work(work) => work(),
            Message::Outcome(id, outcome) => {
                // Taken out first: handlers may make requests of their own.
                let pending = PENDING.with_borrow_mut(|table| table.remove(&id));
                if let Some(pending) = pending {
                    pending.complete(outcome);
                }
            }
        }
        if started.elapsed() > budget {
            return;
        }
    }
}

/// Takes all that was enqueued at once: workers and the main thread meet once per batch, not once per message.
fn take_batch() -> bool {
    let new = std::mem::take(&mut *queue());
    BATCH.with_borrow_mut(|batch| {
        // Emptied before, so this is no copy.
        *batch = new.into();
        !batch.is_empty()
    })
}

/// Main thread. Drops every request, as the objects behind them are about to be freed.
pub fn close() {
    let dropped = PENDING.with_borrow_mut(std::mem::take);
    drop(dropped);
}

/// The error of every cancelled request.
pub fn cancelled() -> ClientError {
    ClientError::new(Fault::Cancelled, "the call was cancelled, or its node left the tree")
}

impl Pending {
    fn complete(self, outcome: Outcome) {
        // Whatever the work returned meanwhile, a cancelled request has one result.
        let is_cancelled = self.cancellation.is_cancelled();
        let outcome = if is_cancelled { Outcome::Aborted(cancelled()) } else { outcome };
        (self.complete)(outcome);
    }
}

fn next_id() -> u64 {
    NEXT_ID.replace(NEXT_ID.get() + 1)
}

#[cfg(test)]
mod tests;
