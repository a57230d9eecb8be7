//! One run: some machines, some players, faults for a while, and then everything has to come to rest in good order.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use backend_protocol::Code;

use super::checker::Tally;
use super::cluster::{Cluster, Process};
use super::trace::Faults;
use super::{Rng, SimulatedDisk, Trace, faults, players};
use backend_client::test_util;

/// Longest time until all is at rest once nothing goes wrong any more.
const QUIET_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Simulated time after which a run has not come to its end: several of the above.
const RUN_TIMEOUT: Duration = QUIET_TIMEOUT.saturating_mul(12);
/// Looks between which nothing may get lost.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

thread_local! {
    /// Panics in this thread: the runtime keeps those of its tasks to itself.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// What a run came to.
pub struct RunResult {
    pub hash: u64,
    pub events: u64,
    pub simulated: Duration,
    pub faults: Faults,
    pub tally: Tally,
    pub failure: Option<String>,
    /// The last lines of the trace, if they were kept.
    pub lines: Vec<String>,
}

/// Plays a seed. `with_lines` keeps its trace for a person, `aloud` prints it as it comes.
pub fn play(seed: u64, with_lines: bool, aloud: bool) -> RunResult {
    count_panics();
    let mut rng = Rng::new(!seed);
    test_util::draw_from(Some(Box::new(move || rng.draw())));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let mut outcome = runtime.block_on(async {
        let trace = Trace::new(with_lines, aloud);
        let cluster = Cluster::new(seed, Arc::clone(&trace));
        if tokio::time::timeout(RUN_TIMEOUT, run(&cluster)).await.is_err() {
            trace.fail(|| format!("it never ends: {:?}", unrest(&cluster)));
        }
        let mut faults = trace.faults();
        let failed: u64 = cluster.disks.iter().map(|disk| disk.lock().failed).sum();
        faults.insert("disk write failed", failed);
        RunResult {
            hash: trace.hash(),
            events: trace.events(),
            simulated: trace.elapsed(),
            faults,
            tally: cluster.checker.tally(),
            failure: trace.failure(),
            lines: trace.lines(),
        }
    });
    drop(runtime);
    test_util::draw_from(None);
    if PANICS.get() > 0 {
        outcome.failure.get_or_insert_with(|| "a task panicked".to_owned());
    }
    outcome
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
    PANICS.set(0);
}

async fn run(cluster: &Arc<Cluster>) {
    let (players, lasts) = {
        let mut rng = cluster.rng();
        (rng.between(1, 4), rng.milliseconds(5_000, 120_000))
    };
    for machine in 0..cluster.disks.len() {
        tokio::spawn(faults::supervise(Arc::clone(cluster), machine));
    }
    for number in 1..=players {
        tokio::spawn(players::live(Arc::clone(cluster), format!("p{number}")));
    }
    tokio::spawn(faults::happen(Arc::clone(cluster)));
    let look = async {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            cluster.checker.nothing_acknowledged_is_lost();
        }
    };
    tokio::select! {
        biased;
        () = tokio::time::sleep(lasts) => {}
        () = look => {}
    }
    cluster.end();
    settle(cluster, players).await;
    cluster.checker.nothing_acknowledged_is_lost();
    cluster.checker.everything_arrived();
    cluster.checker.everything_was_brought_back();
}

/// Nothing goes wrong any more: everything arrives, every player can be loaded, and everybody is let go.
async fn settle(cluster: &Arc<Cluster>, players: u64) {
    cluster.trace.note("mended", 0, "", &[]);
    let rest = async {
        loop {
            // Faults that have begun already go on beginning for a while.
            cluster.mend();
            if unrest(cluster).is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    if tokio::time::timeout(QUIET_TIMEOUT, rest).await.is_err() {
        return cluster.trace.fail(|| format!("it never comes to rest: {:?}", unrest(cluster)));
    }
    for number in 1..=players {
        let player_id = format!("p{number}");
        let Some(process) = cluster.any_open() else {
            return cluster.trace.fail(|| "no server is open".to_owned());
        };
        let mut loaded = process.store.load(&player_id, QUIET_TIMEOUT).await;
        while loaded.as_ref().is_err_and(|error| error.is(Code::ServerUnknown)) && !process.power.is_cut() {
            // The backend does not know the server any more, which does not know that yet.
            tokio::time::sleep(Duration::from_secs(1)).await;
            loaded = process.store.load(&player_id, QUIET_TIMEOUT).await;
        }
        match loaded {
            Ok(snapshots) => {
                let epoch = test_util::epoch_of(&process.store, &player_id).unwrap_or(0);
                cluster.checker.loaded(process.number, &player_id, epoch, &snapshots);
            }
            Err(error) => cluster.trace.fail(|| format!("{player_id} cannot be loaded: {error}")),
        }
    }
    for process in cluster.living() {
        let flushed = process.store.release_all(QUIET_TIMEOUT).await;
        cluster.trace.check(flushed.unsaved == 0, || format!("{flushed:?} at the end"));
        // A backend that went back may have said so only now: then everything is sent once more.
        let nothing_left = async {
            while process.store.backlog().bytes > 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let _in_time = tokio::time::timeout(QUIET_TIMEOUT, nothing_left).await;
        let backlog = process.store.backlog();
        cluster.trace.check(backlog.bytes == 0 && process.store.player_count() == 0, || {
            format!("process {} still has {backlog:?}", process.number)
        });
    }
}

/// What is still going on: a machine without a server, somebody on the way, something unsent.
fn unrest(cluster: &Cluster) -> Option<String> {
    let living = cluster.living();
    let serves = |machine, process: &Arc<Process>| process.machine == machine && !process.is_leaving();
    let idle =
        (0..cluster.disks.len()).find(|machine| !living.iter().any(|process| serves(*machine, process)));
    if let Some(machine) = idle {
        return Some(format!("machine {machine} has no server"));
    }
    if let Some(saves) = cluster.disks.iter().map(SimulatedDisk::saves).find(|saves| !saves.is_empty()) {
        return Some(format!("a journal still has {saves:?}"));
    }
    if let Some(damage) = cluster.checker.unreported() {
        return Some(format!("nobody was told of damage {damage}"));
    }
    living.iter().find_map(|process| {
        let (visits, unsent) = (process.visits.load(Ordering::Relaxed), process.store.pending_count());
        let settled = process.registration.server_id().is_some() && !process.store.is_recovering();
        let busy = visits > 0 || unsent > 0 || process.is_leaving() || !settled;
        busy.then(|| {
            let leaving = process.is_leaving();
            format!("process {}: {visits} visits, {unsent} unsent, leaving {leaving}", process.number)
        })
    })
}
