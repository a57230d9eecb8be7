//! What was measured, round by round: tables for people, JSON for programs, and goals as ratios within rounds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::machine::Machine;
use crate::plot::{self, Bar, Heading, Line};

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
    /// What the names of scenarios and figures mean, where they need it.
    #[serde(skip_serializing_if = "str::is_empty")]
    about: &'static str,
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
        Self { name, machine, about: "", series: Vec::new(), goals: Vec::new() }
    }

    /// Says in its page what the names in it mean.
    pub const fn explain(&mut self, about: &'static str) {
        self.about = about;
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

    /// Adds a figure of one value: `what` was found in `part`.
    pub fn figure(&mut self, part: &str, what: &str, value: f64, unit: &str) {
        self.add(part, unit, what, value);
    }

    /// Adds a figure of one value that is to be at most `goal`.
    pub fn figure_at_most(&mut self, part: &str, what: &str, value: f64, unit: &str, goal: f64) {
        self.figure(part, what, value, unit);
        let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
        self.judge(&format!("{part}: {what}{unit}"), vec![value], true, goal);
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

    /// Whether nothing happened that may not happen at any speed: goals of zero.
    pub fn counts_are_met(&self) -> bool {
        self.goals.iter().filter(|goal| goal.goal == 0.0).all(|goal| goal.reached)
    }

    /// For people.
    fn table(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.name, self.machine.line())];
        for ((scenario, measure), ways) in self.grouped() {
            lines.push(format!("\n{scenario}  {measure}"));
            for one in ways {
                let (median, spread) = (median(&one.rounds), spread(&one.rounds));
                lines.push(format!("  {:<22}{median:>14.2}   [{spread}]", one.way));
            }
        }
        lines.push("\ngoals".to_owned());
        for goal in &self.goals {
            let sign = if goal.at_most { "at most" } else { "at least" };
            let verdict = match goal.reached {
                // What is asked of a release says nothing about a debug build.
                _ if cfg!(debug_assertions) && goal.goal != 0.0 => "not judged",
                true => "reached",
                false => "MISSED",
            };
            let spread = spread(&goal.values);
            lines.push(format!(
                "  {:<62}{:>10.3} [{spread}]  {sign} {} {verdict}",
                goal.what, goal.median, goal.goal
            ));
        }
        lines.join("\n")
    }

    /// Forgets how it was judged, as more is to come.
    pub fn unjudge(&mut self) {
        self.goals.clear();
    }

    /// Tells it, and writes it into `folder` for programs and for people; the latter with the plots that are there.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        test_harness::print_line!("{}", self.table());
        self.write(folder)
    }

    /// Writes it without telling it.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let pages = [(".json", serde_json::to_string_pretty(self)? + "\n"), (".md", self.page(folder)?)];
        for (ending, text) in pages {
            let path = self.path(folder, ending);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// In Markdown.
    fn page(&self, folder: &Path) -> Result<String> {
        let mut page = format!("# {}\n\n{}\n\n", self.name, self.machine.line());
        page += "Medians over the rounds, with the least and the most. Raw figures: ";
        page += &format!("[{0}.json]({0}.json).\n", self.name);
        if !self.about.is_empty() {
            page += &format!("\n{}\n", self.about);
        }
        if !self.goals.is_empty() {
            page += "\n| goal | reached | | |\n|---|--:|---|---|\n";
        }
        for goal in &self.goals {
            let sign = if goal.at_most { "≤" } else { "≥" };
            let verdict = if goal.reached { "yes" } else { "**no**" };
            let spread = spread(&goal.values);
            page += &format!(
                "| {} | {:.3} | {spread} | {sign} {} {verdict} |\n",
                goal.what, goal.median, goal.goal
            );
        }
        page += "\n| scenario | figure | | median | |\n|---|---|---|--:|---|\n";
        for ((scenario, measure), ways) in self.grouped() {
            for one in ways {
                let (median, spread) = (median(&one.rounds), spread(&one.rounds));
                page += &format!("| {scenario} | {measure} | {} | {median:.2} | {spread} |\n", one.way);
            }
        }
        let prefix = format!("{}-", self.name);
        let mut plots: Vec<String> = fs::read_dir(folder)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.strip_suffix(".svg").is_some_and(|name| name.starts_with(&prefix)))
            .collect();
        plots.sort_unstable();
        for plot in plots {
            page += &format!("\n![{plot}]({plot})\n");
        }
        Ok(page)
    }

    fn grouped(&self) -> BTreeMap<(&str, &str), Vec<&Series>> {
        let mut groups: BTreeMap<(&str, &str), Vec<&Series>> = BTreeMap::new();
        for one in &self.series {
            groups.entry((&one.scenario, &one.measure)).or_default().push(one);
        }
        groups
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
        plot::bars(&self.path(folder, &format!("-{file}.svg")), &self.heading(title), &bars)
    }

    /// Writes a plot of one figure of every contestant over scenarios that are named `prefix` and a number, into `folder`.
    /// `axes` names what the number counts, and the figure.
    pub fn lines(
        &self,
        folder: &Path,
        file: &str,
        prefix: &str,
        measure: &str,
        title: &str,
        axes: (&str, &str),
    ) -> Result<()> {
        let mut lines: Vec<Line> = Vec::new();
        for one in self.series.iter().filter(|one| one.measure == measure) {
            let size = one.scenario.strip_prefix(prefix).and_then(|rest| rest.trim().parse::<f64>().ok());
            let Some(size) = size else { continue };
            let point = (size, median(&one.rounds));
            let label = one.way.replace('_', " ");
            match lines.iter_mut().find(|line| line.label == label) {
                Some(line) => line.points.push(point),
                None => lines.push(Line { label, points: vec![point] }),
            }
        }
        plot::lines(&self.path(folder, &format!("-{file}.svg")), &self.heading(title), axes, &lines)
    }

    fn heading<'a>(&self, title: &'a str) -> Heading<'a> {
        Heading { title, machine: self.machine.line() }
    }

    fn path(&self, folder: &Path, ending: &str) -> PathBuf {
        folder.join(format!("{}{ending}", self.name))
    }
}

/// Two figures' ratio in each round.
pub fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

fn spread(values: &[f64]) -> String {
    format!("{:.2} to {:.2}", least(values), most(values))
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
