//! Players' documents: loading them under a lease, saving them in batches.
//!
//! A server that loads a player becomes the holder. While another one holds the player, that one is requested to save and
//! release it, and the load has to be repeated. The epoch grows whenever a lease is taken anew, and a save is applied only
//! under the current epoch and with a sequence above the document's last: a replay is harmless, and a server that lost
//! its player cannot overwrite. What it sends then is kept as a [`Conflict`], neither dropped nor applied.

mod document_json;

pub use document_json::parse_document;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};
use crate::problem::Code;

/// Takes players over and reads their documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadPlayers {
    /// The asking server.
    pub server_id: String,
    /// 1 to 100 players.
    pub player_ids: Vec<String>,
}

/// The players' documents, in the requested order. A player in neither list does not exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadedPlayers {
    /// Players that the asking server holds now.
    pub players: Vec<LoadedPlayer>,
    /// Players that another server still holds. It was requested to release them; load again.
    #[serde(default)]
    pub held: Vec<HeldPlayer>,
}

/// A player whose lease another server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldPlayer {
    /// The account's id.
    pub player_id: String,
    /// The server that holds the player.
    pub server_id: String,
    /// Milliseconds until the lease ends if its holder is never heard of again.
    pub expires_in_ms: i64,
}

/// One player, held by the asking server from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadedPlayer {
    /// The account's id.
    pub player_id: String,
    /// Epoch of the lease; goes with every save.
    pub epoch: i64,
    /// Largest sequence saved under this epoch; the next save uses a larger one.
    pub sequence: i64,
    /// All documents of the player.
    pub documents: Vec<Document>,
    /// Saves of servers that had lost this player, waiting to be merged; the oldest first, at most 100.
    #[serde(default)]
    pub conflicts: Vec<Conflict>,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Document {
    /// Name of the document.
    pub key: String,
    /// Grows by one with every applied save, from 1.
    pub version: i64,
    /// The document itself.
    #[serde(deserialize_with = "document_json::deserialize")]
    pub value: Map<String, Value>,
    /// RFC 3339 time of the last save, UTC.
    pub updated_at: String,
}

/// Documents of one player, read without taking the player over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlayerDocuments {
    /// The account's id.
    pub player_id: String,
    /// All documents of the player.
    pub documents: Vec<Document>,
}

/// Saves a batch. Each item stands for itself: one refused does not hold up the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveDocuments {
    /// The saving server.
    pub server_id: String,
    /// 1 to 100 documents.
    pub items: Vec<SaveItem>,
}

/// One document to save.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveItem {
    /// Whose document.
    pub player_id: String,
    /// Name of the document: 1 to 64 of `[A-Za-z0-9_.-]`.
    pub key: String,
    /// Epoch under which the server holds the player.
    pub epoch: i64,
    /// Counts the server's saves of this player in this epoch, from 1.
    pub sequence: i64,
    /// The whole document, at most 256 KiB of JSON.
    #[serde(deserialize_with = "document_json::deserialize")]
    pub value: Map<String, Value>,
    /// Version that the document had when this server loaded it: the server has not changed it since, and sends it because
    /// the database went back. A document of this or a later version stays as it is, and the outcome is `replayed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_version: Option<i64>,
}

/// What became of a batch, item by item, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SavedDocuments {
    /// One result per item.
    pub results: Vec<SaveResult>,
    /// Players of this server that another one waits for, at most 100. Save and release them.
    #[serde(default)]
    pub wanted: Vec<String>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaveResult {
    /// Whose document.
    pub player_id: String,
    /// Name of the document.
    pub key: String,
    /// What happened.
    pub outcome: SaveOutcome,
    /// Version of the document after this request; 0 when it does not exist.
    pub version: i64,
    /// With [`SaveOutcome::Refused`]: `player_not_found`, `epoch_unknown`, `sequence_out_of_bounds`, `too_many_documents` or
    /// `too_many_conflicts`. With [`SaveOutcome::Conflicted`]: `rolled_back` if the database does not know the lease, because
    /// it went back to a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// What happened to one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaveOutcome {
    /// Committed by this request.
    Applied,
    /// Committed before by the same save; nothing changed.
    Replayed,
    /// A later save of the same epoch was committed before; nothing changed.
    Superseded,
    /// The epoch is not the current one: another server has taken the player since. The document is unchanged, the save is
    /// kept as a [`Conflict`].
    Conflicted,
    /// Rejected permanently, and not stored: [`SaveResult::code`] is the reason. Sending it again changes nothing.
    Refused,
}

/// A save that came too late: its server had lost the player.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// Id of the conflict.
    pub conflict_id: String,
    /// Whose document.
    pub player_id: String,
    /// Name of the document.
    pub key: String,
    /// The server that saved.
    pub server_id: String,
    /// Its epoch.
    pub epoch: i64,
    /// Its sequence.
    pub sequence: i64,
    /// What it saved.
    #[serde(deserialize_with = "document_json::deserialize")]
    pub value: Map<String, Value>,
    /// RFC 3339 time at which the backend received it, UTC.
    pub received_at: String,
}

