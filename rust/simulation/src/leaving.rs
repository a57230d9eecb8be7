//! The orderly end of a simulated process, by the product's own state machine.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::checker::Invariant;
use super::cluster::{Cluster, Process};
use super::players;
use backend_client::shutdown::{Participants, Phase, Shutdown, Store, Summary};

struct Server(Arc<Process>);

#[async_trait]
impl Participants for Server {
    fn drain(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
        self.0.registration.set_draining(true);
    }

    fn stores(&self) -> Vec<Arc<dyn Store>> {
        vec![Arc::new(self.0.store.clone())]
    }

    async fn deregister(&self) -> bool {
        let done = self.0.registration.deregister().await;
        done.is_ok()
    }
}

/// SIGTERM. The process is gone when its grace is over at the latest.
pub async fn leave(cluster: Arc<Cluster>, process: Arc<Process>) {
    let (grace, thinks, answers) = {
        let mut rng = cluster.rng();
        let longest = if rng.chance(300) { 4_000 } else { 60_000 };
        (rng.milliseconds(200, longest), rng.milliseconds(0, 3_000), rng.chance(900))
    };
    let (completed, has_completed) = oneshot::channel::<(Summary, usize)>();
    let (completed, checking) = (Mutex::new(Some(completed)), Arc::clone(&cluster.checker));
    let on_phase = Arc::new(move |phase| {
        if let Phase::Completed(summary) = phase
            && let Some(completed) = completed.lock().expect("not poisoned").take()
        {
            // Gone with its process.
            let _gone = completed.send((summary, checking.newest()));
        }
    });
    let power = Arc::clone(&process.power);
    let shutdown = Shutdown::new(
        Arc::clone(&process.clock),
        Arc::new(Server(Arc::clone(&process))),
        on_phase,
        Arc::new(move |_, _| power.cut()),
    );
    let begun = process.power.resumed();
    cluster.checker.leaving(process.number);
    if !shutdown.request("SIGTERM", grace) {
        return;
    }
    if answers {
        process.clock.sleep(thinks).await;
        let players = cluster.rng().between(1, 4);
        for number in 1..=players {
            players::save(&cluster, &process, &format!("p{number}"));
        }
        shutdown.collected();
    }
    tokio::select! {
        biased;
        summary = has_completed => {
            if let Ok((summary, newest)) = summary {
                check_summary(&cluster, &process, &summary, newest);
            }
            process.power.cut();
        }
        () = process.power.off() => {}
        () = tokio::time::sleep(grace) => {
            // The watchdog has its turn in this very moment.
            tokio::task::yield_now().await;
            let late = process.power.is_on() && process.power.resumed() == begun;
            cluster.trace.check(!late, || format!("process {} outlived its grace", process.number));
        }
    }
}

/// The last line of the log says the truth about all saves up to the newest it speaks of.
fn check_summary(cluster: &Cluster, process: &Process, summary: &Summary, newest: usize) {
    let left = summary.left_in_journal;
    let noted = left.map_or(-1, |left| i64::try_from(left).unwrap_or(i64::MAX));
    cluster.trace.note("completed", process.number, "", &[noted]);
    // What is not known promises nothing.
    let promise = match (left, summary.unsaved) {
        (Some(left), Some(unsaved)) => Invariant::of(left + unsaved, left),
        _ => Invariant::Nothing,
    };
    let disk = &cluster.disks[process.machine];
    cluster.checker.flushed(process.number, None, disk, (promise, newest));
    if promise == Invariant::Arrived {
        // Without an answer at its end, nobody has told it that a database went back.
        cluster.checker.ended_in_order(process.number, summary.deregistered);
    }
}
