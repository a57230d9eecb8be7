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
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn sums_the_results_of_cargo_test() {
        let output = "running 3 tests\ntest a ... ok\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
            test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        assert_eq!(Counts::of_cargo(&lines(output)), Counts { passed: 5, failed: 4 });
    }

    #[test]
    fn reads_the_summary_of_nextest() {
        let good = "     Summary [   0.005s] 7 tests run: 7 passed, 0 skipped";
        assert_eq!(Counts::of_nextest(&lines(good)), Counts { passed: 7, failed: 0 });
        let bad = "        PASS [   0.1s] (1/9) x y\n     Summary [  62.0s] 9/12 tests run: 5 passed (2 slow, 1 leaky), 2 failed, \
                   1 exec failed, 1 timed out, 3 skipped";
        assert_eq!(Counts::of_nextest(&lines(bad)), Counts { passed: 5, failed: 4 });
        let flaky = "     Summary [   3.000s] 7 tests run: 7 passed (1 slow, 3 flaky), 1 skipped";
        assert_eq!(Counts::of_nextest(&lines(flaky)), Counts { passed: 7, failed: 0 });
        assert_eq!((super::flaky(&lines(flaky)), super::flaky(&lines(good))), (3, 0));
    }

    #[test]
    fn reads_the_last_line_of_the_engine_runner() {
        assert_eq!(
            Counts::of_engine(&lines("ok   a::b\n3 passed, 1 failed\nWARNING: x")),
            Some(Counts { passed: 3, failed: 1 })
        );
        assert_eq!(Counts::of_engine(&lines("ok   a::b\nSegmentation fault")), None);
    }

    #[test]
    fn a_stage_that_broke_counts_as_one_failure() {
        let stage = |passed, failed, failure: Option<&str>| Stage {
            name: "stage".to_owned(),
            counts: Counts { passed, failed },
            failure: failure.map(str::to_owned),
            not_run: None,
            took: Duration::ZERO,
        };
        let stages =
            [stage(3, 0, None), stage(0, 0, Some("no database")), stage(1, 2, Some("exit code 100"))];
        assert_eq!(total(&stages), Counts { passed: 4, failed: 3 });
        let text = report(&stages);
        assert_eq!(text.lines().last(), Some("4 passed, 3 failed"));
        assert!(text.contains("no database"));
    }

    #[test]
    fn a_stage_that_could_not_run_says_so() {
        let stage = Stage {
            name: "powercut".to_owned(),
            counts: Counts::default(),
            failure: None,
            not_run: Some("needs root".to_owned()),
            took: Duration::ZERO,
        };
        let text = report(&[stage]);
        assert!(text.contains("not run"), "{text}");
        assert!(text.contains("powercut: needs root"), "{text}");
    }
}
