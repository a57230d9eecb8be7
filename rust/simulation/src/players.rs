//! Players who come, play and go, and the games that save for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::checker::Invariant;
use super::cluster::{Cluster, Process};
use backend_client::error::ClientError;
use backend_client::player_store::{Flushed, Resolution};
use backend_client::protocol::player_store::Conflict;
use backend_client::test_util::epoch_of;

const KEYS: [&str; 2] = ["progress", "inventory"];

/// One person, until the run is over: joins some server, plays, goes, joins the next.
pub async fn live(cluster: Arc<Cluster>, player_id: String) {
    while !cluster.is_over() {
        let pause = cluster.rng().milliseconds(0, 4_000);
        tokio::time::sleep(pause).await;
        let Some(process) = cluster.any_open().filter(|_| !cluster.is_over()) else { continue };
        let (gone, timeout_ms) = {
            let mut rng = cluster.rng();
            let timeout_ms = if rng.chance(300) { 3_000 } else { 60_000 };
            (Arc::new(AtomicBool::new(false)), rng.milliseconds(500, timeout_ms))
        };
        let (left, has_left) = oneshot::channel::<()>();
        let session = Session {
            cluster: Arc::clone(&cluster),
            process: Arc::clone(&process),
            player_id: player_id.clone(),
            gone: Arc::clone(&gone),
        };
        process.visits.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(session.play(left));
        tokio::select! {
            biased;
            // Sent, or dropped with the process: either way it is over here.
            _over = has_left => {}
            () = process.power.off() => {}
            // Closes the game; the server may notice, and may not.
            () = tokio::time::sleep(timeout_ms) => {}
        }
        gone.store(true, Ordering::Relaxed);
    }
}

/// One visit, as the server's game sees it. It goes on for a while when nobody is there any more.
struct Session {
    cluster: Arc<Cluster>,
    process: Arc<Process>,
    player_id: String,
    /// The person has left.
    gone: Arc<AtomicBool>,
}

impl Session {
    async fn play(self, left: oneshot::Sender<()>) {
        if self.load().await {
            let rounds = self.cluster.rng().between(1, 12);
            for _ in 0..rounds {
                if !self.round().await || self.is_told_to_go() {
                    break;
                }
            }
            self.leave().await;
        }
        self.process.visits.fetch_sub(1, Ordering::Relaxed);
        // The person may be gone already.
        let _gone = left.send(());
    }

    async fn load(&self) -> bool {
        let within = self.cluster.rng().milliseconds(100, 40_000);
        let store = &self.process.store;
        let loaded = self.process.bounded("load", within, store.load(&self.player_id, within)).await;
        match (loaded, epoch_of(store, &self.player_id)) {
            (Ok(snapshots), Some(epoch)) => {
                self.cluster.checker.loaded(self.process.number, &self.player_id, epoch, &snapshots);
                true
            }
            // Let go again by another visit before this one could look.
            (Ok(_), None) => false,
            (Err(_), _) => {
                self.process.clock.sleep(Duration::from_millis(500)).await;
                false
            }
        }
    }

    /// A while of play, and a save. False when the player is not held here any more.
    async fn round(&self) -> bool {
        let pause = {
            let mut rng = self.cluster.rng();
            let longest = if rng.chance(500) { 50 } else { 5_000 };
            rng.milliseconds(0, longest)
        };
        self.process.clock.sleep(pause).await;
        self.merge().await;
        let saves = self.cluster.rng().between(1, 3);
        for _ in 0..saves {
            if !save(&self.cluster, &self.process, &self.player_id) {
                return false;
            }
        }
        let (what, within) = {
            let mut rng = self.cluster.rng();
            (rng.below(10), rng.milliseconds(1, 20_000))
        };
        match what {
            0 => self.flush(Some(&self.player_id), within).await,
            1 => self.flush(None, within).await,
            2 => {
                // What is saved while it waits is none of its business.
                let newest = self.cluster.checker.newest();
                let flush = self.process.store.flush_local(within);
                let left = self.process.bounded("flush_local", within, flush).await;
                let promise = if left == 0 { Invariant::Durable } else { Invariant::Nothing };
                self.promised(None, promise, newest);
            }
            _ => {}
        }
        true
    }

