//! Reads that share a statement. While one runs, further questions gather, and the next statement answers all of them: under
//! load the database is asked a few thousand times a second whatever the number of requests.
//!
//! Nothing is remembered between statements, and none that began before a question came answers it. So an answer is never
//! older than its question, also when another replica or the operator's tool changed what was asked for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::http::{Outcome, Refusal};

/// Most questions that one statement answers.
const MOST: usize = 256;

type Asker<Q, A> = (Q, oneshot::Sender<Outcome<A>>);
type Waiting<K, Q, A> = Arc<Mutex<HashMap<K, Vec<Asker<Q, A>>>>>;

/// Questions that wait. A key is here while a statement for its questions runs.
pub struct Gathered<K, Q, A>(Waiting<K, Q, A>);

impl<K, Q, A> Default for Gathered<K, Q, A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, Q, A> Gathered<K, Q, A>
where
    K: Clone + Eq + Hash + Send + 'static,
    Q: Send + 'static,
    A: Send + 'static,
{
    /// Asks a question. `read` gives as many answers as it gets questions, all of `key`.
    pub async fn ask<R, F>(&self, key: K, question: Q, read: R) -> Outcome<A>
    where
        R: Fn(K, Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Outcome<Vec<A>>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let asker = (question, sender);
        let begun = match lock(&self.0).entry(key.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(asker);
                None
            }
            Entry::Vacant(idle) => {
                idle.insert(Vec::new());
                Some(asker)
            }
        };
        if let Some(first) = begun {
            let turns = Turns { key, all: Arc::clone(&self.0) };
            // A task of its own: whoever asked first may hang up, and the others still wait.
            tokio::spawn(turns.take(vec![first], read));
        }
        answer.await.map_err(|_| Refusal::from(anyhow::anyhow!("a shared read ended without an answer")))?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Statements for one key, one after the other, while there are questions.
struct Turns<K: Eq + Hash, Q, A> {
    key: K,
    all: Waiting<K, Q, A>,
}

impl<K: Clone + Eq + Hash, Q, A> Turns<K, Q, A> {
    async fn take<R, F>(self, mut askers: Vec<Asker<Q, A>>, read: R)
    where
        R: Fn(K, Vec<Q>) -> F,
        F: Future<Output = Outcome<Vec<A>>>,
    {
        loop {
            // Requests that are ready to ask do so first: on an idle server this takes no time, on a busy one it makes one
            // statement of many.
            tokio::task::yield_now().await;
            askers.append(&mut self.more(MOST - askers.len()));
            let (questions, senders): (Vec<Q>, Vec<_>) = askers.into_iter().unzip();
            let answers = read(self.key.clone(), questions).await;
            match answers {
                Ok(answers) => {
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        // Err: whoever asked has hung up.
                        let _gone = sender.send(Ok(answer));
                    }
                }
                Err(refusal) => {
                    for sender in senders {
                        let _gone = sender.send(Err(refusal.clone()));
                    }
                }
            }
            askers = self.more(MOST);
            if askers.is_empty() && self.is_over() {
                break;
            }
        }
    }

    /// At most `most` of those that wait.
    fn more(&self, most: usize) -> Vec<Asker<Q, A>> {
        let mut all = lock(&self.all);
        let Some(waiting) = all.get_mut(&self.key) else { return Vec::new() };
        let later = waiting.split_off(waiting.len().min(most));
        std::mem::replace(waiting, later)
    }

    /// Whether nobody waits; then the key is idle again.
    fn is_over(&self) -> bool {
        let mut all = lock(&self.all);
        let over = all.get(&self.key).is_none_or(Vec::is_empty);
        if over {
            all.remove(&self.key);
        }
        over
    }
}

impl<K: Eq + Hash, Q, A> Drop for Turns<K, Q, A> {
    fn drop(&mut self) {
        // Idle already, unless a read panicked: then those who wait are told rather than kept waiting for ever.
        if std::thread::panicking() {
            lock(&self.all).remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
