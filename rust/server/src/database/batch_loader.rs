//! Look-ups that share a statement. While one runs, further ones wait, and the next statement answers all of them: under
//! load a few thousand statements run per second, whatever the number of requests.
//!
//! Written here rather than taken from a crate such as `async-graphql`'s `DataLoader`, which waits a fixed time for each batch and
//! answers all waiters of a key from one value: here a batch begins at once, and what waits meanwhile is the next.
//!
//! Nothing is cached between statements, and a statement serves only requests that came before it began. So a result is never
//! older than its request, also when another replica or the operator's tool changed the row.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Most look-ups that share a statement.
const MAX_BATCH: usize = 256;

/// The task of a shared read ended, by a defect, before it had a result.
#[derive(Debug, thiserror::Error)]
#[error("a shared read ended without an answer")]
pub struct ReadEnded;

type Waiter<Q, A, E> = (Q, oneshot::Sender<Result<A, E>>);
type Waiting<K, Q, A, E> = Arc<Mutex<HashMap<K, Vec<Waiter<Q, A, E>>>>>;

/// Look-ups that wait, by key. A key is present while a statement for it runs.
pub struct BatchLoader<K, Q, A, E>(Waiting<K, Q, A, E>);

impl<K, Q, A, E> Default for BatchLoader<K, Q, A, E> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, Q, A, E> BatchLoader<K, Q, A, E>
where
    K: Clone + Eq + Hash + Send + 'static,
    Q: Send + 'static,
    A: Send + 'static,
    E: Clone + From<ReadEnded> + Send + 'static,
{
    /// Loads one item. `read` returns as many results as it gets items, in the same order, all of `key`.
    pub async fn load<R, F>(&self, key: K, question: Q, read: R) -> Result<A, E>
    where
        R: Fn(K, Vec<Q>) -> F + Send + 'static,
        F: Future<Output = Result<Vec<A>, E>> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let waiter = (question, sender);
        let begun = match lock(&self.0).entry(key.clone()) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(waiter);
                None
            }
            Entry::Vacant(idle) => {
                idle.insert(Vec::new());
                Some(waiter)
            }
        };
        if let Some(first) = begun {
            let batches = Batches { key, all: Arc::clone(&self.0) };
            // A task of its own: the first caller may be cancelled while the others still wait.
            tokio::spawn(batches.run(vec![first], read));
        }
        answer.await.map_err(|_| E::from(ReadEnded))?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Statements for one key, one after the other, while look-ups wait.
struct Batches<K: Eq + Hash, Q, A, E> {
    key: K,
    all: Waiting<K, Q, A, E>,
}

impl<K: Clone + Eq + Hash, Q, A, E: Clone> Batches<K, Q, A, E> {
    async fn run<R, F>(self, mut waiters: Vec<Waiter<Q, A, E>>, read: R)
    where
        R: Fn(K, Vec<Q>) -> F,
        F: Future<Output = Result<Vec<A>, E>>,
    {
        loop {
            // Requests that are ready join first: on an idle server this takes no time, on a busy one it makes one
            // statement of many.
            tokio::task::yield_now().await;
            waiters.append(&mut self.next_waiters(MAX_BATCH - waiters.len()));
            let (items, senders): (Vec<Q>, Vec<_>) = waiters.into_iter().unzip();
            let answers = read(self.key.clone(), items).await;
            match answers {
                Ok(answers) => {
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        // Err: the caller was cancelled.
                        let _gone = sender.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for sender in senders {
                        let _gone = sender.send(Err(error.clone()));
                    }
                }
            }
            waiters = self.next_waiters(MAX_BATCH);
            if waiters.is_empty() && self.finish_if_idle() {
                break;
            }
        }
    }

    /// At most `most` of those that wait.
    fn next_waiters(&self, most: usize) -> Vec<Waiter<Q, A, E>> {
        let mut all = lock(&self.all);
        let Some(waiting) = all.get_mut(&self.key) else { return Vec::new() };
        let later = waiting.split_off(waiting.len().min(most));
        std::mem::replace(waiting, later)
    }

    /// Makes the key idle again if no request waits. Returns whether it did.
    fn finish_if_idle(&self) -> bool {
        let mut all = lock(&self.all);
        let over = all.get(&self.key).is_none_or(Vec::is_empty);
        if over {
            all.remove(&self.key);
        }
        over
    }
}

impl<K: Eq + Hash, Q, A, E> Drop for Batches<K, Q, A, E> {
    fn drop(&mut self) {
        // Idle already, unless a read panicked: then the waiting requests fail rather than wait for ever.
        if std::thread::panicking() {
            lock(&self.all).remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
