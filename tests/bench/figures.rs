//! What was measured: a table for people, JSON for programs.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

/// Times of one kind.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds the time from `begin` to each moment.
    pub fn add_all(&mut self, begin: Instant, moments: &[Instant]) {
        self.0.extend(moments.iter().map(|moment| *moment - begin));
    }

    /// The time that `share` (0 to 1) of them do not exceed, in milliseconds; the nearest rank.
    pub fn quantile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).map_or(f64::NAN, |time| milliseconds(*time))
    }
}

/// For the table and the JSON.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One figure.
#[derive(Serialize)]
struct Figure {
    part: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    /// The largest value that reaches the goal.
    goal: Option<f64>,
}

/// All figures of a run.
#[derive(Serialize)]
pub struct Report {
    build: String,
    quick: bool,
    cores: usize,
    figures: Vec<Figure>,
}

impl Report {
    /// None yet.
    pub fn new(build: &str, quick: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { build: build.to_owned(), quick, cores, figures: Vec::new() }
    }

    /// Adds a figure without a goal.
    pub fn add(&mut self, part: &'static str, what: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { part, what: what.into(), value, unit, goal: None });
    }

    /// Adds a figure that is to be at most `goal`.
    pub fn add_with_goal(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        goal: f64,
    ) {
        self.figures.push(Figure { part, what: what.into(), value, unit, goal: Some(goal) });
    }

    /// Adds median and 99th percentile.
    pub fn add_times(&mut self, part: &'static str, what: &str, times: &mut Times) {
        self.add(part, format!("{what}, p50"), times.quantile(0.5), "ms");
        self.add(part, format!("{what}, p99"), times.quantile(0.99), "ms");
    }

    /// Whether every goal is reached. NaN, of nothing measured, reaches none.
    pub fn is_met(&self) -> bool {
        let judged = |figure: &&Figure| figure.goal.is_some_and(|goal| self.judges(goal));
        self.figures.iter().filter(judged).all(|figure| figure.goal.is_some_and(|goal| figure.value <= goal))
    }

    /// Of a quick run, only what must hold at any speed is judged: goals of zero.
    fn judges(&self, goal: f64) -> bool {
        !self.quick || goal == 0.0
    }

    /// For people.
    pub fn table(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.what.len()).max().unwrap_or_default();
        let mut lines = vec![format!("{}, {} cores", self.build, self.cores)];
        let mut part = "";
        for figure in &self.figures {
            if figure.part != part {
                part = figure.part;
                lines.push(format!("\n{part}"));
            }
            let goal = figure.goal.map_or_else(String::new, |goal| {
                let verdict = match figure.value <= goal {
                    _ if !self.judges(goal) => "",
                    true => "reached",
                    false => "MISSED",
                };
                format!("  goal {goal} {verdict}")
            });
            let line = format!("  {:width$}  {:>12.3} {:5}{goal}", figure.what, figure.value, figure.unit);
            lines.push(line.trim_end().to_owned());
        }
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}
