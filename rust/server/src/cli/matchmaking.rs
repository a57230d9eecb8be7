//! `backend-server matchmaking`: checks a rule set, and simulates players who wait for matches by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use backend_matchmaking::RuleSet;
use backend_matchmaking::simulation::{self, Distribution, Report, Settings};
use clap::{Args, Subcommand};

use super::output;

#[derive(Args)]
pub struct MatchmakingCommands {
    #[command(subcommand)]
    command: MatchmakingCommand,
}

#[derive(Subcommand)]
enum MatchmakingCommand {
    /// Checks a rule set and prints what it does. Exits with 1 if it cannot be used, with the member that is wrong
    Validate {
        /// The rule set, in FlexMatch's JSON
        file: PathBuf,
    },
    /// Lets random players wait for matches by a rule set and prints waits, gaps of skill and how often each rule failed
    Simulate(SimulateArguments),
}

#[derive(Args)]
struct SimulateArguments {
    /// The rule set, in FlexMatch's JSON
    file: PathBuf,
    /// Number of tickets
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tickets: u32,
    /// Tickets per second. 0: all at once
    #[arg(long, default_value_t = 20.0, value_parser = from_zero)]
    per_second: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds until a ticket times out
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=43_200))]
    timeout: u32,
    /// Share of tickets that are parties, from 0 to 1
    #[arg(long, default_value_t = 0.25, value_parser = from_zero)]
    parties: f64,
    /// Regions that players have latencies to
    #[arg(long, value_delimiter = ',', default_value = "eu,us,asia")]
    regions: Vec<String>,
    /// Values of an attribute: `skill=normal:1500,300`, `level=uniform:1,50` or `mode=choice:race,duel`; may be repeated
    #[arg(long = "attribute", value_parser = attribute)]
    attributes: Vec<(String, Distribution)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn from_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e6).contains(&number) => Ok(number),
        _ => Err("must be a number from 0 to 1000000".to_owned()),
    }
}

fn attribute(text: &str) -> Result<(String, Distribution), String> {
    let (name, values) =
        text.split_once('=').ok_or("must be NAME=DISTRIBUTION, such as skill=normal:1500,300")?;
    Ok((name.to_owned(), values.parse()?))
}

pub fn run(commands: MatchmakingCommands) -> anyhow::Result<()> {
    match commands.command {
        MatchmakingCommand::Validate { file } => {
            let rule_set = read(&file)?;
            output::line(describe(&rule_set))
        }
        MatchmakingCommand::Simulate(arguments) => simulate(&arguments),
    }
}

fn read(file: &PathBuf) -> anyhow::Result<RuleSet> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    RuleSet::parse(&text).with_context(|| format!("{} cannot be used as a rule set", file.display()))
}

fn describe(rule_set: &RuleSet) -> String {
    let mut lines = vec![format!(
        "{}: {} teams, {} to {} players, {}",
        if rule_set.name.is_empty() { "rule set" } else { &rule_set.name },
        rule_set.teams.len(),
        rule_set.stages[0].min_players(),
        rule_set.stages[0].max_players(),
        if rule_set.large { "filled evenly (large match)" } else { "searched exhaustively" }
    )];
    for rule in rule_set.rules.iter().filter(|rule| rule.is_condition() && !rule.part_of_compound) {
        let when =
            if rule.final_when_violated { "with each candidate" } else { "once teams are large enough" };
        lines.push(format!("rule {}: evaluated {when}", rule.name));
    }
    for stage in &rule_set.stages[1..] {
        let (min, max) = (stage.min_players(), stage.max_players());
        lines.push(format!("after {} s: {min} to {max} players", stage.from_ms / 1_000));
    }
    lines.join("\n")
}

fn simulate(arguments: &SimulateArguments) -> anyhow::Result<()> {
    let rule_set = Arc::new(read(&arguments.file)?);
    let attributes: BTreeMap<_, _> = arguments.attributes.iter().cloned().collect();
    if let Some(unknown) =
        attributes.keys().find(|name| !rule_set.attributes.iter().any(|known| known.name == **name))
    {
        anyhow::bail!(
            "--attribute {unknown}: the rule set does not declare this attribute in playerAttributes"
        );
    }
    let settings = Settings {
        tickets: arguments.tickets as usize,
        per_second: arguments.per_second,
        seed: arguments.seed,
        interval_ms: 1_000,
        timeout_ms: i64::from(arguments.timeout) * 1_000,
        parties: arguments.parties,
        regions: arguments.regions.clone(),
        attributes,
    };
    let report = simulation::run(&rule_set, &settings, |_now_ms, _match, _tickets| {})
        .context("the simulated players do not fit the rule set; give their values with --attribute")?;
    if arguments.json {
        return output::line(serde_json::to_string_pretty(&as_json(&report))?);
    }
    output::line(as_text(&report))
}

/// The values below which 10, 50, 90 and 99 % are, and the largest.
fn percentiles(values: &[f64]) -> [f64; 5] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (sorted.len() as f64 * part).ceil().max(1.0) as usize - 1;
        sorted.get(index).copied().unwrap_or(0.0)
    };
    [at(0.1), at(0.5), at(0.9), at(0.99), at(1.0)]
}

fn waits(report: &Report) -> Vec<f64> {
    report.waits_ms.iter().map(|ms| *ms as f64 / 1_000.0).collect()
}

fn as_text(report: &Report) -> String {
    let players: usize = report.sizes.iter().sum();
    let mut lines = vec![format!(
        "{} matches of {players} players; {} tickets matched, {} timed out",
        report.matches,
        report.waits_ms.len(),
        report.timed_out
    )];
    let row = |name: &str, values: &[f64]| {
        let [low, middle, high, highest, most] = percentiles(values);
        format!("{name:<24}{low:>10.1}{middle:>10.1}{high:>10.1}{highest:>10.1}{most:>10.1}")
    };
    lines.push(format!("{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "p10", "p50", "p90", "p99", "max"));
    lines.push(row("wait (s)", &waits(report)));
    lines.push(row("range of first number", &report.gaps));
    lines.push(format!("{:<32}{:>12}{:>12}{:>9}", "rule", "passed", "failed", "failed"));
    for (name, metric) in &report.rules {
        let all = metric.passed + metric.failed;
        let share = if all == 0 { 0.0 } else { metric.failed as f64 * 100.0 / all as f64 };
        lines.push(format!("{name:<32}{:>12}{:>12}{share:>8.1}%", metric.passed, metric.failed));
    }
    if report.cut_short > 0 {
        lines.push(format!(
            "{} of {} passes ended early, as their work was used up: the rules leave too many combinations to try",
            report.cut_short, report.passes
        ));
    }
    lines.join("\n")
}

fn as_json(report: &Report) -> serde_json::Value {
    let named = |values: [f64; 5]| serde_json::json!({ "p10": values[0], "p50": values[1], "p90": values[2], "p99": values[3], "max": values[4] });
    let rules: Vec<_> = report
        .rules
        .iter()
        .map(|(name, metric)| serde_json::json!({ "name": name, "passed": metric.passed, "failed": metric.failed }))
        .collect();
    serde_json::json!({
        "matches": report.matches,
        "players": report.sizes.iter().sum::<usize>(),
        "tickets_matched": report.waits_ms.len(),
        "tickets_timed_out": report.timed_out,
        "wait_seconds": named(percentiles(&waits(report))),
        "first_number_range": named(percentiles(&report.gaps)),
        "rules": rules,
        "passes": report.passes,
        "passes_cut_short": report.cut_short,
    })
}
