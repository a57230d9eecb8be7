//! A token judged with every rule there is, against nothing but the check of its signature by the same library on the
//! same key: what the rules cost, on one core and on all.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::time::{ClockId, clock_gettime};

use crate::Options;
use crate::machine::Machine;
use crate::results::{Report, ratios};
use crate::tokens::{self, CHECKS_PER_TURN, Case, Way};

/// Processor time, not the clock's: what other processes do on the machine is not in it.
const MEASURE: &str = "us_per_token";
/// Of all cores together, by the clock.
const SPEED: &str = "tokens_per_second";

/// How much of everything.
struct Size {
    turns: u32,
    /// How often the contestants take turns on several cores, and how long each time.
    slices: u32,
    slice: Duration,
}

const FULL: Size = Size { turns: 100, slices: 10, slice: Duration::from_millis(30) };
const QUICK: Size = Size { turns: 1, slices: 1, slice: Duration::from_millis(1) };

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let size = if options.quick { QUICK } else { FULL };
    let cases = [tokens::eddsa()?, tokens::es256()?, tokens::rs256()?];
    let mut report = Report::new("validation", Machine::this()?);
    for _ in 0..options.rounds {
        for case in &cases {
            one_core(case, &size, &mut report)?;
            for cores in numbers_of_cores() {
                several_cores(case, cores, &size, &mut report)?;
            }
        }
    }
    for case in &cases {
        judge(case, &mut report);
        let name = case.algorithm.name();
        report.plot(&options.folder, name, name, MEASURE, &format!("One {name} token on one core, in µs"))?;
        let title = format!("{name} tokens judged on several cores");
        let (file, axes) = (format!("{name}-cores"), ("cores", "tokens per second"));
        report.lines(&options.folder, &file, &on_cores(case, ""), SPEED, &title, axes)?;
    }
    report.publish(&options.folder)?;
    Ok(options.quick || report.is_met())
}

fn judge(case: &Case, report: &mut Report) {
    let name = case.algorithm.name();
    for way in case.ways().iter().filter(|way| **way != Way::Bare) {
        let what = format!("{name}: {}, part of the bare check's speed", way.name());
        let times = |way: Way| report.rounds(name, MEASURE, way.name());
        let part = ratios(times(Way::Bare), times(*way));
        report.judge(&what, part, false, case.goal);
        let Some(all) = numbers_of_cores().pop() else { continue };
        let scenario = on_cores(case, &all.to_string());
        let times = |way: Way| report.rounds(&scenario, MEASURE, way.name());
        let part = ratios(times(Way::Bare), times(*way));
        report.judge(&format!("the same on {all} cores at once"), part, false, case.goal);
    }
}

/// The scenario's name.
fn on_cores(case: &Case, cores: &str) -> String {
    format!("{}, cores: {cores}", case.algorithm.name())
}

/// One, two, four and so on, up to what there is.
fn numbers_of_cores() -> Vec<usize> {
    let all = thread::available_parallelism().map_or(1, usize::from);
    std::iter::successors(Some(1), |cores| Some(cores * 2)).take_while(|cores| *cores <= all).collect()
}

/// In small turns: what else runs on the machine slows all down.
fn one_core(case: &Case, size: &Size, report: &mut Report) -> Result<()> {
    let ways = case.ways();
    let mut took = vec![Duration::ZERO; ways.len()];
    for _ in 0..size.turns {
        for (way, took) in ways.iter().zip(&mut took) {
            let begin = processor_time();
            case.turn(*way)?;
            *took += processor_time().saturating_sub(begin);
        }
    }
    for (way, took) in ways.iter().zip(took) {
        let each = took.as_secs_f64() * 1e6 / f64::from(size.turns * CHECKS_PER_TURN);
        report.add(case.algorithm.name(), MEASURE, way.name(), each);
    }
    Ok(())
}

/// Of this thread.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A thread on each of `cores`, all with the same keys: what they share must not hold them up.
fn several_cores(case: &Case, cores: usize, size: &Size, report: &mut Report) -> Result<()> {
    let ways = case.ways();
    let mut all = vec![(0.0, 0.0); ways.len()];
    for _ in 0..size.slices {
        for (way, (speed, each)) in ways.iter().zip(&mut all) {
            for (of_one, us) in together(case, *way, cores, size.slice)? {
                *speed += of_one / f64::from(size.slices);
                *each += us / f64::from(size.slices) / cores as f64;
            }
        }
    }
    let scenario = on_cores(case, &cores.to_string());
    for (way, (speed, each)) in ways.iter().zip(all) {
        report.add(&scenario, SPEED, way.name(), speed);
        report.add(&scenario, MEASURE, way.name(), each);
    }
    Ok(())
}

/// Of each thread: tokens a second, and processor time per token in microseconds.
fn together(case: &Case, way: Way, cores: usize, slice: Duration) -> Result<Vec<(f64, f64)>> {
    let start = Barrier::new(cores);
    let one = || {
        start.wait();
        let (begin, processor) = (Instant::now(), processor_time());
        let mut judged = 0;
        while judged == 0 || begin.elapsed() < slice {
            case.turn(way)?;
            judged += CHECKS_PER_TURN;
        }
        let processor = processor_time().saturating_sub(processor);
        let judged = f64::from(judged);
        anyhow::Ok((judged / begin.elapsed().as_secs_f64(), processor.as_secs_f64() * 1e6 / judged))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?).collect()
    })
}
