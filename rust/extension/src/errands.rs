//! The one road from the main thread to the workers, beside [`crate::hand_off`], which leads back.
//!
//! To spawn a task from outside wakes a worker, which costs the main thread more than all else it does for a call.
//! Errands are left in a queue instead, and a task on the workers spawns what it finds there. It is woken for the first
//! errand of a frame, at the frame's end if more have come, and in between for each batch of a burst.
//!
//! Thousands left at once are begun a few at a time: what has not begun is small and lies still, while a task that waits
//! for its turn on the wire has grown to kilobytes and is out of the processor's caches when it has its turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// Work for a worker.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Errands left before the workers hear of them within a frame.
const BATCH: usize = 64;
/// Errands begun and not ended above which others wait: more than calls are on the wire.
const ABREAST: usize = 256;
/// Errands that have to end before others begin: so many are begun at once.
const ROOM: usize = 32;
/// How long they wait for others to end; then as many begin again. Some errands take minutes.
const TURN: Duration = Duration::from_millis(5);

/// Where the main thread leaves errands. Those that nobody carries out any more are dropped with it, which says so to whom
/// it concerns: see `runtime::Delivery`.
pub struct Errands {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    left: Mutex<Left>,
    word: Notify,
    /// Errands of the last turns that have begun and not ended.
    abreast: AtomicUsize,
    room: Notify,
}

#[derive(Default)]
struct Left {
    errands: Vec<Errand>,
    /// Since the frame began.
    in_frame: usize,
}

impl Queue {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until another errand may begin.
    async fn wait_for_room(&self) {
        while self.abreast.load(Ordering::Relaxed) >= ABREAST {
            if tokio::time::timeout(TURN, self.room.notified()).await.is_err() {
                // Those that are still under way are not counted any more.
                self.abreast.store(0, Ordering::Relaxed);
            }
        }
    }
}

/// An errand under way, counted until it is dropped.
struct Abreast(Arc<Queue>);

impl Abreast {
    fn of(queue: &Arc<Queue>) -> Self {
        queue.abreast.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(queue))
    }

    async fn until_end_of(self, errand: Errand) {
        errand.await;
    }
}

impl Drop for Abreast {
    fn drop(&mut self) {
        // Not below zero: a turn that was over has forgotten this one.
        let counted = |count: usize| count.checked_sub(1);
        let before = self.0.abreast.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        if before == Ok(ABREAST - ROOM + 1) {
            self.0.room.notify_one();
        }
    }
}

impl Errands {
    /// Has them carried out on `workers`.
    pub fn on(workers: &tokio::runtime::Handle) -> Self {
        let queue = Arc::new(Queue::default());
        workers.spawn(carry_out(Arc::clone(&queue)));
        Self { queue }
    }

    /// Main thread. Never waits.
    pub fn leave(&self, errand: Errand) {
        let mut left = self.queue.left();
        left.errands.push(errand);
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

async fn carry_out(queue: Arc<Queue>) {
    loop {
        queue.word.notified().await;
        let errands = std::mem::take(&mut queue.left().errands);
        for errand in errands {
            queue.wait_for_room().await;
            tokio::spawn(Abreast::of(&queue).until_end_of(errand));
        }
    }
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

    #[test]
    fn errands_that_never_end_hold_up_no_other() {
        let worker = worker();
        let errands = Errands::on(worker.handle());
        let (sender, done) = channel();
        for _ in 0..3 * ABREAST {
            errands.leave(Box::pin(std::future::pending()));
        }
        errands.leave(Box::pin(async move { sender.send(()).expect("receiver lives") }));
        errands.end_of_frame();
        done.recv().expect("carried out");
    }
}
