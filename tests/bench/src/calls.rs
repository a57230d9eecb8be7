//! One kind of call, to a server that only answers: bare reqwest, this addon, and the engine's own ways.

use anyhow::{Context as _, Result};

use crate::Options;
use crate::bare_server::BareServer;
use crate::engine::{Figures, Project};
use crate::machine::Machine;
use crate::reqwest_baseline;
use crate::results::{Report, median, ratios};

/// The addon's limit unless a project sets another.
const IN_FLIGHT: usize = 64;
const RAW: &str = "raw reqwest";
const ADDON: &str = "addon";
/// A request, its signal and its result in a script, and no call: what the engine itself takes of the main thread.
const NO_CALL: &str = "no_call";
const OWN_WAYS: [&str; 4] = ["request_per_call", "pool", "threaded_pool", "http_client"];
/// Offered load of the steady scenario, calls a second.
const STEADY: usize = 3_000;

/// Calls at a time, where each is submitted when another one has ended.
const AT_A_TIME: [usize; 4] = [1, 16, 64, 256];
/// What is counted, as checked in.
const NUMBERS: &str = include_str!("../guards.toml");

/// How much of everything.
struct Size {
    burst: usize,
    /// The engine's own ways are given less to do: what counts is calls per second.
    own_burst: usize,
    own_burst_at_60: usize,
    seconds: usize,
    single: usize,
    /// Calls by what is [`AT_A_TIME`]: for us and for the limit, and for the engine's own ways.
    looped: [usize; 4],
    own_looped: [usize; 4],
}

const FULL: Size = Size {
    burst: 20_000,
    own_burst: 2_000,
    own_burst_at_60: 400,
    seconds: 4,
    single: 20,
    looped: [2_000, 10_000, 10_000, 10_000],
    own_looped: [500, 1_000, 1_000, 1_000],
};
const QUICK: Size = Size {
    burst: 1_000,
    own_burst: 100,
    own_burst_at_60: 32,
    seconds: 1,
    single: 3,
    looped: [50, 200, 200, 200],
    own_looped: [20, 40, 40, 40],
};

/// Measures, tells, and says whether all goals are reached.
pub fn run(options: &Options) -> Result<bool> {
    let size = if options.quick { QUICK } else { FULL };
    let project = Project::with(&options.library)?;
    let server = BareServer::start()?;
    let mut report = Report::new("calls", Machine::this()?);
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        one_round(&server, &project, &size, &mut report)?;
        // So that a run that is cut off has published the rounds it did.
        report.unjudge();
        judge(&mut report);
        plots(&report, options)?;
        report.write(&options.folder)?;
    }
    report.publish(&options.folder)?;
    if options.quick {
        return guard(&report);
    }
    Ok(report.is_met())
}

fn one_round(server: &BareServer, project: &Project, size: &Size, report: &mut Report) -> Result<()> {
    let Size { burst, own_burst, own_burst_at_60, seconds, single, .. } = size;
    let (looped, own_looped) = (loops(&size.looped), loops(&size.own_looped));
    let runs = format!("warm:{own_burst},burst:{burst},single:{single},{looped}");
    let found = counted(server, report, RAW, || reqwest_baseline::measure(server.url(), IN_FLIGHT, &runs))?;
    take(report, RAW, &found);
    let runs = format!(
        "warm:{own_burst},burst:{burst}:0,burst:{burst}:60,steady:{STEADY}:{seconds},single:{single},{looped}"
    );
    let found = counted(server, report, ADDON, || project.measure(ADDON, server.url(), &runs))?;
    take(report, ADDON, &found);
    let runs = format!("warm:64,burst:{burst}:0,steady:{STEADY}:{seconds}");
    take(report, NO_CALL, &project.measure(NO_CALL, server.url(), &runs)?);
    for way in OWN_WAYS {
        let runs = format!(
            "warm:64,burst:{own_burst}:0,burst:{own_burst_at_60}:60,steady:{STEADY}:{seconds},single:{single},{own_looped}"
        );
        let found = counted(server, report, way, || project.measure(way, server.url(), &runs))?;
        take(report, way, &found);
    }
    Ok(())
}

fn counted(
    server: &BareServer,
    report: &mut Report,
    way: &str,
    work: impl FnOnce() -> Result<Vec<Figures>>,
) -> Result<Vec<Figures>> {
    let before = server.counts()?;
    let found = work().with_context(|| way.to_owned())?;
    let after = server.counts()?;
    let calls = (after.calls - before.calls) as f64;
    let per_hundred = (after.connections - before.connections) as f64 / calls * 100.0;
    report.add("all", "connections_per_100_calls", way, per_hundred);
    Ok(found)
}

/// The scenarios of [`AT_A_TIME`], of so many calls each.
fn loops(counts: &[usize; 4]) -> String {
    let one = |(count, at_a_time): (&usize, &usize)| format!("loop:{count}:{at_a_time}");
    counts.iter().zip(&AT_A_TIME).map(one).collect::<Vec<_>>().join(",")
}