    async fn flush(&self, player_id: Option<&str>, within: Duration) {
        let newest = self.cluster.checker.newest();
        let flush = self.process.store.flush(player_id, within);
        let Flushed { unsaved, journalled, .. } = self.process.bounded("flush", within, flush).await;
        self.promised(player_id, Invariant::of(unsaved, journalled), newest);
    }

    fn promised(&self, player_id: Option<&str>, promise: Invariant, newest: usize) {
        let disk = &self.cluster.disks[self.process.machine];
        self.cluster.checker.flushed(self.process.number, player_id, disk, (promise, newest));
    }

    fn is_told_to_go(&self) -> bool {
        let noticed = self.gone.load(Ordering::Relaxed) && self.cluster.rng().chance(500);
        noticed || self.process.is_leaving() || self.cluster.is_over()
    }

    /// Mostly the server knows that somebody leaves; else it holds the player until somebody asks.
    async fn leave(&self) {
        let (orderly, within) = {
            let mut rng = self.cluster.rng();
            (rng.chance(750), rng.milliseconds(1, 20_000))
        };
        if orderly {
            let newest = self.cluster.checker.newest();
            let release = self.process.store.release(&self.player_id, within);
            let Flushed { unsaved, journalled, .. } = self.process.bounded("release", within, release).await;
            self.promised(Some(&self.player_id), Invariant::of(unsaved, journalled), newest);
        }
    }

    /// Deals with the conflicts that were told, in one of the ways there are.
    async fn merge(&self) {
        let mine = {
            let mut told = self.process.conflicts.lock().expect("not poisoned");
            let mine = told.iter().position(|conflict| conflict.player_id == self.player_id);
            mine.map(|at| told.remove(at))
        };
        let Some(conflict) = mine else { return };
        if self.cluster.rng().chance(300) {
            // Dropped: it is told again with the next load.
            return;
        }
        let Ok(merged) = merge_one(&self.cluster, &self.process, &conflict) else { return };
        let within = Duration::from_secs(40);
        let settle = self.process.store.settle(&conflict, merged);
        if self.process.bounded("settle", within, settle).await.is_ok() {
            self.cluster.trace.note("merged", self.process.number, &self.player_id, &[]);
        }
    }
}

/// The game's answer to a conflict: the change it made, if it made one. `Err` when the player is not held any more.
fn merge_one(cluster: &Cluster, process: &Process, conflict: &Conflict) -> Result<Option<u64>, ClientError> {
    if cluster.rng().chance(300) {
        cluster.checker.merging(conflict, None);
        return process.store.merge(conflict, Resolution::Ours);
    }
    let epoch = epoch_of(&process.store, &conflict.player_id);
    let (number, content) = cluster.checker.content();
    let merged = process.store.merge(conflict, Resolution::Value(content))?;
    if let (Some(epoch), Some(revision)) = (epoch, merged) {
        let Conflict { player_id, key, .. } = conflict;
        cluster.checker.accepted(process.number, player_id, key, epoch, (revision, number));
        cluster.checker.merging(conflict, Some(number));
    }
    Ok(merged)
}

/// Saves one document of a player; false if the store does not take it.
pub fn save(cluster: &Cluster, process: &Process, player_id: &str) -> bool {
    let Some(epoch) = epoch_of(&process.store, player_id) else { return false };
    let Some(key) = cluster.rng().one_of(&KEYS).copied() else { return false };
    let (number, content) = cluster.checker.content();
    let Ok(revision) = process.store.save(player_id, key, content) else { return false };
    cluster.checker.accepted(process.number, player_id, key, epoch, (revision, number));
    true
}
