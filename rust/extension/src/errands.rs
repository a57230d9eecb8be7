//! The one road from the main thread to the workers, beside [`crate::hand_off`], which leads back.
//!
//! To spawn a task from outside wakes a worker, which costs the main thread more than all else it does for a call.
//! Errands are left in a queue instead, and a task on the workers spawns all that it finds there. It is woken for the first
//! errand of a frame, at the frame's end if more have come, and in between for each batch of a burst.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// Work for a worker.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Errands begun before other tasks have their turn, and left before the workers hear of them within a frame.
const BATCH: usize = 64;

/// Where the main thread leaves errands. Those that nobody carries out any more are dropped with it, which says so to whom
/// it concerns: see `runtime::Delivery`.
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
    errands: Vec<Errand>,
    /// Since the frame began.
    in_frame: usize,
}

impl Queue {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
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
        for (number, errand) in errands.into_iter().enumerate() {
            if number % BATCH == BATCH - 1 {
                tokio::task::yield_now().await;
            }
            tokio::spawn(errand);
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

    #[test]
    fn every_errand_is_carried_out_once_the_frame_ends() {
        let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("workers");
        let errands = Errands::on(workers.handle());
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
}
