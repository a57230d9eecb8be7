//! Machines with their disks, and the server processes that run on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::checker::Copied;
use super::fake_backend::Backup;
use super::network::NetworkConditions;
use super::{
    Checker, Network, Power, ProcessClock, ProcessDisk, Rng, SimulatedBackend, SimulatedDisk, Trace,
    server_key,
};
use backend_client::api::backend::Backend;
use backend_client::platform::clock::Clock;
use backend_client::player_store::{Event, OnEvent, Pace, PlayerStore, Setup};
use backend_client::protocol::player_store::Conflict;
use backend_client::registration;
use backend_client::registration::{Registration, ServerDescription};

/// What a call may take beyond the time it was given: answers that it waits for.
const SLACK: Duration = Duration::from_secs(90);

/// All of one run.
pub struct Cluster {
    pub trace: Arc<Trace>,
    pub checker: Arc<Checker>,
    pub backend: Arc<SimulatedBackend>,
    pub weather: Arc<Mutex<NetworkConditions>>,
    pub disks: Vec<SimulatedDisk>,
    pub setbacks: Setbacks,
    /// Living processes by number.
    living: Mutex<BTreeMap<usize, Arc<Process>>>,
    rng: Mutex<Rng>,
    processes: AtomicUsize,
    over: AtomicBool,
}

/// Which faults a run has that not every run has: what they excuse, the others must not need.
pub struct Setbacks {
    /// The database goes back to what it was.
    pub database: bool,
    /// The backend's clock is set.
    pub clock: bool,
    /// Journals are damaged between a crash and the next start.
    pub journals: bool,
}

/// A running server.
pub struct Process {
    pub number: usize,
    pub machine: usize,
    pub power: Arc<Power>,
    pub clock: Arc<dyn Clock>,
    pub store: PlayerStore,
    pub registration: Registration,
    /// On its way out: takes nobody in.
    pub leaving: AtomicBool,
    /// Games that play for somebody.
    pub visits: AtomicUsize,
    /// Told, and not dealt with.
    pub conflicts: Arc<Mutex<Vec<Conflict>>>,
    trace: Arc<Trace>,
    files: Arc<ProcessDisk>,
}

