//! The end before its time: the journal gets a last chance, and what is known of everything is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Ending, Inner, OVERRUN, Pending, SoFar, Summary, since};

/// What the stores answer when the process is about to end.
#[derive(Clone, Copy)]
struct Answer {
    pending: Pending,
    refused: usize,
    players: usize,
    awaits_state: bool,
}

impl Inner {
    fn answer(&self) -> Answer {
        let stores = self.participants.stores();
        Answer {
            pending: stores.iter().map(|store| store.pending()).sum(),
            refused: stores.iter().map(|store| store.refused()).sum(),
            players: stores.iter().map(|store| store.players()).sum(),
            awaits_state: stores.iter().any(|store| store.awaits_state()),
        }
    }

    /// Any thread that is no worker. Gives the journal its last chance, and says where everything is.
    pub(super) fn cut_short(self: &Arc<Self>, ending: Ending, within: Duration) -> Summary {
        let is_over = |so_far: &SoFar| so_far.complete && !so_far.stayed;
        {
            let so_far = self.so_far();
            if is_over(&so_far) {
                return so_far.summary.clone();
            }
        }
        let answer = self.last_chance(within);
        let now = self.clock.now();
        let so_far = self.so_far();
        let mut summary = so_far.summary.clone();
        if is_over(&so_far) {
            return summary;
        }
        summary.total = since(so_far.begun.unwrap_or(now), now);
        match answer {
            None => {
                summary.nothing_known();
                summary.ending = Ending::NoAnswer;
            }
            Some(answer) => {
                let too_early = !so_far.collected;
                if too_early {
                    summary.players = summary.players.max(answer.players);
                    summary.not_collected = Some(answer.players);
                }
                summary.left(answer.pending, if too_early { answer.awaits_state } else { so_far.lost_state });
                summary.refused = Some(answer.refused);
                summary.ending = if too_early { Ending::BeforeCollect } else { ending };
            }
        }
        summary
    }

    /// `None` if the stores do not even answer. On a thread of its own, because a stuck store must not hold up whoever
    /// has to end the process.
    fn last_chance(self: &Arc<Self>, within: Duration) -> Option<Answer> {
        let runtime = self.runtime.get()?.clone();
        let inner = Arc::clone(self);
        let (answer, answered) = std::sync::mpsc::channel();
        let work = move || {
            runtime.block_on(async {
                let mut tasks: JoinSet<usize> = JoinSet::new();
                for store in inner.participants.stores() {
                    tasks.spawn(async move { store.flush_local(within).await });
                }
                while tasks.join_next().await.is_some() {}
            });
            // Whoever asked may have left: then nobody needs the answer.
            let _late = answer.send(inner.answer());
        };
        if let Err(error) = std::thread::Builder::new().name("backend-shutdown-journal".into()).spawn(work) {
            tracing::error!(%error, "the journal gets no last chance");
            return None;
        }
        answered.recv_timeout(within + OVERRUN).ok()
    }
}
