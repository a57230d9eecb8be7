//! Many seeds over all cores, and one line about them: what `cargo xtask sim` runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::test_util::{Failpoint, set_failpoint};
use backend_simulation::{Faults, RunResult, mixed, play};

/// Seeds of a plain run of the tests; each of them is played twice.
const DEFAULT_SEEDS: u64 = 50;
/// Of many seeds every so many is played twice.
const TWICE: u64 = 16;
/// Seeds within which an active failpoint has to be noticed.
const CONTROL: u64 = 500;
/// The same for what only shows in a seed whose database goes back before its last save of a document.
const RARE_CONTROL: u64 = 2_000;
/// Failing seeds after which the rest is not played: something is broken at large.
const MAX_FAILURES: usize = 20;
/// Stack of a thread that plays: unoptimised futures are large.
const STACK: usize = 8 * 1024 * 1024;

/// What is to be played.
#[derive(Clone, Copy)]
struct Order {
    first: u64,
    seeds: u64,
    jobs: u64,
    /// Every so many seeds is played twice.
    twice: u64,
    /// Failing seeds after which the rest is not played.
    max_failures: usize,
    failpoint: Option<Failpoint>,
    /// Prints everything that happens.
    aloud: bool,
}

/// All runs together.
#[derive(Default)]
struct Sum {
    hash: u64,
    played: u64,
    twice: u64,
    events: u64,
    saves: u64,
    acknowledged: u64,
    conflicts: u64,
    merges: u64,
    simulated: Duration,
    faults: Faults,
    /// Seed → what it did wrong.
    failures: BTreeMap<u64, String>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &RunResult) {
        // In whatever order the seeds come.
        self.hash = self.hash.wrapping_add(mixed(outcome.hash ^ mixed(seed)));
        self.played += 1;
        self.events += outcome.events;
        self.saves += outcome.tally.saves;
        self.acknowledged += outcome.tally.acknowledged;
        self.conflicts += outcome.tally.conflicts;
        self.merges += outcome.tally.merges;
        self.simulated += outcome.simulated;
        for (kind, count) in &outcome.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }

    fn line(&self, order: Order) -> String {
        let verdict = if self.failures.is_empty() { "PASS" } else { "FAIL" };
        let hours = self.simulated.as_secs_f64() / 3_600.0;
        let mut line = format!(
            "sim: {verdict} seeds={} first={} twice={} simulated_hours={hours:.1} events={} saves={} \
             acknowledged={} conflicts={} merges={}",
            self.played,
            order.first,
            self.twice,
            self.events,
            self.saves,
            self.acknowledged,
            self.conflicts,
            self.merges,
        );
        for (kind, count) in &self.faults {
            // Writing into a String cannot fail.
            let _infallible = write!(line, " {}={count}", kind.replace(' ', "_"));
        }
        let _infallible = write!(line, " hash={:016x}", self.hash);
        line
    }
}

fn play_all(order: Order) -> Sum {
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let sum = Arc::new(Mutex::new(Sum::default()));
    let players: Vec<_> = (0..order.jobs)
        .map(|_| {
            let (next, stop, sum) = (Arc::clone(&next), Arc::clone(&stop), Arc::clone(&sum));
            let work = move || {
                set_failpoint(order.failpoint);
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= order.seeds {
                        return;
                    }
                    if !play_one(order, order.first + number, &sum) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            };
            std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread")
        })
        .collect();
    for player in players {
        player.join().expect("played");
    }
    Arc::into_inner(sum).expect("all have ended").into_inner().expect("not poisoned")
}

/// Whether to go on.
fn play_one(order: Order, seed: u64, sum: &Mutex<Sum>) -> bool {
    let outcome = play(seed, order.aloud, order.aloud);
    let twice = seed.is_multiple_of(order.twice);
    let again = twice.then(|| play(seed, false, false).hash);
    let failure = outcome.failure.clone().or_else(|| {
        let again = again.filter(|again| *again != outcome.hash)?;
        Some(format!("two runs of the seed differ: {:016x} and {again:016x}", outcome.hash))
    });
    let mut sum = sum.lock().expect("not poisoned");
    sum.add(seed, &outcome);
    sum.twice += u64::from(twice);
    if let Some(failure) = failure {
        sum.failures.insert(seed, failure);
    }
    sum.failures.len() < order.max_failures
}

/// A number that `cargo xtask sim` gives.
fn given(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_the_promises_and_is_repeatable() {
    let seeds = given("SIM_SEEDS");
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let order = Order {
        first: given("SIM_SEED").unwrap_or(0),
        seeds: seeds.unwrap_or(DEFAULT_SEEDS),
        jobs: given("SIM_JOBS").unwrap_or(cores),
        twice: if seeds.is_some() { TWICE } else { 1 },
        max_failures: MAX_FAILURES,
        failpoint: None,
        aloud: given("SIM_TRACE").is_some(),
    };
    let sum = play_all(order);
    for (number, (seed, failure)) in sum.failures.iter().enumerate() {
        if number == 0 && !order.aloud {
            play(*seed, true, false).lines.iter().for_each(|line| println!("{line}"));
        }
        println!("seed {seed}: {failure}");
        println!("replay it: cargo xtask sim --seed {seed} --seeds 1 --trace");
    }
    println!("{}", sum.line(order));
    assert!(sum.failures.is_empty(), "{:?}", sum.failures);
}

/// Seeds that have shown faults around restored backups; what each has shown is in the list of bugs that were found.
const HAVE_SHOWN_FAULTS: [u64; 26] = [
    7_002_741, 7_019_114, 7_047_843, 7_075_601, 7_105_325, 7_177_140, 7_202_310, 7_252_075, 7_276_375,
    8_245_192, 8_245_580, 8_279_179, 8_336_710, 8_381_908, 8_555_456, 8_624_421, 8_660_661, 8_745_980,
    8_755_074, 10_070_094, 10_119_568, 11_121_361, 12_053_404, 12_132_995, 12_261_873, 12_310_108,
];

#[test]
fn seeds_that_have_shown_faults_keep_the_promises() {
    for first in HAVE_SHOWN_FAULTS {
        let order = Order {
            first,
            seeds: 1,
            jobs: 1,
            twice: u64::MAX,
            max_failures: 1,
            failpoint: None,
            aloud: false,
        };
        assert_eq!(play_all(order).failures, BTreeMap::new());
    }
}

/// Fails unless the fault is noticed within so many seeds.
fn notices(failpoint: Failpoint, seeds: u64) {
    let order = Order {
        first: 0,
        seeds,
        jobs: 1,
        twice: u64::MAX,
        max_failures: 1,
        failpoint: Some(failpoint),
        aloud: false,
    };
    let sum = play_all(order);
    assert!(!sum.failures.is_empty(), "{failpoint:?} was not noticed in {seeds} seeds");
    println!("control {failpoint:?}: noticed, {:?}", sum.failures);
}

#[test]
fn an_early_acknowledgement_is_noticed() {
    notices(Failpoint::EarlyAck, CONTROL);
}

#[test]
fn a_repetition_under_a_fresh_number_is_noticed() {
    notices(Failpoint::FreshSequence, CONTROL);
}

#[test]
fn a_database_that_went_back_for_good_is_noticed() {
    notices(Failpoint::NoResend, RARE_CONTROL);
}
