//! Passes over pools of 1,000 to 100,000 matchmaking tickets, and what players get as they come over time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use backend_matchmaking::simulation::{self, Distribution, Settings};
use backend_matchmaking::{Pool, RuleSet, Work};
use rustix::time::{ClockId, clock_gettime};

use crate::Options;
use crate::machine::Machine;
use crate::plot::{self, Heading, Line};
use crate::results::Report;

/// Milliseconds of a pass over 100,000 tickets.
const PASS_GOAL: f64 = 250.0;
/// Cost per ticket at 100,000 tickets, against 1,000.
const FLAT_GOAL: f64 = 3.0;
/// Four against four: similar skill, a region that is near to all, and both widen.
const TEAMS: &str = r#"{
    "name": "teams of four", "ruleLanguageVersion": "1.0",
    "playerAttributes": [{ "name": "skill", "type": "number" }],
    "teams": [{ "name": "side", "minPlayers": 4, "maxPlayers": 4, "quantity": 2 }],
    "rules": [
        { "name": "Skill", "type": "batchDistance", "batchAttribute": "skill", "maxDistance": 100 },
        { "name": "Fair", "type": "distance", "measurements": ["avg(teams[*].players.attributes[skill])"],
          "referenceValue": "avg(flatten(teams[*].players.attributes[skill]))", "maxDistance": 25 },
        { "name": "Near", "type": "latency", "maxLatency": 80 }
    ],
    "expansions": [
        { "target": "rules[Skill].maxDistance", "steps": [{ "waitTimeSeconds": 10, "value": 200 }, { "waitTimeSeconds": 30, "value": 400 }] },
        { "target": "rules[Fair].maxDistance", "steps": [{ "waitTimeSeconds": 10, "value": 50 }, { "waitTimeSeconds": 30, "value": 100 }] },
        { "target": "rules[Near].maxLatency", "steps": [{ "waitTimeSeconds": 20, "value": 150 }] }
    ]
}"#;
/// A hundred against everybody, dealt by skill.
const LARGE: &str = r#"{
    "name": "a hundred", "ruleLanguageVersion": "1.0",
    "playerAttributes": [{ "name": "skill", "type": "number" }],
    "algorithm": { "strategy": "balanced", "balancedAttribute": "skill" },
    "teams": [{ "name": "everybody", "minPlayers": 80, "maxPlayers": 100 }],
    "rules": [{ "name": "Near", "type": "latency", "maxLatency": 80 }]
}"#;
/// Tickets that no rule lets into a match: each is tried in vain.
const NOBODY: &str = r#"{
    "name": "nobody", "ruleLanguageVersion": "1.0",
    "playerAttributes": [{ "name": "skill", "type": "number" }],
    "teams": [{ "name": "side", "minPlayers": 1, "maxPlayers": 1, "quantity": 2 }],
    "rules": [{ "name": "Apart", "type": "distance", "measurements": "stddev(flatten(teams[*].players.attributes[skill]))",
                "referenceValue": 0, "minDistance": 1000000 }]
}"#;

