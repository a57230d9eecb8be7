//! The one road from worker threads to the main thread.
//!
//! Workers post plain `Send` data (a message); the main thread reads the messages once per frame, within a time budget.
//! Objects never cross: messages carry ids, which are looked up on the main thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backend_client::error::{ClientError, Fault};
use godot::builtin::Variant;
use godot::obj::Gd;

use crate::results::backend_request::{self, BackendRequest, Slot};
use crate::runtime::task_queue::Withdrawal;

/// Main-thread time one frame may spend on messages, the last of them not counted: half of the millisecond that is ours, as
/// frames that read results make calls as well.
const BUDGET: Duration = Duration::from_micros(500);
/// The same while a burst is worked off: several frames rather than one long one, and not so many that results grow old.
const BUDGET_OF_BURST: Duration = Duration::from_millis(2);
/// Messages waiting that make a burst: more than a frame's budget is good for.
const BURST: usize = 500;

/// A main loop whose frames are shorter than this, as of a server without a limit of frames, does nothing but turn: while it
/// waits for results it gives way to the workers that make them.
const SPINNING: Duration = Duration::from_micros(500);
/// Requests on their way whose results come by the dozen, however often they are looked for: such a loop rests.
const MANY: usize = 64;
/// How long it rests. Results that come meanwhile are read together.
const REST: Duration = Duration::from_micros(200);

/// Names a request across threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// Names those whose requests end together: a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

/// What became of a request's work.
pub enum Outcome {
    /// What the worker found, a `Result<T, ClientError>`, still untyped.
    Found(Box<dyn Any + Send>),
    /// There is no such thing: it was given up, or its worker failed.
    Lost(ClientError),
}

/// Makes a request's result of its outcome.
pub type Answer = Box<dyn FnOnce(Outcome) -> Variant>;

enum Message {
    /// Something to do on the main thread.
    Work(Box<dyn FnOnce() + Send>),
    /// The outcome of a request.
    Outcome(RequestId, Outcome),
}

/// A request on its way.
struct Pending {
    /// Keeps the request alive when the script dropped it.
    request: Gd<BackendRequest>,
    slot: Slot,
    answer: Answer,
    owner: OwnerId,
    work: Option<Withdrawal>,
    /// Set by [`cancel`]: whatever the worker finds, the result is `cancelled`.
    cancelled: bool,
}

type Table = HashMap<RequestId, Pending, BuildHasherDefault<Spread>>;

/// Messages that were enqueued and not taken yet.
static QUEUE: Mutex<Vec<Message>> = Mutex::new(Vec::new());

thread_local! {
    // Used on the main thread only.
    static PENDING: RefCell<Table> = RefCell::default();
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    /// When the last frame was.
    static FRAME: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Messages read so far.
    static READ: Cell<u64> = const { Cell::new(0) };
    /// Messages that were taken and not run yet.
    static BATCH: RefCell<VecDeque<Message>> = const { RefCell::new(VecDeque::new()) };
}

/// Any thread. Runs `message` on the main thread in a later step of the main loop.
pub fn enqueue(message: impl FnOnce() + Send + 'static) {
    send(Message::Work(Box::new(message)));
}

/// Main thread, from within a message. Runs `message` next, before anything that waits already: what is left of a message that
/// is read piece by piece, so that the time budget is kept between them.
pub fn requeue_front(message: impl FnOnce() + Send + 'static) {
    BATCH.with_borrow_mut(|batch| batch.push_front(Message::Work(Box::new(message))));
}

/// Any thread. Completes a request on the main thread in a later step of the main loop, unless it is completed already.
pub fn complete(id: RequestId, outcome: Outcome) {
    send(Message::Outcome(id, outcome));
}

fn send(message: Message) {
    queue().push(message);
}

fn queue() -> MutexGuard<'static, Vec<Message>> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Main thread. An owner nobody else has.
pub fn new_owner() -> OwnerId {
    OwnerId(next_id())
}

/// Main thread. A request that stays until it is completed, and its id. `work` is what [`cancel`] has to stop.
pub fn register(owner: OwnerId, answer: Answer, work: Withdrawal) -> (RequestId, Gd<BackendRequest>) {
    let (id, slot) = (RequestId(next_id()), Slot::default());
    let request = BackendRequest::pending(id, Slot::clone(&slot));
    let (work, cancelled) = (Some(work), false);
    let pending = Pending { request: request.clone(), slot, answer, owner, work, cancelled };
    PENDING.with_borrow_mut(|table| table.insert(id, pending));
    (id, request)
}

