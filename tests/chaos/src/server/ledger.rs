//! Which operation is which change of which document, and what the store reports of them.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backend_client::player_store::Event;
use serde_json::{Value, json};

/// Reports one event to the trial: at once and whole, because the process may be killed after it.
pub fn report(event: &Value) {
    let mut line = event.to_string();
    line.push('\n');
    if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
        // Nobody listens: the trial is over.
        std::process::exit(1);
    }
}

/// The operations of this process.
pub struct Ledger {
    entries: Mutex<Entries>,
}

/// The open ledger. While it is open nothing is saved and no acknowledgement is reported.
pub struct Entries {
    next_own_op: i64,
    /// By player and key: changes with their operations, the oldest first, that are not acknowledged yet.
    local: HashMap<(String, String), Vec<(u64, i64)>>,
    remote: HashMap<(String, String), Vec<(u64, i64)>>,
}

impl Ledger {
    /// The ledger of one incarnation of server number `index`.
    pub fn new(index: i64, incarnation: i64) -> Self {
        // Operations that the plan does not know, such as the last save of a player who has to go.
        let next_own_op = (index + 1) * 10_000_000 + incarnation * 10_000;
        Self { entries: Mutex::new(Entries { next_own_op, local: HashMap::new(), remote: HashMap::new() }) }
    }

    /// Opens it.
    pub fn open(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports an event of the store to the trial.
    pub fn record(&self, event: &Event) {
        match event {
            Event::Journalled(saves) => {
                let mut entries = self.open();
                for save in saves {
                    let ops = covered(&mut entries.local, &save.player_id, &save.key, save.revision);
                    report(&json!({
                        "event": "journalled", "player": save.player_id, "key": save.key, "ops": ops,
                        "generation": save.revision, "epoch": save.epoch, "sequence": save.sequence,
                    }));
                }
            }
            Event::Saved { player_id, key, version, revision, epoch, sequence } => {
                let mut entries = self.open();
                let ops = covered(&mut entries.remote, player_id, key, *revision);
                report(&json!({
                    "event": "saved", "player": player_id, "key": key, "ops": ops, "generation": revision,
                    "epoch": epoch, "sequence": sequence, "version": version,
                }));
            }
            Event::Conflicted { player_id, key, epoch, sequence } => report(&json!({
                "event": "conflicted", "player": player_id, "key": key, "epoch": epoch, "sequence": sequence,
            })),
            Event::SaveFailed { player_id, key, error } => report(&json!({
                "event": "save_failed", "player": player_id, "key": key, "code": error.code(),
            })),
            Event::LeaseLost { player_id } => report(&json!({ "event": "lease_lost", "player": player_id })),
            Event::RollbackDetected => report(&json!({ "event": "rollback_detected" })),
            Event::PlayerWanted { player_id } => report(&json!({ "event": "wanted", "player": player_id })),
            Event::ConflictFound(conflict) => report(&json!({
                "event": "conflict_found", "player": conflict.player_id, "key": conflict.key,
                "epoch": conflict.epoch, "sequence": conflict.sequence, "op": conflict.value.get("op"),
            })),
            Event::JournalFailed(error) => {
                report(&json!({ "event": "journal_failed", "error": error.to_string() }));
            }
            Event::JournalWarning(warning) => {
                report(&json!({ "event": "journal_warning", "warning": warning }));
            }
            Event::JournalRecovered => report(&json!({ "event": "journal_recovered" })),
            Event::BacklogChanged(backlog) => {
                report(&json!({ "event": "backlog", "documents": backlog.documents }));
            }
        }
    }
}

impl Entries {
    /// A number for an operation that the plan does not know.
    pub fn own_op(&mut self) -> i64 {
        self.next_own_op += 1;
        self.next_own_op
    }

    /// `op` is this change of the document.
    pub fn enter(&mut self, player_id: &str, key: &str, revision: u64, op: i64) {
        for side in [&mut self.local, &mut self.remote] {
            side.entry((player_id.to_owned(), key.to_owned())).or_default().push((revision, op));
        }
    }

    /// The player was loaded: acknowledgements from now on concern no changes from before, which another server may
    /// have kept out.
    pub fn forget(&mut self, player_id: &str) {
        for side in [&mut self.local, &mut self.remote] {
            side.retain(|(player, _), _| player != player_id);
        }
    }
}

/// Takes out the operations that an acknowledgement of `revision` covers.
fn covered(
    side: &mut HashMap<(String, String), Vec<(u64, i64)>>,
    player_id: &str,
    key: &str,
    revision: u64,
) -> Vec<i64> {
    let Some(changes) = side.get_mut(&(player_id.to_owned(), key.to_owned())) else { return Vec::new() };
    let ops = changes.iter().filter(|(change, _)| *change <= revision).map(|(_, op)| *op).collect();
    changes.retain(|(change, _)| *change > revision);
    ops
}