pub fn run(options: &Options) -> Result<bool> {
    let machine = Machine::this()?;
    let mut report = Report::new("matchmaking", Machine::this()?);
    report.explain(
        "Processor time of a pass, which forms all matches that a pool allows. `teams of four`: 4 against 4 by skill, fairness and latency; a quarter of \
         the tickets are parties. `a hundred`: 80 to 100 players, balanced. `nobody`: no ticket can have a match. Skill is normal \
         around 1,500 with a deviation of 300; players have latencies to three regions.",
    );
    let sizes: &[usize] =
        if options.quick { &[1_000, 3_000] } else { &[1_000, 3_000, 10_000, 30_000, 100_000] };
    let mut lines = Vec::new();
    for text in [TEAMS, LARGE, NOBODY] {
        let rule_set = Arc::new(RuleSet::parse(text)?);
        let mut line = Line { label: rule_set.name.clone(), points: Vec::new() };
        for size in sizes {
            let pool = filled(&rule_set, *size)?;
            for round in 0..options.rounds as u64 {
                let begin = processor_time();
                let pass = pool.form_matches(20_000, round, Work::default());
                let ms = processor_time().saturating_sub(begin).as_secs_f64() * 1e3;
                let scenario = format!("{}:{size}", rule_set.name);
                report.add(&scenario, "ms", "a pass", ms);
                report.add(&scenario, "us_per_ticket", "a pass", ms * 1e3 / *size as f64);
                report.add(&scenario, "matches", "a pass", pass.matches.len() as f64);
            }
            let of = report.rounds(&format!("{}:{size}", rule_set.name), "us_per_ticket", "a pass");
            line.points.push((*size as f64, crate::results::median(of)));
        }
        let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else { continue };
        let rounds = |size: &usize, what: &str| {
            report.rounds(&format!("{}:{size}", rule_set.name), what, "a pass").to_vec()
        };
        if !options.quick {
            let growth: Vec<f64> = rounds(last, "us_per_ticket")
                .iter()
                .zip(rounds(first, "us_per_ticket"))
                .map(|(last, first)| last / first)
                .collect();
            let passes = rounds(last, "ms");
            report.judge(
                &format!("{}: a pass over {last} tickets (ms)", rule_set.name),
                passes,
                true,
                PASS_GOAL,
            );
            let what = format!("{}: cost per ticket at {last} against {first}", rule_set.name);
            report.judge(&what, growth, true, FLAT_GOAL);
        }
        lines.push(line);
    }
    let heading = |title| Heading { title, machine: machine.line() };
    plot::lines(
        &options.folder.join("matchmaking-cost.svg"),
        &heading("Cost of a pass, µs per ticket"),
        ("tickets in the pool", "µs per ticket"),
        &lines,
    )?;
    over_time(options, &machine, &mut report)?;
    report.publish(&options.folder)?;
    Ok(report.is_met())
}

/// What this thread has used: a pass has one thread and waits for nothing, so that other programs do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn settings(tickets: usize, per_second: f64) -> Settings {
    Settings {
        tickets,
        per_second,
        attributes: BTreeMap::from([("skill".to_owned(), Distribution::Normal(1_500.0, 300.0))]),
        ..Settings::default()
    }
}

fn filled(rule_set: &Arc<RuleSet>, tickets: usize) -> Result<Pool> {
    let settings = settings(tickets, 0.0);
    let mut generator = simulation::Generator::new(rule_set, &settings);
    let mut pool = Pool::new(Arc::clone(rule_set));
    for number in 0..tickets {
        // Of the last 20 seconds.
        pool.add(&generator.ticket((number * 20_000 / tickets) as i64))?;
    }
    Ok(pool)
}

/// Waits and gaps of skill as tickets come: few and many a second.
fn over_time(options: &Options, machine: &Machine, report: &mut Report) -> Result<()> {
    let rule_set = Arc::new(RuleSet::parse(TEAMS)?);
    let tickets = if options.quick { 1_000 } else { 100_000 };
    let (mut waits, mut gaps) = (Vec::new(), Vec::new());
    for per_second in [2.0, 20.0, 200.0, 2_000.0] {
        let tickets = tickets.min((per_second * 600.0) as usize);
        let came = simulation::run(&rule_set, &settings(tickets, per_second), |_now, _match, _tickets| {})?;
        let label = format!("{per_second} tickets a second");
        let seconds: Vec<f64> = came.waits_ms.iter().map(|ms| *ms as f64 / 1e3).collect();
        for (values, unit, lines) in [(&seconds, "s", &mut waits), (&came.gaps, "skill", &mut gaps)] {
            let curve = percentiles(values);
            for (percent, value) in &curve {
                if [50.0, 90.0, 99.0].contains(percent) {
                    let what = if unit == "s" { "wait" } else { "gap of skill" };
                    report.add(&label, unit, &format!("{what}, p{percent}"), *value);
                }
            }
            lines.push(Line { label: label.clone(), points: curve });
        }
        report.add(&label, "%", "timed out", came.timed_out as f64 * 100.0 / tickets as f64);
    }
    let heading = |title| Heading { title, machine: machine.line() };
    let axes = |what| ("percentile of tickets or matches", what);
    plot::lines(
        &options.folder.join("matchmaking-wait.svg"),
        &heading("Wait for a match, s"),
        axes("s"),
        &waits,
    )?;
    plot::lines(
        &options.folder.join("matchmaking-gap.svg"),
        &heading("Gap of skill between the best and the weakest of a match"),
        axes("skill"),
        &gaps,
    )
}

/// Percentiles from 1 to 100. What is less than a second or point is drawn as one: the scale is logarithmic.
fn percentiles(values: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (1..=100)
        .filter_map(|percent| {
            let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(index).map(|value| (percent as f64, value.max(1.0)))
        })
        .collect()
}
