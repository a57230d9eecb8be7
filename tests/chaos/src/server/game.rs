//! What the game does: as it is told, and by itself when the store says that something has happened.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backend_client::player_store::{Content, Event, PlayerStore, Resolution};
use backend_client::protocol::player_store::Conflict;
use backend_client::registration::Registration;
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::ledger::{Entries, Ledger, report};
use crate::world::Worlds;

/// How long a player who has to go is flushed.
const LET_GO: Duration = Duration::from_secs(1);
/// Pause between two attempts of a server that is not registered yet.
const NOT_YET: Duration = Duration::from_millis(20);

/// What the game does with a save that came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnConflict {
    /// Leaves it at the backend.
    Keep,
    /// Drops it in favour of what the player has now.
    Ours,
    /// Writes a new document that is built on both.
    Merge,
}

/// What the game is told to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// A player joins.
    Join { player: String, within_ms: u64, id: u64 },
    /// A player does something worth saving.
    Save { player: String, key: String, op: i64, pad: usize, patch: bool },
    /// A player leaves in good order.
    Leave { player: String, within_ms: u64, id: u64 },
    /// Saves all players at this pace from now on, until the process ends.
    KeepSaving { every_ms: u64 },
    /// Sends what is left.
    Flush { within_ms: u64, id: u64 },
    /// A chunk of the world changes.
    Put { name: String, op: i64, size: usize },
    /// Takes a world.
    OpenWorld { world: String, id: u64 },
    /// Says what is in the world.
    ShowWorld { id: u64 },
    /// Lets the world go.
    CloseWorld { within_ms: u64, id: u64 },
}

/// A game without a game.
pub struct Game {
    /// The store under test.
    pub store: PlayerStore,
    /// Which operation is which change.
    pub ledger: Arc<Ledger>,
    /// What becomes of conflicts.
    pub on_conflict: OnConflict,
    /// The world it keeps.
    pub worlds: Arc<Worlds>,
    /// Who plays.
    pub present: Mutex<BTreeSet<String>>,
}

impl Game {
    /// Does what it is told; what takes time is done beside the rest.
    pub fn obey(self: &Arc<Self>, command: Command) {
        let game = Arc::clone(self);
        match command {
            Command::Save { player, key, op, pad, patch } => {
                self.save(&mut self.ledger.open(), &player, &key, op, pad, patch);
            }
            Command::Join { player, within_ms, id } => {
                tokio::spawn(async move { game.join(&player, Duration::from_millis(within_ms), id).await });
            }
            Command::Leave { player, within_ms, id } => {
                tokio::spawn(async move {
                    game.leave(&player, Duration::from_millis(within_ms), Some(id)).await;
                });
            }
            Command::KeepSaving { every_ms } => {
                tokio::spawn(async move { game.keep_saving(Duration::from_millis(every_ms)).await });
            }
            Command::Put { name, op, size } => self.worlds.put(&name, op, size),
            Command::OpenWorld { world, id } => {
                tokio::spawn(async move { game.worlds.take(&world, Some(id)).await });
            }
            Command::ShowWorld { id } => {
                tokio::spawn(async move { game.worlds.show(Some(id)).await });
            }
            Command::CloseWorld { within_ms, id } => {
                let within = Duration::from_millis(within_ms);
                tokio::spawn(async move { game.worlds.close(within, Some(id)).await });
            }
            Command::Flush { within_ms, id } => {
                tokio::spawn(async move {
                    let flushed = game.store.flush(None, Duration::from_millis(within_ms)).await;
                    report(&json!({
                        "event": "flushed", "id": id, "saved": flushed.saved, "unsaved": flushed.unsaved,
                        "journalled": flushed.journalled, "conflicted": flushed.conflicted,
                    }));
                });
            }
        }
    }

    /// Does what a game does when the store has news.
    pub async fn react(self: Arc<Self>, mut news: UnboundedReceiver<Event>) {
        while let Some(event) = news.recv().await {
            let game = Arc::clone(&self);
            match event {
                Event::PlayerWanted { player_id } => {
                    self.final_state(&player_id);
                    tokio::spawn(async move { game.leave(&player_id, LET_GO, None).await });
                }
                // The player plays elsewhere: out with what we know of them.
                Event::LeaseLost { player_id } => {
                    tokio::spawn(async move { game.leave(&player_id, LET_GO, None).await });
                }
                Event::ConflictFound(conflict) if self.on_conflict != OnConflict::Keep => {
                    tokio::spawn(async move { game.resolve(conflict).await });
                }
                _ => {}
            }
        }
    }

    /// Final saves, then everything is sent, leases are let go, the server leaves the list. Returns what is left.
    pub async fn shut_down(&self, registration: &Registration, grace: Duration) -> usize {
        report(&json!({ "event": "stopping" }));
        let (flushed, ()) = tokio::join!(self.store.release_all(grace), self.worlds.close(grace, None));
        report(&json!({
            "event": "stopped", "saved": flushed.saved, "unsaved": flushed.unsaved, "journalled": flushed.journalled,
            "conflicted": flushed.conflicted,
        }));
        let deregistered = tokio::time::timeout(grace / 2, registration.deregister()).await;
        if matches!(deregistered, Ok(Ok(()))) {
            report(&json!({ "event": "deregistered" }));
        } else {
            report(&json!({ "event": "registration", "news": "not deregistered" }));
        }
        flushed.unsaved
    }

