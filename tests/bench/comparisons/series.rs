//! What was measured, round by round: tables for people, JSON for programs, and goals as ratios within rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine::Machine;
use crate::plot::{self, Bar};

/// All rounds of one figure of one contestant.
#[derive(Serialize)]
pub struct Series {
    /// Such as `burst:20000:0`.
    pub scenario: String,
    /// Such as `calls_per_second`.
    pub measure: String,
    /// The contestant.
    pub way: String,
    /// One value per round.
    pub rounds: Vec<f64>,
}

/// What a figure has to be.
#[derive(Serialize)]
pub struct Goal {
    what: String,
    /// Per round.
    values: Vec<f64>,
    median: f64,
    goal: f64,
    at_most: bool,
    reached: bool,
}

/// All series of a run.
#[derive(Serialize)]
pub struct Report {
    name: &'static str,
    machine: Machine,
    series: Vec<Series>,
    goals: Vec<Goal>,
}

/// The middle value; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

impl Report {
    /// Nothing yet.
    pub fn new(name: &'static str, machine: Machine) -> Self {
        Self { name, machine, series: Vec::new(), goals: Vec::new() }
    }

    /// Adds a round's value.
    pub fn add(&mut self, scenario: &str, measure: &str, way: &str, value: f64) {
        let same = |one: &&mut Series| one.scenario == scenario && one.measure == measure && one.way == way;
        match self.series.iter_mut().find(same) {
            Some(series) => series.rounds.push(value),
            None => self.series.push(Series {
                scenario: scenario.to_owned(),
                measure: measure.to_owned(),
                way: way.to_owned(),
                rounds: vec![value],
            }),
        }
    }

    /// The rounds of a figure; none if it was not measured.
    pub fn rounds(&self, scenario: &str, measure: &str, way: &str) -> &[f64] {
        let same = |one: &&Series| one.scenario == scenario && one.measure == measure && one.way == way;
        self.series.iter().find(same).map_or(&[], |one| &one.rounds)
    }

    /// Judges the median of `values` by its goal.
    pub fn judge(&mut self, what: &str, values: Vec<f64>, at_most: bool, goal: f64) {
        let median = median(&values);
        let reached = if at_most { median <= goal } else { median >= goal };
        self.goals.push(Goal { what: what.to_owned(), values, median, goal, at_most, reached });
    }

    /// Whether every goal is reached.
    pub fn is_met(&self) -> bool {
        self.goals.iter().all(|goal| goal.reached)
    }

    /// For people.
    fn table(&self) -> String {
        let mut groups: BTreeMap<(&str, &str), Vec<&Series>> = BTreeMap::new();
        for one in &self.series {
            groups.entry((&one.scenario, &one.measure)).or_default().push(one);
        }
        let mut lines = vec![format!("{}: {}", self.name, self.machine.line())];
        for ((scenario, measure), ways) in groups {
            lines.push(format!("\n{scenario}  {measure}"));
            for one in ways {
                let (median, least, most) = (median(&one.rounds), least(&one.rounds), most(&one.rounds));
                lines.push(format!("  {:<18}{median:>14.2}   [{least:.2} to {most:.2}]", one.way));
            }
        }
        lines.push("\ngoals".to_owned());
        for goal in &self.goals {
            let (sign, verdict) = (
                if goal.at_most { "at most" } else { "at least" },
                if goal.reached { "reached" } else { "MISSED" },
            );
            let (least, most) = (least(&goal.values), most(&goal.values));
            lines.push(format!(
                "  {:<62}{:>10.3} [{least:.3} to {most:.3}]  {sign} {} {verdict}",
                goal.what, goal.median, goal.goal
            ));
        }
        lines.join("\n")
    }

    /// Tells it, and writes it into `folder`.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        println!("{}", self.table());
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}.json", self.name));
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes a plot of one figure of every contestant into `folder`.
    pub fn plot(&self, folder: &Path, file: &str, scenario: &str, measure: &str, title: &str) -> Result<()> {
        let wanted = |one: &&Series| one.scenario == scenario && one.measure == measure;
        let bar = |one: &Series| Bar {
            label: one.way.replace('_', " "),
            median: median(&one.rounds),
            least: least(&one.rounds),
            most: most(&one.rounds),
        };
        let bars: Vec<Bar> = self.series.iter().filter(wanted).map(bar).collect();
        let path = folder.join(format!("{}-{file}.svg", self.name));
        fs::write(&path, plot::bars(title, &self.machine.line(), &bars))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Two figures' ratio in each round.
pub fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
