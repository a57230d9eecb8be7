//! The one road from the main thread to the workers, beside [`crate::hand_off`], which leads back.
//!
//! To spawn a task from outside wakes a worker, which costs the main thread more than all else it does for a call.
//! Errands are left in a queue instead, and tasks on the workers, lanes, carry out what they find there, one after the other.
//! The workers are woken for the first errand of a frame, at the frame's end if more have come, and in between for each batch
//! of a burst.
//!
//! Thousands left at once are begun a few at a time: what has not begun is small and lies still, while a task that waits
//! for its turn on the wire has grown to kilobytes and is out of the processor's caches when it has its turn. And what begins
//! where another has ended stays on its worker.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// Work for a worker.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Errands left before the workers hear of them within a frame.
const BATCH: usize = 64;
/// Lanes there are at most for errands that end soon: more than calls are on the wire.
const LANES: usize = 96;
/// How long errands wait while fewer than [`FLOWING`] begin; then there are as many lanes again. Some errands take minutes.
const TURN: Duration = Duration::from_millis(5);
/// Errands that begin in a turn if those before them end soon.
const FLOWING: u64 = 32;

/// Where the main thread leaves errands. Those that nobody carries out any more are dropped with it, which says so to whom
/// it concerns: see `worker_threads::Delivery`.
pub struct Errands {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    left: Mutex<Left>,
    word: Notify,
}

#[derive(Default)]
struct Left {
    errands: VecDeque<Errand>,
    /// Since the frame began.
    in_frame: usize,
    /// Lanes of this turn that have not ended.
    lanes: usize,
    /// Turns that are over: their lanes are not counted any more, and carry out nothing further.
    turn: u64,
    /// Errands ever begun.
    begun: u64,
}

impl Queue {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that carries out errands, counted until it is dropped.
struct Lane {
    queue: Arc<Queue>,
    turn: u64,
}

impl Lane {
    async fn carry_out(self) {
        while let Some(errand) = self.next() {
            errand.await;
        }
    }

    fn next(&self) -> Option<Errand> {
        let mut left = self.queue.left();
        if left.turn != self.turn {
            return None;
        }
        let errand = left.errands.pop_front();
        left.begun += u64::from(errand.is_some());
        errand
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut left = self.queue.left();
        if left.turn == self.turn {
            left.lanes -= 1;
        }
        // Left in the meantime, or behind an errand that has panicked.
        let waits = !left.errands.is_empty();
        drop(left);
        if waits {
            self.queue.word.notify_one();
        }
    }
}

impl Errands {
    /// Has them carried out on `workers`.
    pub fn on(workers: &tokio::runtime::Handle) -> Self {
        let queue = Arc::new(Queue::default());
        workers.spawn(open_lanes(Arc::clone(&queue)));
        Self { queue }
    }

    /// Main thread. Never waits.
    pub fn leave(&self, errand: Errand) {
        let mut left = self.queue.left();
        left.errands.push_back(errand);
        let is_due = left.in_frame.is_multiple_of(BATCH);
        left.in_frame += 1;
        drop(left);
        if is_due {
            self.queue.word.notify_one();
        }
    }

    /// Main thread, at the end of a frame. What is left is carried out now.
    pub fn end_of_frame(&self) {
        let mut left = self.queue.left();
        left.in_frame = 0;
        let waits = !left.errands.is_empty();
        drop(left);
        if waits {
            self.queue.word.notify_one();
        }
    }
}

async fn open_lanes(queue: Arc<Queue>) {
    loop {
        queue.word.notified().await;
        while let Some(begun) = open_for_all(&queue) {
            tokio::time::sleep(TURN).await;
            let mut left = queue.left();
            if left.begun - begun < FLOWING {
                left.turn += 1;
                left.lanes = 0;
            }
        }
    }
}

/// Opens a lane for each errand that waits. If there may not be that many, gives how many errands have begun so far.
fn open_for_all(queue: &Arc<Queue>) -> Option<u64> {
    let mut left = queue.left();
    let waiting = left.errands.len();
    let lanes = waiting.min(LANES - left.lanes);
    left.lanes += lanes;
    let (turn, begun) = (left.turn, left.begun);
    drop(left);
    for _ in 0..lanes {
        tokio::spawn(Lane { queue: Arc::clone(queue), turn }.carry_out());
    }
    (waiting > lanes).then_some(begun)
}

/// Gives up an errand, wherever it is. Dropping it changes nothing.
pub struct Withdrawal(oneshot::Sender<()>);

/// Resolves when the errand is given up.
pub struct Withdrawn(oneshot::Receiver<()>);

/// Both ends of giving up.
pub fn withdrawal() -> (Withdrawal, Withdrawn) {
    let (sender, receiver) = oneshot::channel();
    (Withdrawal(sender), Withdrawn(receiver))
}

impl Withdrawal {
    /// Any thread.
    pub fn withdraw(self) {
        // It is done if nobody listens.
        let _done = self.0.send(());
    }
}

impl Withdrawn {
    /// What `work` gives, or `None` once it is given up; it is dropped then.
    pub async fn or<T>(self, mut work: Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
        let given_up = async {
            if self.0.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = given_up => None,
            outcome = &mut work => Some(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn worker() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().expect("a worker")
    }

    #[test]
    fn every_errand_is_carried_out_once_the_frame_ends() {
        let worker = worker();
        let errands = Errands::on(worker.handle());
        let (sender, done) = channel();
        for frame in 0..3 {
            for number in 0..frame * 2 * BATCH + 3 {
                let sender = sender.clone();
                errands.leave(Box::pin(async move { sender.send((frame, number)).expect("receiver lives") }));
            }
            errands.end_of_frame();
        }
        drop(sender);
        let mut done: Vec<_> = done.iter().collect();
        done.sort_unstable();
        let left = (0..3).flat_map(|frame| (0..frame * 2 * BATCH + 3).map(move |number| (frame, number)));
        assert!(done.into_iter().eq(left));
    }

    fn hold_up_no_other(errand: impl Fn() -> Errand) {
        let worker = worker();
        let errands = Errands::on(worker.handle());
        let (sender, done) = channel();
        for _ in 0..3 * LANES {
            errands.leave(errand());
        }
        errands.leave(Box::pin(async move { sender.send(()).expect("receiver lives") }));
        errands.end_of_frame();
        done.recv().expect("carried out");
    }

    #[test]
    fn errands_that_panic_hold_up_no_other() {
        hold_up_no_other(|| Box::pin(async { panic!("on purpose") }));
    }

    #[test]
    fn errands_that_never_end_hold_up_no_other() {
        hold_up_no_other(|| Box::pin(std::future::pending()));
    }
}
