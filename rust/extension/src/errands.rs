//! The one road from the main thread to the workers, beside [`crate::hand_off`], which leads back.
//!
//! To spawn a task from outside wakes a worker, which costs the main thread more than all else it does for a call.
//! Errands are left in a queue instead, and a task on the workers spawns all that it finds there: only the first after a
//! pause wakes anybody.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// Work for a worker.
pub type Errand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Errands begun before other tasks have their turn.
const BATCH: usize = 64;
/// Turns of other tasks that the empty queue is looked at again before anybody has to be woken for an errand. They pass in
/// microseconds where there is nothing to do; where there is, it is the next errand as well.
const TURNS: usize = 8;

/// Where the main thread leaves errands.
pub struct Errands(UnboundedSender<Errand>);

impl Errands {
    /// Has them carried out on `workers` until it is dropped.
    pub fn on(workers: &tokio::runtime::Handle) -> Self {
        let (sender, receiver) = unbounded_channel();
        workers.spawn(carry_out(receiver));
        Self(sender)
    }

    /// Never waits. An errand that nobody carries out any more is dropped.
    pub fn leave(&self, errand: Errand) {
        // Dropped with its runtime, which says so to whom it concerns: see `runtime::Delivery`.
        let _refused = self.0.send(errand);
    }
}

async fn carry_out(mut errands: UnboundedReceiver<Errand>) {
    while let Some(first) = errands.recv().await {
        tokio::spawn(first);
        let (mut begun, mut empty) = (1, 0);
        while empty < TURNS {
            match errands.try_recv() {
                Ok(errand) => {
                    tokio::spawn(errand);
                    begun += 1;
                    empty = 0;
                    if begun % BATCH == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Err(_) => {
                    empty += 1;
                    tokio::task::yield_now().await;
                }
            }
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
