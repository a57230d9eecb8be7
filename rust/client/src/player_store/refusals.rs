//! Saves that were refused: what the game handed in is nowhere, and somebody has to find out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ClientError;

/// Documents whose refusal is remembered. The oldest make way.
const MAX_REMEMBERED: usize = 1_024;
/// Shortest time between two lines in the log about the same document.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Most lines in the log within [`BURST`].
const MAX_LINES: usize = 10;
const BURST: Duration = Duration::from_secs(1);

/// Refused saves by owner and name: of players' documents, or of a world's chunks.
#[derive(Default)]
pub(crate) struct Refusals {
    last: BTreeMap<(String, String), RefusedSave>,
    /// Lines that were written: when, about what.
    logged: BTreeMap<(String, String), Instant>,
    burst: Option<Instant>,
    lines: usize,
    unlogged: usize,
    total: usize,
}

struct RefusedSave {
    error: ClientError,
    /// Which refusal it was.
    number: usize,
}

impl Refusals {
    /// Counts a refusal. `topic`: lines in the log about the same one are rare.
    pub fn note(&mut self, owner: &str, name: &str, topic: &str, error: &ClientError, now: Instant) {
        self.total += 1;
        let document = (owner.to_owned(), name.to_owned());
        if self.last.len() >= MAX_REMEMBERED && !self.last.contains_key(&document) {
            let oldest = self.last.iter().min_by_key(|(_, refusal)| refusal.number);
            if let Some(oldest) = oldest.map(|(document, _)| document.clone()) {
                self.last.remove(&oldest);
            }
        }
        self.last.insert(document, RefusedSave { error: error.clone(), number: self.total });
        if self.is_to_be_logged((owner.to_owned(), topic.to_owned()), now) {
            let unlogged = std::mem::take(&mut self.unlogged);
            tracing::warn!(
                owner,
                name,
                code = error.code(),
                unlogged,
                "a save was refused; what it held is not saved anywhere: {error}"
            );
        } else {
            self.unlogged += 1;
        }
    }

    fn is_to_be_logged(&mut self, topic: (String, String), now: Instant) -> bool {
        if self.logged.get(&topic).is_some_and(|at| now < *at + LOG_INTERVAL) {
            return false;
        }
        if self.burst.is_none_or(|begun| now >= begun + BURST) {
            (self.burst, self.lines) = (Some(now), 0);
        }
        if self.lines >= MAX_LINES {
            return false;
        }
        self.lines += 1;
        if self.logged.len() >= MAX_REMEMBERED {
            self.logged.retain(|_, at| now < *at + LOG_INTERVAL);
        }
        self.logged.insert(topic, now);
        true
    }

    /// A later save of the document was taken.
    pub fn clear(&mut self, owner: &str, name: &str) {
        if !self.last.is_empty() {
            self.last.remove(&(owner.to_owned(), name.to_owned()));
        }
    }

    /// Nobody asks for these any more.
    pub fn forget(&mut self, is_forgotten: impl Fn(&str) -> bool) {
        self.last.retain(|(owner, _), _| !is_forgotten(owner));
    }

    /// Documents of one owner, or of all, whose last save was refused.
    pub fn count(&self, owner: Option<&str>) -> usize {
        self.last.keys().filter(|(of, _)| owner.is_none_or(|owner| owner == of)).count()
    }

    /// The newest refusal among the documents of an owner.
    pub fn last_of(&self, owner: &str) -> Option<ClientError> {
        let of = self.last.iter().filter(|((of, _), _)| of == owner);
        of.max_by_key(|(_, refusal)| refusal.number).map(|(_, refusal)| refusal.error.clone())
    }

    /// All of them, since the beginning.
    pub const fn total(&self) -> usize {
        self.total
    }
}