    async fn join(&self, player: &str, within: Duration, id: u64) {
        report(&json!({ "event": "joining", "join": id, "player": player }));
        let until = Instant::now() + within;
        let mut loaded = self.store.load(player, within).await;
        // A game that has just started lets nobody in before it is registered.
        while loaded.as_ref().is_err_and(|error| error.code() == "not_registered") && Instant::now() < until {
            tokio::time::sleep(NOT_YET).await;
            loaded = self.store.load(player, until.saturating_duration_since(Instant::now())).await;
        }
        match loaded {
            Ok(documents) => {
                self.present().insert(player.to_owned());
                self.ledger.open().forget(player);
                let seen: Map<String, Value> = documents
                    .iter()
                    .map(|(key, seen)| {
                        let op = seen.content.get("op").cloned().unwrap_or_default();
                        (key.clone(), json!({ "op": op, "version": seen.version }))
                    })
                    .collect();
                report(&json!({ "event": "loaded", "id": id, "player": player, "documents": seen }));
            }
            Err(error) => {
                let (code, message) = (error.code(), error.to_string());
                report(
                    &json!({ "event": "load_failed", "id": id, "player": player, "code": code, "error": message }),
                );
            }
        }
    }

    async fn leave(&self, player: &str, within: Duration, id: Option<u64>) {
        self.present().remove(player);
        let leave = self.ledger.open().own_op();
        report(&json!({ "event": "leaving", "leave": leave, "player": player }));
        let released = self.store.release(player, within).await;
        report(&json!({
            "event": "released", "id": id, "leave": leave, "player": player, "saved": released.saved, "unsaved": released.unsaved,
            "journalled": released.journalled, "conflicted": released.conflicted,
        }));
    }

    /// Saves everybody who plays, as a game does that saves with each tick and knows of no end.
    async fn keep_saving(&self, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            let present: Vec<String> = self.present().iter().cloned().collect();
            for player in present {
                let mut entries = self.ledger.open();
                let op = entries.own_op();
                self.save(&mut entries, &player, "purse", op, 0, false);
            }
        }
    }

    fn present(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last thing a game saves for a player who has to go.
    fn final_state(&self, player: &str) {
        let mut entries = self.ledger.open();
        for key in ["purse", "place"] {
            if self.store.document(player, key).is_some() {
                let op = entries.own_op();
                self.save(&mut entries, player, key, op, 0, false);
            }
        }
    }

    /// Saves `op`, built on what the server knows. The ledger is open: nobody else saves in between, and the store's
    /// acknowledgement is told after the operation is entered.
    fn save(&self, entries: &mut Entries, player: &str, key: &str, op: i64, pad: usize, patch: bool) {
        let from: Vec<Value> = self.base(player, key).into_iter().collect();
        report(&json!({ "event": "attempted", "player": player, "key": key, "op": op, "from": from }));
        let content = content(op, &from, pad);
        let saved = if patch {
            self.store.merge_patch(player, key, &content)
        } else {
            self.store.save(player, key, content)
        };
        match saved {
            Ok(revision) => {
                entries.enter(player, key, revision, op);
                report(&json!({
                    "event": "accepted", "player": player, "key": key, "op": op, "generation": revision,
                }));
            }
            Err(error) => {
                report(
                    &json!({ "event": "refused", "player": player, "key": key, "op": op, "code": error.code() }),
                );
            }
        }
    }

    /// The operation whose content the server has.
    fn base(&self, player: &str, key: &str) -> Option<Value> {
        self.store.document(player, key)?.get("op").cloned()
    }

    async fn resolve(&self, conflict: Conflict) {
        let (player, key) = (conflict.player_id.as_str(), conflict.key.as_str());
        let theirs = conflict.value.get("op").cloned();
        let merged = {
            // Nobody saves in between, and no acknowledgement is told before the operation is entered.
            let mut entries = self.ledger.open();
            if self.on_conflict == OnConflict::Merge {
                let from: Vec<Value> = self.base(player, key).into_iter().chain(theirs.clone()).collect();
                let op = entries.own_op();
                report(
                    &json!({ "event": "attempted", "player": player, "key": key, "op": op, "from": from }),
                );
                let merged = self.store.merge(&conflict, Resolution::Value(content(op, &from, 0)));
                if let Ok(Some(revision)) = merged {
                    entries.enter(player, key, revision, op);
                }
                merged
            } else {
                self.store.merge(&conflict, Resolution::Ours)
            }
        };
        let resolved = match merged {
            Ok(change) => self.store.settle(&conflict, change).await,
            Err(error) => Err(error),
        };
        report(&json!({
            "event": "resolved", "player": player, "key": key, "op": theirs,
            "error": resolved.err().map(|error| error.code().to_owned()),
        }));
    }
}

fn content(op: i64, from: &[Value], pad: usize) -> Content {
    let mut content = Content::new();
    content.insert("op".to_owned(), op.into());
    content.insert("from".to_owned(), from.to_vec().into());
    content.insert("pad".to_owned(), "x".repeat(pad).into());
    content
}