impl Cluster {
    pub fn new(seed: u64, trace: Arc<Trace>) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let machines = rng.between(1, 3);
        let setbacks =
            Setbacks { database: rng.chance(300), clock: rng.chance(300), journals: rng.chance(300) };
        let disks: Vec<SimulatedDisk> = (0..machines).map(|_| SimulatedDisk::new(rng.another())).collect();
        for (first, disk) in (0..).step_by(1_000_000).zip(&disks) {
            let mut folder = disk.lock();
            folder.damages = first;
            folder.remembered = if setbacks.journals { 3 } else { 0 };
            folder.roughness = if rng.chance(400) { rng.between(1, 60) } else { 0 };
            let slowest = if rng.chance(200) { 800 } else { 12 };
            folder.write_takes = (1, rng.between(2, slowest));
        }
        let backend = SimulatedBackend::new();
        {
            let mut state = backend.state.lock().expect("not poisoned");
            // Far enough from where it began to be set back.
            state.clock_ahead = Duration::from_secs(30 * 24 * 3_600);
            state.lease = Duration::from_secs(rng.between(10, 60));
            state.heartbeat_seconds = u32::try_from(rng.between(3, 9)).unwrap_or(5);
        }
        let weather = NetworkConditions {
            rng: rng.another(),
            roughness: if rng.chance(800) { rng.between(1, 300) } else { 0 },
            cut_off: std::collections::BTreeSet::new(),
            backend_is_up: true,
            backend_run: 0,
        };
        Arc::new(Self {
            checker: Checker::new(Arc::clone(&trace), disks.clone()),
            trace,
            backend,
            weather: Arc::new(Mutex::new(weather)),
            disks,
            setbacks,
            living: Mutex::default(),
            rng: Mutex::new(rng),
            processes: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })
    }

    pub fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().expect("not poisoned")
    }

    pub fn weather(&self) -> MutexGuard<'_, NetworkConditions> {
        self.weather.lock().expect("not poisoned")
    }

    pub fn living(&self) -> Vec<Arc<Process>> {
        self.living.lock().expect("not poisoned").values().cloned().collect()
    }

    /// A process that players may join.
    pub fn any_open(&self) -> Option<Arc<Process>> {
        let open: Vec<Arc<Process>> =
            self.living().into_iter().filter(|process| !process.leaving.load(Ordering::Relaxed)).collect();
        self.rng().one_of(&open).cloned()
    }

    /// A copy of the backend's database.
    pub fn copy_database(&self) -> (Backup, Copied) {
        let state = self.backend.state.lock().expect("not poisoned");
        (state.back_up(), self.checker.copy())
    }

    /// The database is what it was when it was copied: a backup is restored, or, while the backend goes on, another copy takes
    /// over.
    pub fn go_back(&self, (backup, copied): (Backup, Copied), restarts: bool) {
        if restarts {
            self.weather().backend_run += 1;
        }
        let mut state = self.backend.state.lock().expect("not poisoned");
        if restarts {
            state.restore(backup);
        } else {
            state.go_back(backup);
        }
        self.checker.went_back(&copied, &state);
    }

    /// From now on nothing new is begun.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Starts a process on a machine; it registers by itself.
    pub fn start(self: &Arc<Self>, machine: usize) -> Arc<Process> {
        let number = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
        self.trace.note("started", number, "", &[i64::try_from(machine).unwrap_or(0)]);
        let power = Power::new();
        let clock: Arc<dyn Clock> = Arc::new(ProcessClock(Arc::clone(&power)));
        let line = Network {
            number: machine,
            power: Arc::clone(&power),
            weather: Arc::clone(&self.weather),
            trace: Arc::clone(&self.trace),
            checker: Arc::clone(&self.checker),
        };
        let backend: Arc<dyn Backend> = self.backend.through(line);
        let checker = Arc::clone(&self.checker);
        let listed = Arc::new(move |event| {
            if let registration::Event::Registered(server_id) = event {
                checker.registered(number, &server_id);
            }
        });
        let registration =
            Registration::new(Arc::clone(&backend), Arc::clone(&clock), server_key(), Duration::MAX, listed);
        let disk = &self.disks[machine];
        let files = disk.process(&power);
        let conflicts: Arc<Mutex<Vec<Conflict>>> = Arc::default();
        let store = PlayerStore::new(Setup {
            backend,
            clock: Arc::clone(&clock),
            registration: registration.clone(),
            journal: files.clone(),
            pace: Pace::default(),
            on_event: self.listener(number, machine, &power, &conflicts),
        });
        let process = Arc::new(Process {
            number,
            machine,
            power,
            clock,
            store,
            registration,
            leaving: AtomicBool::new(false),
            visits: AtomicUsize::new(0),
            conflicts,
            trace: Arc::clone(&self.trace),
            files,
        });
        self.living.lock().expect("not poisoned").insert(number, Arc::clone(&process));
        tokio::spawn(enlist(Arc::clone(&process)));
        tokio::spawn(retire_server(Arc::clone(self), Arc::clone(&process)));
        process
    }

    fn listener(
        &self,
        number: usize,
        machine: usize,
        power: &Arc<Power>,
        conflicts: &Arc<Mutex<Vec<Conflict>>>,
    ) -> OnEvent {
        let (checker, disk) = (Arc::clone(&self.checker), self.disks[machine].clone());
        let (power, conflicts) = (Arc::clone(power), Arc::clone(conflicts));
        Arc::new(move |event| {
            if power.is_cut() {
                return;
            }
            checker.reported(number, &disk, &event);
            if let Event::ConflictFound(conflict) = event {
                conflicts.lock().expect("not poisoned").push(conflict);
            }
        })
    }
}

impl Process {
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Waits for a call of this process, which has to come back while the process runs.
    pub async fn bounded<T>(&self, what: &str, within: Duration, call: impl Future<Output = T>) -> T {
        let mut call = Box::pin(call);
        loop {
            let resumed = self.power.resumed();
            tokio::select! {
                biased;
                done = &mut call => return done,
                () = tokio::time::sleep(within + SLACK) => {}
            }
            let ran = self.power.is_on() && self.power.resumed() == resumed;
            self.trace.check(!ran, || format!("{what} of process {} never returned", self.number));
        }
    }
}

async fn enlist(process: Arc<Process>) {
    let description = ServerDescription {
        name: "Pond".into(),
        address: "127.0.0.1".into(),
        port: 1,
        max_players: 2,
        ..ServerDescription::default()
    };
    while process.registration.register(description.clone()).await.is_err() {
        process.clock.sleep(Duration::from_secs(1)).await;
    }
}

/// What the kernel does with a process that has died, however it came to it.
async fn retire_server(cluster: Arc<Cluster>, process: Arc<Process>) {
    process.power.off().await;
    process.registration.stop();
    cluster.disks[process.machine].died(&process.files);
    cluster.living.lock().expect("not poisoned").remove(&process.number);
    cluster.checker.died(process.number);
}