/// Completes a request, unless it is completed already.
fn finish_request(id: RequestId, outcome: Outcome) {
    // Taken out first: handlers may make requests of their own.
    let pending = PENDING.with_borrow_mut(|table| table.remove(&id));
    if let Some(pending) = pending {
        pending.complete(outcome);
    }
}

/// Main thread. Stops the work; the request completes with `cancelled` in a later frame.
pub fn cancel(id: RequestId) {
    PENDING.with_borrow_mut(|table| {
        if let Some(pending) = table.get_mut(&id) {
            pending.cancel();
        }
    });
}

/// Main thread. [`cancel`] for all requests of `owner`.
pub fn cancel_all(owner: OwnerId) {
    PENDING.with_borrow_mut(|table| {
        table.values_mut().filter(|pending| pending.owner == owner).for_each(Pending::cancel);
    });
}

/// Main thread. Completes all requests of `owner` with `cancelled` at once. For a node on its way out of the tree: whoever
/// awaits may be leaving as well, and is not there any more in a later frame.
pub fn cancel_all_now(owner: OwnerId) {
    let mut own: Vec<(RequestId, Pending)> =
        PENDING.with_borrow_mut(|table| table.extract_if(|_, pending| pending.owner == owner).collect());
    own.sort_by_key(|(id, _)| id.0);
    for (_, mut pending) in own {
        pending.cancel();
        pending.complete(Outcome::Lost(cancelled()));
    }
}

/// Main thread, once per frame. Reads messages in the order they were posted, also those that messages post, until there is
/// none or the time is up; the rest is read in the next frame.
pub fn drain() {
    let started = Instant::now();
    let (read, before) = (READ.get(), FRAME.replace(Some(started)));
    run_messages(started);
    if before.is_none_or(|before| started - before >= SPINNING) {
        return;
    }
    let pending = PENDING.with_borrow(HashMap::len);
    if pending >= MANY && BATCH.with_borrow(VecDeque::is_empty) {
        std::thread::sleep(REST);
    } else if pending > 0 && READ.get() == read {
        std::thread::yield_now();
    }
}

fn run_messages(started: Instant) {
    let waiting = BATCH.with_borrow(VecDeque::len) + queue().len();
    let budget = if waiting > BURST { BUDGET_OF_BURST } else { BUDGET };
    loop {
        let message = match BATCH.with_borrow_mut(VecDeque::pop_front) {
            Some(message) => message,
            None if take_batch() => continue,
            None => return,
        };
        READ.set(READ.get() + 1);
        // Nothing is borrowed while it is read: handlers make calls, and may end the process.
        match message {
            Message::Work(work) => work(),
            Message::Outcome(id, outcome) => finish_request(id, outcome),
        }
        if started.elapsed() > budget {
            return;
        }
    }
}

/// Takes all that was posted at once: workers and the main thread meet once per batch, not once per message.
fn take_batch() -> bool {
    let new = std::mem::take(&mut *queue());
    BATCH.with_borrow_mut(|batch| {
        // Emptied before, so this is no copy.
        *batch = new.into();
        !batch.is_empty()
    })
}

/// Main thread. Lets go of every request, as the objects behind them are about to go.
pub fn close() {
    let dropped = PENDING.with_borrow_mut(std::mem::take);
    drop(dropped);
    // The benchmark holds it against the number of calls.
    tracing::debug!("messages read on the main thread={}", READ.get());
    backend_request::close();
}

/// What every request says that was given up.
pub fn cancelled() -> ClientError {
    ClientError::new(Fault::Cancelled, "the call was cancelled, or its node left the tree")
}

impl Pending {
    fn complete(self, outcome: Outcome) {
        let outcome = if self.cancelled { Outcome::Lost(cancelled()) } else { outcome };
        let result = (self.answer)(outcome);
        BackendRequest::finish(self.request, &self.slot, result);
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        if let Some(work) = self.work.take() {
            work.withdraw();
        }
    }
}

fn next_id() -> u64 {
    NEXT_ID.replace(NEXT_ID.get() + 1)
}

/// Hashes ids, which are numbers of our own making: nobody chooses them to collide.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the table reads the upper bits as well as the lower ones.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn messages_run_in_order_also_those_posted_by_messages() {
        let (sender, seen) = channel();
        for number in 0..3 {
            let sender = sender.clone();
            enqueue(move || {
                sender.send(number).expect("receiver lives");
                enqueue(move || sender.send(number + 10).expect("receiver lives"));
            });
        }
        // The budget may end a drain early; nothing may be lost by that.
        let mut numbers = Vec::new();
        while numbers.len() < 6 {
            drain();
            numbers.extend(seen.try_iter());
        }
        assert_eq!(numbers, [0, 1, 2, 10, 11, 12]);
    }
}
