//! Knows what was saved, acknowledged and done, and says when something has happened that must not happen.
//!
//! Every content that is saved in a run carries a number of its own, so that it is recognised wherever it turns up.

mod acks;
mod invariants;
mod setbacks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::json;

pub use invariants::Invariant;
pub use setbacks::Copied;

use setbacks::Owed;

use crate::{SimulatedDisk, Trace};
use backend_client::player_store::Content;

/// A document under an epoch: player, key, epoch.
pub type Place = (String, String, i64);

pub struct Checker {
    trace: Arc<Trace>,
    disks: Vec<SimulatedDisk>,
    book: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    /// By number. The first one is nobody's.
    saves: Vec<Save>,
    places: BTreeMap<Place, Known>,
    /// What each number of an epoch stands for.
    sequences: BTreeMap<(Place, i64), usize>,
    /// Version and content of each document at the backend.
    documents: BTreeMap<(String, String), (i64, usize)>,
    /// Player → epoch of the present lease.
    epochs: BTreeMap<String, i64>,
    /// Player → the largest epoch that was ever given.
    largest: BTreeMap<String, i64>,
    /// Player → the process that was given the present lease.
    holders: BTreeMap<String, usize>,
    /// What was loaded under which epoch.
    loaded: BTreeSet<(Place, usize)>,
    /// Process and player → epoch under which the process loaded the player last.
    loaded_under: BTreeMap<(usize, String), i64>,
    /// Leases that were let go and are there again, because the database went back; their holders do not know of them. And those that
    /// their holders were told to have lost: what they had is a conflict, and nobody has it any more.
    revived: BTreeSet<(String, i64)>,
    /// All leases that a database gave again after they had been let go.
    given_again: BTreeSet<(String, i64)>,
    /// How often the database went back.
    restores: u64,
    /// At which of them a process was last told that the backend went back.
    noticed: BTreeMap<usize, u64>,
    /// Saves that were at the backend and were lost with that, at least once.
    lost: BTreeSet<usize>,
    /// What servers have to bring in again after that.
    owed: Vec<Owed>,
    /// Damage to journals, and whether it was told.
    damages: BTreeMap<u64, bool>,
    /// Leases that were let go, as player and epoch.
    released: BTreeSet<(String, i64)>,
    /// Server id → process.
    servers: BTreeMap<String, usize>,
    dead: BTreeSet<usize>,
    leaving: BTreeSet<usize>,
    /// Saves that came too late.
    conflicts: u64,
    /// What was to be made of a conflict: nothing, or this save.
    merges: BTreeMap<(Place, i64), Vec<Option<usize>>>,
}

#[derive(Default)]
struct Save {
    /// Nothing, before the store has taken it.
    place: Option<Place>,
    process: usize,
    revision: u64,
    sequence: Option<i64>,
    at_backend: bool,
}

/// The newest saves of one document and epoch, by number of content; 0 if there is none.
#[derive(Default)]
struct Known {
    /// Taken by the store.
    accepted: usize,
    process: usize,
    /// Acknowledged locally.
    acknowledged: usize,
    /// At the backend, as the document or as a conflict, and the number it has in its epoch.
    arrived: usize,
    sequence: i64,
    /// The largest number that was ever there.
    largest: i64,
    /// May be missing, with all before it: it was lost with a database or with a journal that was damaged. Acknowledged
    /// again, it may not.
    excused: usize,
    /// The process was told that the backend has this, and has not noticed since that the backend went back.
    confirmed: usize,
}

impl Known {
    /// Whether saves up to this one may be missing.
    const fn excuses(&self, number: usize) -> bool {
        number <= self.excused
    }
}

/// How much was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub saves: u64,
    pub acknowledged: u64,
    pub conflicts: u64,
    /// Conflicts that a game dealt with.
    pub merges: u64,
}

impl Checker {
    pub fn new(trace: Arc<Trace>, disks: Vec<SimulatedDisk>) -> Arc<Self> {
        let book = Ledger { saves: vec![Save::default()], ..Ledger::default() };
        Arc::new(Self { trace, disks, book: Mutex::new(book) })
    }

    /// A content that no other save has.
    pub fn content(&self) -> (usize, Content) {
        let mut book = self.book();
        book.saves.push(Save::default());
        let number = book.saves.len() - 1;
        let mut content = Content::new();
        content.insert("n".to_owned(), json!(number));
        (number, content)
    }

    /// The number of the newest content.
    pub fn newest(&self) -> usize {
        self.book().saves.len() - 1
    }

    pub fn tally(&self) -> Tally {
        let book = self.book();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Tally {
            saves: count(book.saves.iter().filter(|save| save.place.is_some()).count()),
            acknowledged: count(book.places.values().filter(|known| known.acknowledged > 0).count()),
            conflicts: book.conflicts,
            merges: count(book.merges.len()),
        }
    }

    fn book(&self) -> MutexGuard<'_, Ledger> {
        self.book.lock().expect("not poisoned")
    }
}

/// The number in a content.
pub fn number_of(content: &Content) -> usize {
    let number = content.get("n").and_then(serde_json::Value::as_u64).unwrap_or(0);
    usize::try_from(number).unwrap_or(0)
}

/// The newest content of a document and epoch in the journals of a disk, 0 if there is none.
fn on_disk(disk: &SimulatedDisk, place: &Place) -> usize {
    let folder = disk.lock();
    let slots = folder.slots.iter();
    slots
        .filter_map(|slot| slot.save(place))
        .map(|record| number_of(&record.value.content()))
        .max()
        .unwrap_or(0)
}
