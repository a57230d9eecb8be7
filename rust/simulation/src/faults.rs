//! What goes wrong, one thing after another, and several at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cluster::{Cluster, Process};
use super::{DiskTrouble, leaving};

/// Time between two sweeps of the backend.
const SWEEP: Duration = Duration::from_secs(60);

/// Keeps a machine's server running: whoever ends is started again, mostly soon.
pub async fn supervise(cluster: Arc<Cluster>, machine: usize) {
    loop {
        let running = cluster.living().into_iter().find(|process| process.machine == machine);
        let process = running.unwrap_or_else(|| cluster.start(machine));
        process.power.off().await;
        let pause = {
            let mut rng = cluster.rng();
            let longest = if cluster.is_over() {
                10
            } else if rng.chance(200) {
                100_000
            } else {
                3_000
            };
            rng.milliseconds(1, longest)
        };
        tokio::time::sleep(pause).await;
    }
}

/// Faults until the run is over. Each heals by itself.
pub async fn happen(cluster: Arc<Cluster>) {
    let longest = {
        let mut rng = cluster.rng();
        if rng.chance(100) { 1_000_000 } else { rng.between(2_000, 30_000) }
    };
    loop {
        let pause = cluster.rng().milliseconds(10, longest);
        tokio::time::sleep(pause).await;
        if cluster.is_over() {
            return;
        }
        one(&cluster);
    }
}

fn one(cluster: &Arc<Cluster>) {
    let (kind, machine, short, long) = {
        let mut rng = cluster.rng();
        let machine = rng.below(u64::try_from(cluster.disks.len()).unwrap_or(1));
        let machine = usize::try_from(machine).unwrap_or(0);
        (rng.below(15), machine, rng.milliseconds(10, 5_000), rng.milliseconds(1_000, 150_000))
    };
    let living: Vec<Arc<Process>> =
        cluster.living().into_iter().filter(|process| process.machine == machine).collect();
    let Some(process) = cluster.rng().one_of(&living).cloned() else { return };
    let fault = |what| cluster.trace.fault(what, process.number, "");
    match kind {
        0 | 1 => {
            fault("kill");
            process.power.cut();
        }
        2 => {
            fault("freeze");
            tokio::spawn(freeze(process, short));
        }
        3 => {
            fault("freeze past the lease");
            tokio::spawn(freeze(process, long));
        }
        4 => {
            fault("partition");
            cluster.weather().cut_off.insert(machine);
            heal(cluster, long, move |cluster| {
                cluster.weather().cut_off.remove(&machine);
            });
        }
        5 => {
            fault("backend restart");
            {
                let mut weather = cluster.weather();
                weather.backend_is_up = false;
                weather.backend_run += 1;
            }
            heal(cluster, short, Cluster::raise_backend);
        }
        6 => {
            fault("backend outage");
            cluster.weather().backend_is_up = false;
            heal(cluster, long, Cluster::raise_backend);
        }
        7 => {
            fault("registry lost");
            cluster.backend.state.lock().expect("not poisoned").forgotten = true;
        }
        8 => {
            fault("shutdown");
            tokio::spawn(leaving::leave(Arc::clone(cluster), process));
        }
        9 => {
            fault("deploy");
            process.leaving.store(true, Ordering::Relaxed);
            cluster.start(machine);
            tokio::spawn(leaving::leave(Arc::clone(cluster), process));
        }
        10 => {
            let trouble = match cluster.rng().below(3) {
                0 => DiskTrouble::Full,
                1 => DiskTrouble::ReadOnly,
                _ => DiskTrouble::Io,
            };
            fault(match trouble {
                DiskTrouble::Full => "disk full",
                DiskTrouble::ReadOnly => "disk read-only",
                DiskTrouble::Io => "disk errors",
            });
            cluster.disks[machine].lock().trouble = Some(trouble);
            let lasts = if cluster.rng().chance(700) { short } else { long };
            heal(cluster, lasts, move |cluster| cluster.disks[machine].lock().trouble = None);
        }
        12..=14 => setback(cluster, kind, &process, (short, long)),
        _ => {
            fault("failed sync");
            let (writes, done) = {
                let mut rng = cluster.rng();
                (rng.between(1, 10), rng.chance(500))
            };
            cluster.disks[machine].lock().fail_write = Some((usize::try_from(writes).unwrap_or(1), done));
        }
    }
}

/// What only some runs have.
fn setback(cluster: &Arc<Cluster>, kind: u64, process: &Process, (short, long): (Duration, Duration)) {
    let machine = process.machine;
    let fault = |what| cluster.trace.fault(what, process.number, "");
    match kind {
        12 if cluster.setbacks.database => {
            fault("database copied");
            let copy = cluster.copy_database();
            let restarts = cluster.rng().chance(500);
            let later = if cluster.rng().chance(500) { short } else { long };
            heal(cluster, later, move |cluster| {
                if !cluster.is_over() {
                    let what = if restarts { "database restored" } else { "older database takes over" };
                    cluster.trace.fault(what, 0, "");
                    cluster.go_back(copy, restarts);
                }
            });
        }
        13 if cluster.setbacks.clock => set_clock(cluster),
        14 if cluster.setbacks.journals => {
            fault("kill");
            process.power.cut();
            heal(cluster, Duration::from_millis(1), move |cluster| {
                if let Some(damage) = cluster.disks[machine].damage() {
                    cluster.trace.fault(damage.what.name(), machine, "");
                    cluster.checker.damaged(&damage);
                }
            });
        }
        _ => {}
    }
}

/// The backend's clock is set forwards or back. A sweep mends what then lasts too long.
fn set_clock(cluster: &Arc<Cluster>) {
    let (forwards, by) = {
        let mut rng = cluster.rng();
        let longest = if rng.chance(500) { 60_000 } else { 7_200_000 };
        (rng.chance(500), rng.milliseconds(500, longest))
    };
    cluster.trace.fault(if forwards { "clock set forwards" } else { "clock set back" }, 0, "");
    {
        let mut state = cluster.backend.state.lock().expect("not poisoned");
        let ahead = state.clock_ahead;
        state.clock_ahead = if forwards { ahead + by } else { ahead.saturating_sub(by) };
    }
    heal(cluster, SWEEP, |cluster| cluster.backend.state.lock().expect("not poisoned").mend_times());
}

async fn freeze(process: Arc<Process>, lasts: Duration) {
    process.power.freeze();
    tokio::time::sleep(lasts).await;
    process.power.resume();
}

fn heal(cluster: &Arc<Cluster>, after: Duration, work: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        work(&cluster);
    });
}

impl Cluster {
    /// The backend is there, for those who were alive when it went, too.
    fn raise_backend(&self) {
        {
            let mut weather = self.weather();
            if weather.backend_is_up {
                return;
            }
            weather.backend_is_up = true;
        }
        self.backend.state.lock().expect("not poisoned").restarted();
    }

    /// All that was wrong is mended, at once.
    pub fn mend(&self) {
        self.raise_backend();
        {
            let mut weather = self.weather();
            weather.cut_off.clear();
            weather.roughness = 0;
        }
        for disk in &self.disks {
            let mut folder = disk.lock();
            folder.trouble = None;
            folder.fail_write = None;
            folder.roughness = 0;
        }
        self.living().iter().for_each(|process| process.power.resume());
    }
}
