//! Every player's document at once, from Dictionaries to booked replies: by the addon, by bare reqwest in the same batches,
//! and by one HTTPRequest each from a pool. Twice: to a server that only counts, where the caller is all that is measured,
//! and to the backend itself on SQLite, which answers once the documents are committed. And the end of a game server whose
//! players are all unsaved.

mod reqwest_baseline;
mod stage;
mod termination;

use anyhow::{Result, ensure};
use test_harness::backend::Backend;

use crate::Options;
use crate::bare_server::BareServer;
use crate::cpu_affinity::{Side, pin};
use crate::engine::Project;
use crate::machine::Machine;
use crate::results::{Report, ratios};
use stage::{PoolSize, Stage};

pub use reqwest_baseline::{RawOptions, run as run_raw};

const SIZES: [usize; 3] = [100, 1_000, 10_000];
const QUICK_SIZES: [usize; 1] = [100];
const POOL_SIZE: PoolSize = PoolSize { at_60: 320, uncapped: 1_000 };
const QUICK_POOL_SIZE: PoolSize = PoolSize { at_60: 32, uncapped: 100 };
const ADDON: &str = "addon";
const RAW: &str = "raw reqwest";
const POOL: &str = "pool (scaled)";
/// How scenarios begin against the server that only counts.
const COUNTED: &str = "counted";
/// The same against the backend.
const COMMITTED: &str = "committed";
/// The most that a captured document may cost the main thread, in µs.
const CAPTURE_GOAL_US: f64 = 35.0;

const ABOUT: &str = "\
`counted`: to a server that reads each batch to its end, counts the documents and answers that they were applied, and keeps
nothing: how fast the caller is. `committed`: to the backend on SQLite, which answers once the documents are on disk: what a
game has of it, bound by the database.

`raw reqwest` sends the addon's batches, one after the other, made of values that it has already: it captures nothing and
keeps no journal. The addon begins with Dictionaries in GDScript, writes every document to its journal on disk, and sends it
from there. `whole`: from the first `save` to the last reply, with `debounce_seconds` of 0, so that saves are sent while
others are captured. `whole_apart`, `capture` and `sending`: nothing is sent before the last `save`. `pool (scaled)`: 16
`HTTPRequest`, one document each; its time for a thousand (at 60 frames a second: 320) is told for as many as are named.

`SIGTERM`: a headless Godot server at 60 frames a second with that many players, whose newest documents only the game knows,
in milliseconds from the signal: until the game has handed them in, they are in the journal, the backend has committed them,
their players are let go, and the process is gone. Then all are read back.";

