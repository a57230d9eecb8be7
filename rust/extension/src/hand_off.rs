//! The one road from worker threads to the main thread.
//!
//! Workers post plain `Send` data wrapped in a closure (a letter); the main thread runs the letters once per frame,
//! within a time budget. Objects never cross: letters carry ids, which are looked up on the main thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_client::error::{ClientError, Fault};
use godot::builtin::Variant;
use godot::obj::Gd;
use tokio::task::AbortHandle;

use crate::backend_request::BackendRequest;

/// Main-thread time one frame may spend on letters. A burst takes several frames rather than one long one.
const BUDGET: Duration = Duration::from_millis(2);

type Letter = Box<dyn FnOnce() + Send + 'static>;

/// Names a request across threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// Names those whose requests end together: a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

/// What a worker found, still untyped.
pub type Outcome = Result<Box<dyn Any + Send>, ClientError>;
/// Makes a request's result of what a worker found.
pub type Answer = Box<dyn FnOnce(Outcome) -> Variant>;

/// A request on its way.
struct Pending {
    /// Keeps the request alive when the script dropped it.
    request: Gd<BackendRequest>,
    answer: Answer,
    owner: OwnerId,
    work: Option<AbortHandle>,
    /// Set by [`cancel`]: whatever the worker finds, the result is `cancelled`.
    cancelled: bool,
}

/// The queue's two ends.
struct Post {
    sender: Mutex<Sender<Letter>>,
    receiver: Mutex<Receiver<Letter>>,
}

static POST: LazyLock<Post> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    Post { sender: Mutex::new(sender), receiver: Mutex::new(receiver) }
});

thread_local! {
    // Used on the main thread only.
    static PENDING: RefCell<HashMap<RequestId, Pending>> = RefCell::new(HashMap::new());
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
}

/// Any thread. Runs `letter` on the main thread in a later step of the main loop.
pub fn post(letter: impl FnOnce() + Send + 'static) {
    let sender = POST.sender.lock().unwrap_or_else(PoisonError::into_inner);
    // The receiver is a static: it is never gone.
    let _never_closed = sender.send(Box::new(letter));
}

/// Main thread. An owner nobody else has.
pub fn new_owner() -> OwnerId {
    OwnerId(next_id())
}

/// Main thread. Notes a request; it stays until it is completed.
pub fn register(request: &Gd<BackendRequest>, owner: OwnerId, answer: Answer) -> RequestId {
    let id = RequestId(next_id());
    let pending = Pending { request: request.clone(), answer, owner, work: None, cancelled: false };
    PENDING.with_borrow_mut(|table| table.insert(id, pending));
    id
}

/// Main thread. Says which task [`cancel`] has to stop.
pub fn attach(id: RequestId, work: AbortHandle) {
    PENDING.with_borrow_mut(|table| {
        if let Some(pending) = table.get_mut(&id) {
            pending.work = Some(work);
        }
    });
}

/// Main thread. Completes a request, unless it is completed already.
pub fn complete(id: RequestId, outcome: Outcome) {
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
pub fn abandon(owner: OwnerId) {
    let mut own: Vec<(RequestId, Pending)> =
        PENDING.with_borrow_mut(|table| table.extract_if(|_, pending| pending.owner == owner).collect());
    own.sort_by_key(|(id, _)| id.0);
    for (_, mut pending) in own {
        pending.cancel();
        pending.complete(Err(cancelled()));
    }
}

/// Main thread, once per frame.
pub fn drain() {
    let started = Instant::now();
    loop {
        // The lock is not held while the letter runs: it may post another one.
        let letter = POST.receiver.lock().unwrap_or_else(PoisonError::into_inner).try_recv();
        let Ok(letter) = letter else { return };
        letter();
        if started.elapsed() > BUDGET {
            return;
        }
    }
}

/// Main thread. Lets go of every request, as the objects behind them are about to go.
pub fn close() {
    let dropped = PENDING.with_borrow_mut(std::mem::take);
    drop(dropped);
}

/// What every request says that was given up.
pub fn cancelled() -> ClientError {
    ClientError::new(Fault::Cancelled, "the call was cancelled, or its node left the tree")
}

impl Pending {
    fn complete(self, outcome: Outcome) {
        let outcome = if self.cancelled { Err(cancelled()) } else { outcome };
        let result = (self.answer)(outcome);
        BackendRequest::finish(self.request, result);
    }

    fn cancel(&mut self) {
        self.cancelled = true;
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

fn next_id() -> u64 {
    NEXT_ID.replace(NEXT_ID.get() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_run_in_order_also_those_posted_by_letters() {
        let (sender, seen) = channel();
        for number in 0..3 {
            let sender = sender.clone();
            post(move || {
                sender.send(number).expect("receiver lives");
                post(move || sender.send(number + 10).expect("receiver lives"));
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