/// A player's conflicts, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlayerConflicts {
    /// At most 100.
    pub conflicts: Vec<Conflict>,
}

/// Resolves conflicts once their content is merged, or not needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveConflicts {
    /// The server that holds the player.
    pub server_id: String,
    /// 1 to 100 conflicts. Ids that are not there (any more) change nothing.
    pub conflict_ids: Vec<String>,
}

/// Releases players, so that another server need not wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePlayers {
    /// The server that holds them.
    pub server_id: String,
    /// 1 to 100 players; absent: all that the server holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<Vec<ReleasePlayer>>,
}

/// One player to release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleasePlayer {
    /// The account's id.
    pub player_id: String,
    /// Epoch of the lease: a release that arrives late ends no later lease.
    pub epoch: i64,
    /// Sum, over the player's documents, of the newest sequence of this epoch that the backend has confirmed; 0 if it confirmed
    /// none. A lease of which the backend has less is not released, see [`ReleasedPlayers::behind`]. Absent: it is released in
    /// any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_sequences: Option<i64>,
    /// Sum of the versions of all documents of the player, as this server knows them: a document of which the backend has an
    /// older version counts as a confirmed save that it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_versions: Option<i64>,
}

/// What became of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleasedPlayers {
    /// Players of whom the backend lacks saves that it had confirmed, because its database went back. Their leases stay. The
    /// server sends those saves again, and then releases the players with what the answers to them say.
    #[serde(default)]
    pub behind: Vec<String>,
}

impl Check for LoadPlayers {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)?;
        batch("player_ids", self.player_ids.len(), limits::MAX_LOAD)?;
        for (index, id) in self.player_ids.iter().enumerate() {
            limits::identifier(&format!("player_ids[{index}]"), id, 64)?;
        }
        Ok(())
    }
}

impl Check for ReleasePlayers {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)?;
        let Some(players) = &self.players else { return Ok(()) };
        batch("players", players.len(), limits::MAX_LOAD)?;
        for (index, player) in players.iter().enumerate() {
            limits::identifier(&format!("players[{index}].player_id"), &player.player_id, 64)?;
        }
        Ok(())
    }
}

impl Check for ResolveConflicts {
    fn check(&self) -> Result<(), FieldError> {
        limits::identifier("server_id", &self.server_id, 64)?;
        batch("conflict_ids", self.conflict_ids.len(), limits::MAX_BATCH)?;
        for (index, id) in self.conflict_ids.iter().enumerate() {
            limits::identifier(&format!("conflict_ids[{index}]"), id, 64)?;
        }
        Ok(())
    }
}

impl Check for SaveDocuments {
    fn check(&self) -> Result<(), FieldError> {
        save_batch(&self.server_id, self.items.len())?;
        for (index, item) in self.items.iter().enumerate() {
            item.check().map_err(|error| error.within(&format!("items[{index}]")))?;
        }
        Ok(())
    }
}

impl Check for SaveItem {
    fn check(&self) -> Result<(), FieldError> {
        save_item(&self.player_id, &self.key, self.epoch, self.sequence)?;
        document("value", &self.value).map(drop)
    }
}

/// A batch of `items` documents to save, whatever form they have.
pub fn save_batch(server_id: &str, items: usize) -> Result<(), FieldError> {
    limits::identifier("server_id", server_id, 64)?;
    batch("items", items, limits::MAX_BATCH)
}

/// A document to save beside its value.
pub fn save_item(player_id: &str, key: &str, epoch: i64, sequence: i64) -> Result<(), FieldError> {
    limits::identifier("player_id", player_id, 64)?;
    limits::identifier("key", key, limits::MAX_DOCUMENT_KEY)?;
    if epoch < 1 {
        return Err(FieldError::new("epoch", "must be at least 1"));
    }
    if sequence < 1 {
        return Err(FieldError::new("sequence", "must be at least 1"));
    }
    Ok(())
}

/// The size of `value` in bytes of JSON, if it fits into [`limits::MAX_DOCUMENT_BYTES`].
pub fn document(field: &str, value: &Map<String, Value>) -> Result<usize, FieldError> {
    let mut counter = ByteCounter(0);
    let counted = serde_json::to_writer(&mut counter, value);
    document_size(field, if counted.is_err() { usize::MAX } else { counter.0 })
}

/// `bytes`, if a document of this size fits into [`limits::MAX_DOCUMENT_BYTES`].
pub fn document_size(field: &str, bytes: usize) -> Result<usize, FieldError> {
    let max = limits::MAX_DOCUMENT_BYTES;
    if bytes > max {
        return Err(FieldError::new(
            field,
            format!("must be a JSON object of at most {max} bytes, has {bytes}"),
        ));
    }
    Ok(bytes)
}

/// Counts instead of storing, so that checking a document costs no memory.
struct ByteCounter(usize);

impl std::io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn batch(field: &str, count: usize, max: usize) -> Result<(), FieldError> {
    if count == 0 {
        return Err(FieldError::new(field, "must not be empty"));
    }
    limits::at_most(field, count, max)
}
