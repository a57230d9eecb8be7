//! The store under faults: what was saved arrives, once, whatever network, disk and process do.

mod disk_faults;
mod handover;
mod late_answers;
mod moving_target;
mod network_faults;
mod refusals;
mod rollback;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::Backend;
use backend_client::error::ClientError;
use backend_client::journal::JournalSource;
use backend_client::platform::clock::Clock;
use backend_client::player_store::*;
use backend_client::registration::{Registration, ServerDescription};
use backend_protocol::limits;
use backend_simulation::{
    Power, ProcessClock, ProcessDisk, Rng, SimulatedBackend, SimulatedDisk, server_key,
};
use serde_json::{Value, json};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(600);

/// A running server process.
struct Server {
    store: PlayerStore,
    registration: Registration,
    news: Arc<Mutex<Vec<Event>>>,
    power: Arc<Power>,
    disk: SimulatedDisk,
    process: Arc<ProcessDisk>,
}

impl Server {
    /// Registered and beating.
    async fn start(backend: &Arc<SimulatedBackend>, disk: &SimulatedDisk) -> Self {
        let server = Self::unregistered(backend, disk);
        while server.registration.register(description()).await.is_err() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        server
    }

    /// A process that has just begun.
    fn unregistered(backend: &Arc<SimulatedBackend>, disk: &SimulatedDisk) -> Self {
        let power = Power::new();
        let clock: Arc<dyn Clock> = Arc::new(ProcessClock(Arc::clone(&power)));
        let backend: Arc<dyn Backend> = backend.clone();
        let registration = Registration::new(
            Arc::clone(&backend),
            Arc::clone(&clock),
            server_key(),
            // Nobody turns a main loop here.
            Duration::MAX,
            Arc::new(|_| {}),
        );
        let process = disk.process(&power);
        let news = Arc::new(Mutex::new(Vec::new()));
        let (heard, alive) = (Arc::clone(&news), Arc::clone(&power));
        let store = PlayerStore::new(Setup {
            backend,
            clock,
            registration: registration.clone(),
            journal: process.clone(),
            pace: Pace::default(),
            on_event: Arc::new(move |event| {
                if alive.is_on() {
                    heard.lock().expect("not poisoned").push(event);
                }
            }),
        });
        Self { store, registration, news, power, disk: disk.clone(), process }
    }

    /// SIGKILL.
    fn crash(self) {
        self.power.cut();
        self.registration.stop();
        self.disk.died(&self.process);
    }

    async fn load(&self, player_id: &str) -> HashMap<String, Snapshot> {
        self.store.load(player_id, LONG).await.expect("loaded")
    }

    fn save(&self, player_id: &str, number: i64) -> u64 {
        self.store.save(player_id, "progress", content(number)).expect("taken")
    }

    fn news(&self) -> Vec<Event> {
        self.news.lock().expect("not poisoned").clone()
    }

    fn heard(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.news().iter().any(wanted)
    }

    /// Generations that were acknowledged locally.
    fn journalled(&self) -> Vec<u64> {
        let saves = |event: Event| match event {
            Event::Journalled(saves) => saves,
            _ => Vec::new(),
        };
        self.news().into_iter().flat_map(saves).map(|save| save.revision).collect()
    }
}

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(Rng::new(1))
}

fn description() -> ServerDescription {
    ServerDescription {
        name: "Pond".into(),
        address: "127.0.0.1".into(),
        port: 1,
        max_players: 2,
        ..ServerDescription::default()
    }
}

fn content(number: i64) -> Content {
    json!({"n": number}).as_object().expect("object").clone()
}

fn stored(backend: &SimulatedBackend, player: &str, key: &str) -> Option<Content> {
    let state = backend.state.lock().expect("not poisoned");
    state.documents.get(&(player.to_owned(), key.to_owned())).map(|stored| stored.document.value.clone())
}

fn number_of(snapshots: &HashMap<String, Snapshot>, key: &str) -> Option<i64> {
    snapshots.get(key)?.content.get("n")?.as_i64()
}

/// Waits for `condition`; an hour of simulated time is as good as for ever.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), wait).await.expect("it never comes");
}

const fn all_saved(saved: usize) -> Flushed {
    Flushed { saved, unsaved: 0, journalled: 0, conflicted: 0, refused: 0 }
}
