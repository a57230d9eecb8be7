//! What a run of tests came to: counts read from the tools' own words, and one table.

use std::time::Duration;

/// Tests of one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ran and succeeded.
    pub passed: usize,
    /// Ran and failed, or did not end in time.
    pub failed: usize,
}

impl Counts {
    /// Sums `test result: …` lines of `cargo test`.
    pub fn of_cargo(lines: &[String]) -> Self {
        let mut counts = Self::default();
        for line in lines.iter().filter_map(|line| line.trim_start().strip_prefix("test result: ")) {
            for part in line.split([';', '.']) {
                counts.add(part);
            }
        }
        counts
    }

    /// Reads the `Summary [   1.2s] 5 tests run: 4 passed (1 slow), 1 failed, 0 skipped` line of `cargo nextest`.
    pub fn of_nextest(lines: &[String]) -> Self {
        let mut counts = Self::default();
        let summary = lines.iter().rfind(|line| line.trim_start().starts_with("Summary ["));
        if let Some((_, results)) = summary.and_then(|line| line.split_once(" run: ")) {
            for part in results.split(", ") {
                counts.add(part);
            }
        }
        counts
    }

    /// Reads the last `4 passed, 1 failed` line of the engine's runner; `None` when it never came to it.
    pub fn of_engine(lines: &[String]) -> Option<Self> {
        lines.iter().rev().find_map(|line| {
            let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
            Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
        })
    }

    fn add(&mut self, part: &str) {
        let mut words = part.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<usize>().ok()) else { return };
        match words.collect::<Vec<_>>().as_slice() {
            ["passed", ..] => self.passed += number,
            ["failed", ..] | ["timed", "out", ..] | ["exec", "failed", ..] => self.failed += number,
            _ => {}
        }
    }
}

/// How many tests passed at the second attempt only, by the summary of `cargo nextest`.
pub fn flaky(lines: &[String]) -> usize {
    let summary = lines.iter().rfind(|line| line.trim_start().starts_with("Summary ["));
    let before = summary.and_then(|line| line.split_once(" flaky")).map(|(before, _)| before);
    before.and_then(|before| before.rsplit([' ', '(']).next()?.parse().ok()).unwrap_or(0)
}

/// What a stage came to.
pub enum Outcome {
    /// Its tests ran.
    Ran(Counts),
    /// This machine cannot run it, for this reason: nothing was shown.
    NotRun(String),
}

/// How one stage went.
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its tests.
    pub counts: Counts,
    /// Why it failed, beyond failed tests.
    pub failure: Option<String>,
    /// Why this machine could not run it.
    pub not_run: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Stage {
    /// Whether it failed, in a test or as a whole.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some() || self.counts.failed > 0
    }

    fn result(&self) -> &'static str {
        match (self.has_failed(), &self.not_run) {
            (true, _) => "FAILED",
            (false, Some(_)) => "not run",
            (false, None) => "ok",
        }
    }

    /// Its failed tests; a stage that failed without counting one counts as one.
    fn failures(&self) -> usize {
        if self.has_failed() { self.counts.failed.max(1) } else { 0 }
    }
}

/// The table of all stages, and as its last line exactly `N passed, N failed`.
pub fn report(stages: &[Stage]) -> String {
    let width = stages.iter().map(|stage| stage.name.len()).max().unwrap_or(0).max(5);
    let mut rows = vec![format!("\n{:width$}  result   passed  failed  seconds", "stage")];
    rows.extend(stages.iter().map(|stage| {
        format!(
            "{:width$}  {:7}  {:6}  {:6}  {:7.1}",
            stage.name,
            stage.result(),
            stage.counts.passed,
            stage.failures(),
            stage.took.as_secs_f64(),
        )
    }));
    // The rest of a failure, with the tail of a log, was shown when it came.
    let reasons = stages.iter().filter_map(|stage| {
        let reason = stage.failure.as_ref().or(stage.not_run.as_ref())?;
        Some((&stage.name, reason.lines().next()?))
    });
    rows.extend(reasons.map(|(name, reason)| format!("\n{name}: {reason}")));
    let total = total(stages);
    rows.push(format!("\n{} passed, {} failed", total.passed, total.failed));
    rows.join("\n")
}

/// Counts over all stages.
pub fn total(stages: &[Stage]) -> Counts {
    Counts {
        passed: stages.iter().map(|stage| stage.counts.passed).sum(),
        failed: stages.iter().map(Stage::failures).sum(),
    }
}

#[cfg(test)]
mod tests;