/// Measures, tells, and says whether all goals are reached; of a quick run, whether nothing was lost.
pub fn run(options: &Options) -> Result<bool> {
    let mut report = Report::new("flush", Machine::this()?);
    report.explain(ABOUT);
    let project = Project::with(&options.library)?;
    let (sizes, pool_size): (&[usize], _) =
        if options.quick { (&QUICK_SIZES, QUICK_POOL_SIZE) } else { (&SIZES, POOL_SIZE) };
    let most = sizes[sizes.len() - 1];
    let server = BareServer::start()?;
    let backend = Backend::start()?;
    pin(Side::Server, backend.id()?)?;
    let stages =
        [(COUNTED, Stage::counting(&server, most)?), (COMMITTED, Stage::committing(&backend, most)?)];
    for round in 1..=options.rounds {
        test_harness::print_line!("round {round} of {}", options.rounds);
        for size in sizes {
            for (kind, stage) in &stages {
                let before = server.documents()?;
                for (way, found) in [
                    (RAW, stage.raw(*size)?),
                    (ADDON, stage.addon(&project, *size)?),
                    (POOL, stage.pool(&project, *size, pool_size)?),
                ] {
                    for (measure, value) in found.iter().flatten() {
                        if let (true, Some(value)) = (measure != "failed", value.as_f64()) {
                            report.add(&format!("{kind} {size}"), measure, way, value);
                        }
                    }
                }
                // Once by bare reqwest, five times by the addon, and what the pool is given.
                let of_pool = pool_size.at_60.min(most) + pool_size.uncapped.min(most);
                let expected = if *kind == COUNTED { 6 * size + of_pool } else { 0 };
                let counted = server.documents()? - before;
                ensure!(counted == expected, "{counted} documents were counted instead of {expected}");
            }
            let (_, committing) = &stages[1];
            termination::measure(committing, &project, *size, round, &mut report)?;
        }
    }
    judge(&mut report, sizes);
    for (kind, measure, title) in [
        (COUNTED, "whole_60hz_ms", "from Dictionaries to a server that only counts, at 60 frames a second"),
        (COUNTED, "whole_uncapped_ms", "from Dictionaries to a server that only counts, no limit of frames"),
        (COMMITTED, "whole_60hz_ms", "from Dictionaries to commits of the backend, at 60 frames a second"),
        (COMMITTED, "whole_uncapped_ms", "from Dictionaries to commits of the backend, no limit of frames"),
        (termination::SCENARIO, "committed_ms", "from SIGTERM to commits of the backend"),
    ] {
        let of = if kind == termination::SCENARIO { "sigterm" } else { kind };
        let file = format!("{of}-{}", measure.trim_end_matches("_ms").replace('_', "-"));
        let title = format!("Documents of 2 KiB {title}, in ms");
        report.lines(&options.folder, &file, kind, measure, &title, ("documents", "ms"))?;
    }
    // Last: the page shows the plots that are there.
    report.publish(&options.folder)?;
    Ok(if options.quick { report.counts_are_met() } else { report.is_met() })
}

fn judge(report: &mut Report, sizes: &[usize]) {
    let most = sizes[sizes.len() - 1];
    let (counted, committed) = (format!("{COUNTED} {most}"), format!("{COMMITTED} {most}"));
    let of = |report: &Report, scenario: &str, measure: &str, way: &str| {
        report.rounds(scenario, measure, way).to_vec()
    };
    let capture = of(report, &committed, "capture_us", ADDON);
    if !capture.is_empty() {
        report.judge("capture, main thread per document (us)", capture, true, CAPTURE_GOAL_US);
    }
    for (scenario, server) in [(&counted, "server that only counts"), (&committed, "backend that commits")] {
        let raw = of(report, scenario, "sending_ms", RAW);
        let sending = ratios(&of(report, scenario, "sending_ms", ADDON), &raw);
        report.judge(
            &format!("{server}: sending after the last save, times raw reqwest"),
            sending,
            true,
            1.3,
        );
    }
    for (what, measure, goal) in
        [("at 60 Hz", "whole_60hz_ms", 100.0), ("uncapped", "whole_uncapped_ms", 5.0)]
    {
        let pool = of(report, &counted, measure, POOL);
        let faster = ratios(&pool, &of(report, &counted, measure, ADDON));
        let what = format!("server that only counts: {most} documents {what}, times faster than the pool");
        report.judge(&what, faster, false, goal);
        // What commits bounds everybody: how much faster bare reqwest is that has nothing to capture or to keep.
        let pool = of(report, &committed, measure, POOL);
        let times = format!("{}_times_faster_than_pool", measure.trim_end_matches("_ms"));
        for (way, took) in [(ADDON, measure), (RAW, "sending_ms")] {
            for faster in ratios(&pool, &of(report, &committed, took, way)) {
                report.add(&committed, &times, way, faster);
            }
        }
    }
    let raw = of(report, &committed, "sending_ms", RAW);
    let least: Vec<f64> = raw.iter().map(|raw| raw + most as f64 * CAPTURE_GOAL_US / 1e3).collect();
    let whole = ratios(&of(report, &committed, "whole_uncapped_ms", ADDON), &least);
    let what = "backend that commits: uncapped, times raw reqwest and what capture may take";
    report.judge(what, whole, true, 1.3);
    let of_size = |size: &usize| (*size, of(report, &format!("{COMMITTED} {size}"), "sending_ms", RAW));
    let raw: Vec<_> = sizes.iter().map(of_size).collect();
    termination::judge(report, &raw);
}
