//! The network between one process and the backend: requests that are lost, executed without an answer, executed long
//! after their sender has given up or died, or executed twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_protocol::{Code, Problem};
use tokio::sync::oneshot;

use super::{Checker, Power, Rng, State, Trace};
use backend_client::api::backend::Reply;
use backend_client::error::{ClientError, Fault};

/// Longest time a caller waits for its answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What the network does, and whether the backend is there.
pub struct NetworkConditions {
    pub rng: Rng,
    /// Calls of a thousand with which something goes wrong.
    pub roughness: u64,
    /// Processes that are cut off.
    pub cut_off: BTreeSet<usize>,
    pub backend_is_up: bool,
    /// Counts the backend's starts: what one run had to answer, no other answers.
    pub backend_run: u64,
}

/// One process's way to the backend.
pub struct Network {
    pub number: usize,
    pub power: Arc<Power>,
    pub weather: Arc<Mutex<NetworkConditions>>,
    pub trace: Arc<Trace>,
    /// Looks at everything the backend does.
    pub checker: Arc<Checker>,
}

/// What becomes of one call.
struct MessageFate {
    there: Duration,
    back: Duration,
    lost: bool,
    answer_lost: bool,
    refused: bool,
    /// Executed a second time, this much later.
    again: Option<Duration>,
}

impl NetworkConditions {
    fn fate(&mut self, number: usize) -> MessageFate {
        let rng = &mut self.rng;
        let mut fate = MessageFate {
            there: rng.milliseconds(1, 20),
            back: rng.milliseconds(1, 20),
            lost: self.cut_off.contains(&number),
            answer_lost: false,
            refused: false,
            again: None,
        };
        if rng.chance(self.roughness) {
            match rng.below(8) {
                0 => fate.lost = true,
                1 => fate.answer_lost = true,
                2 => fate.refused = true,
                3 => fate.again = Some(rng.milliseconds(1, 60_000)),
                4 => fate.again = Some(rng.milliseconds(1, 300)),
                // Later than the caller waits.
                5 => fate.there = rng.milliseconds(10_000, 90_000),
                6 => fate.there = rng.milliseconds(100, 9_000),
                _ => fate.back = rng.milliseconds(100, 12_000),
            }
        }
        fate
    }
}

impl Network {
    pub async fn carry<T: Send + 'static>(
        &self,
        call: &'static str,
        state: &Arc<Mutex<State>>,
        work: impl Fn(&mut State) -> Reply<T> + Send + 'static,
    ) -> Reply<T> {
        self.power.on().await;
        let fate = self.weather.lock().expect("not poisoned").fate(self.number);
        let (answer, answered) = oneshot::channel();
        let way = Way {
            number: self.number,
            call,
            weather: Arc::clone(&self.weather),
            trace: Arc::clone(&self.trace),
            checker: Arc::clone(&self.checker),
            state: Arc::clone(state),
        };
        // A task of the network's own: what is on its way gets there whatever becomes of the sender.
        tokio::spawn(way.deliver(fate, work, answer));
        let reply = tokio::select! {
            biased;
            answered = answered => answered.unwrap_or_else(|_| Err(ClientError::new(Fault::Network, "connection broken"))),
            () = tokio::time::sleep(DEADLINE) => Err(ClientError::new(Fault::Timeout, "no answer in time")),
        };
        self.power.on().await;
        reply
    }
}

struct Way {
    number: usize,
    call: &'static str,
    weather: Arc<Mutex<NetworkConditions>>,
    trace: Arc<Trace>,
    checker: Arc<Checker>,
    state: Arc<Mutex<State>>,
}

impl Way {
    async fn deliver<T>(
        self,
        fate: MessageFate,
        work: impl Fn(&mut State) -> Reply<T>,
        answer: oneshot::Sender<Reply<T>>,
    ) {
        tokio::time::sleep(fate.there).await;
        if fate.there >= DEADLINE {
            self.fault("request later than its caller");
        }
        let Some(run) = self.run() else {
            return self.fault("no backend");
        };
        if fate.lost {
            self.fault("request lost");
            // Nobody says so: the caller waits in vain.
            tokio::time::sleep(DEADLINE).await;
            return;
        }
        if fate.refused {
            self.fault("request refused");
            // A caller that is gone does not mind.
            let _gone = answer.send(Err(Problem::new(Code::Unavailable, "away").into()));
            return;
        }
        self.note("executed");
        let reply = self.execute(&work);
        tokio::time::sleep(fate.back).await;
        if fate.answer_lost || self.run() != Some(run) {
            self.fault("answer lost");
            drop(answer);
        } else {
            // A caller that is gone does not mind.
            let _gone = answer.send(reply);
        }
        if let Some(later) = fate.again {
            tokio::time::sleep(later).await;
            if self.run().is_some() {
                self.fault("request repeated");
                drop(self.execute(&work));
            }
        }
    }

    fn execute<T>(&self, work: &impl Fn(&mut State) -> Reply<T>) -> Reply<T> {
        let mut state = self.state.lock().expect("not poisoned");
        let reply = work(&mut state);
        self.checker.observe(&mut state);
        reply
    }

    /// The backend's present run, if it is there.
    fn run(&self) -> Option<u64> {
        let weather = self.weather.lock().expect("not poisoned");
        weather.backend_is_up.then_some(weather.backend_run)
    }

    fn note(&self, what: &'static str) {
        self.trace.note(what, self.number, self.call, &[]);
    }

    fn fault(&self, what: &'static str) {
        self.trace.fault(what, self.number, self.call);
    }
}
