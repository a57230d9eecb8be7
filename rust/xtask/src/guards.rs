//! What is counted instead of timed, held to checked-in numbers: the same on a machine that is busy or slow.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{process, valgrind, workspace};

/// The numbers, below the workspace.
const NUMBERS: &str = "tests/bench/guards.toml";
const ALGORITHMS: [&str; 3] = ["EdDSA", "ES256", "RS256"];
/// Tokens judged in the shorter and in the longer run: beginning and end of the program are in both.
const SHORT: u64 = 20;
const LONG: u64 = 120;
/// By how many per cent instructions may differ from the number: another compiler makes other code.
const TOLERANCE: u64 = 10;

/// Counts what a token check costs; false if it is not what the checked-in numbers say.
pub fn hold() -> Result<bool> {
    let program = built()?;
    let text = fs::read_to_string(workspace::root().join(NUMBERS)).context(NUMBERS)?;
    let mut held = true;
    let mut counted_allocations = Command::new(&program);
    counted_allocations.arg("allocations");
    let allocations: Value = serde_json::from_str(&process::output(counted_allocations)?)?;
    let valgrind = valgrind::provide()?;
    for algorithm in ALGORITHMS {
        let run =
            |how: &str, count: u64| valgrind.instructions(&program, &[how, algorithm, &count.to_string()]);
        // Nothing but the signature is checked in the second difference: what remains is ours.
        let whole = run("strict", LONG)?.abs_diff(run("strict", SHORT)?);
        let bare = run("bare", LONG)?.abs_diff(run("bare", SHORT)?);
        let found = whole.saturating_sub(bare) / (LONG - SHORT);
        let name = algorithm.to_lowercase();
        held &=
            judge(&text, &format!("token_instructions_{name}_{}", std::env::consts::ARCH), found, TOLERANCE)?;
        let found = allocations[algorithm].as_u64().context("allocations were not counted")?;
        held &= judge(&text, &format!("token_allocations_{name}"), found, 0)?;
    }
    Ok(held)
}

/// Whether `found` is within `tolerance` per cent of the number of this name, which it says in the number's own spelling.
fn judge(text: &str, name: &str, found: u64, tolerance: u64) -> Result<bool> {
    let expected = number(text, name).with_context(|| {
        format!("{NUMBERS} has no number of this name; what was found is\n{name} = {found}")
    })?;
    let is_held = found.abs_diff(expected) * 100 <= expected * tolerance;
    let verdict = if is_held { "as it should be" } else { "NOT as it should be" };
    println!("{name} = {found}  ({expected} ± {tolerance} %: {verdict})");
    if !is_held && found < expected {
        println!("  less than before: write it into {NUMBERS}, so that it stays so");
    }
    Ok(is_held)
}

/// The number after `name =`.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        if key.trim() == name { value.trim().parse().ok() } else { None }
    })
}

/// The program that does nothing but judge tokens. Optimised: what a debug build executes says little.
fn built() -> Result<PathBuf> {
    println!("building the program whose instructions are counted");
    let mut command = workspace::cargo();
    command.args(["build", "--package", "backend-token", "--example", "cost", "--profile", "measured"]);
    process::run("building what is counted", command)?;
    let program = workspace::target().join("measured/examples").join("cost");
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a_number = 1\na_number = 100\nanother=7\n";

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        assert_eq!(number(TEXT, "a_number"), Some(100));
        assert_eq!(number(TEXT, "another"), Some(7));
        assert_eq!(number(TEXT, "number"), None);
    }

    #[test]
    fn what_is_more_or_less_than_the_tolerance_is_not_held() {
        let held = |found, tolerance| judge(TEXT, "a_number", found, tolerance).expect("a number");
        assert!(held(110, 10) && held(90, 10) && held(100, 0));
        assert!(!held(111, 10) && !held(89, 10) && !held(101, 0) && !held(99, 0));
        assert!(judge(TEXT, "missing", 1, 10).is_err());
    }
}