fn take(report: &mut Report, way: &str, found: &[Figures]) {
    for figures in found {
        let run = figures.get("run").and_then(|run| run.as_str()).unwrap_or_default();
        let words: Vec<&str> = run.split(':').collect();
        // How many it was given is the contestant's, not the scenario's.
        let scenario = match words.as_slice() {
            ["burst", _, "60"] => "burst at 60 Hz",
            ["burst", ..] => "burst",
            ["loop", _, "1"] => "1 at a time",
            ["loop", _, "16"] => "16 at a time",
            ["loop", _, "64"] => "64 at a time",
            ["loop", _, "256"] => "256 at a time",
            [name, ..] => name,
            [] => continue,
        };
        for (measure, value) in figures {
            if let (true, Some(value)) = (measure != "failed", value.as_f64()) {
                report.add(scenario, measure, way, value);
            }
        }
    }
}

fn judge(report: &mut Report) {
    let speed = "calls_per_second";
    let of_raw = ratios(report.rounds("burst", speed, ADDON), report.rounds("burst", speed, RAW));
    report.judge("burst, part of raw reqwest", of_raw, false, 0.7);
    let requests = ["request_per_call", "pool", "threaded_pool"];
    let speeds = |way: &str| report.rounds("burst", speed, way).to_vec();
    let best = requests.map(speeds).into_iter().max_by(|a, b| median(a).total_cmp(&median(b)));
    let over_best = ratios(report.rounds("burst", speed, ADDON), &best.unwrap_or_default());
    report.judge("burst, times the best way with HTTPRequest", over_best, false, 8.0);
    let at_60 = "burst at 60 Hz";
    let per_call = report.rounds(at_60, speed, requests[0]);
    let over_per_call = ratios(report.rounds(at_60, speed, ADDON), per_call);
    report.judge("burst at 60 Hz, times HTTPRequest per call", over_per_call, false, 50.0);
    let cost = "main_thread_us_per_call";
    let own = report.rounds("steady", cost, ADDON).to_vec();
    let of_per_call = ratios(&own, report.rounds("steady", cost, requests[0]));
    report.judge("3,000 calls/s at 60 Hz, main thread per call (us)", own, true, 4.0);
    report.judge("the same, part of HTTPRequest per call", of_per_call, true, 1.0 / 40.0);
    let (busy, idle) = ("frame_p99_us", "idle_frame_p99_us");
    let (busy, idle) = (report.rounds("steady", busy, ADDON), report.rounds("steady", idle, ADDON));
    let added = busy.iter().zip(idle).map(|(busy, idle)| busy - idle).collect();
    report.judge("the same, added to the p99 of a frame (us)", added, true, 500.0);
    let (worst, idle) =
        (report.rounds("steady", "frame_max_us", ADDON), report.rounds("steady", "idle_frame_us", ADDON));
    let worst = worst.iter().zip(idle).map(|(worst, idle)| worst - idle).collect();
    report.judge("the same, worst frame above an idle one (us)", worst, true, 1_000.0);
    let frames = report.rounds("single", "latency_frames", ADDON).to_vec();
    report.judge("one call on an idle game, frames to its result", frames, true, 1.0);
    let connections = report.rounds("all", "connections_per_100_calls", ADDON).to_vec();
    report.judge("connections per 100 calls", connections, true, 1.0);
}

/// What is counted rather than timed, and so holds at any speed.
fn guard(report: &Report) -> Result<bool> {
    let name = "call_connections_per_1000_at_most";
    let found = median(report.rounds("all", "connections_per_100_calls", ADDON)) * 10.0;
    let most = number(name).with_context(|| format!("tests/bench/guards.toml has no {name}"))?;
    // Nothing counted is no pass.
    let is_held = found <= most && !found.is_nan();
    test_harness::print_line!(
        "{name} = {most}: {found:.1}{}",
        if is_held { "" } else { ", NOT as it should be" }
    );
    Ok(is_held)
}

/// The checked-in number of this name.
fn number(name: &str) -> Option<f64> {
    NUMBERS.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        if key.trim() == name { value.trim().parse().ok() } else { None }
    })
}

fn plots(report: &Report, options: &Options) -> Result<()> {
    let offered = "3,000 calls a second offered at 60 frames a second";
    for (file, scenario, measure, title) in [
        (
            "burst",
            "burst",
            "calls_per_second",
            "Calls per second, submitted at once, no limit of frames".to_owned(),
        ),
        (
            "burst-60hz",
            "burst at 60 Hz",
            "calls_per_second",
            "Calls per second, submitted at once, at 60 frames a second".to_owned(),
        ),
        (
            "main-thread",
            "steady",
            "main_thread_us_per_call",
            format!("Main thread per call in µs, {offered}"),
        ),
        ("frame-p99", "steady", "frame_p99_us", format!("Main thread per frame in µs, p99, {offered}")),
        (
            "latency",
            "single",
            "latency_ms",
            "One call on an idle game at 60 frames a second, in ms".to_owned(),
        ),
        ("connections", "all", "connections_per_100_calls", "Connections opened per 100 calls".to_owned()),
    ] {
        report.plot(&options.folder, file, scenario, measure, &title)?;
    }
    Ok(())
}
