//! The word check: crates that speak the field's terms do not fall back into words of our own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// The words, each with the standard term.
const WORDS: &str = include_str!("../../private_words.txt");
/// Folders whose Rust files are checked.
const CONVERTED: [&str; 2] = ["rust/protocol", "rust/server"];

/// Fails on the first lines of converted crates that hold a private word.
pub fn check() -> Result<()> {
    let words = parse(WORDS)?;
    let root = workspace::root();
    let mut findings = Vec::new();
    for folder in CONVERTED {
        search(&root, &root.join(folder), &words, &mut findings)?;
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn parse(list: &str) -> Result<Vec<(&str, &str)>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once('\t').with_context(|| format!("no tab in the word list: {line}")))
        .collect()
}

fn search(root: &Path, folder: &Path, words: &[(&str, &str)], findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            search(root, &path, words, findings)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            for (number, line) in (1..).zip(text.lines()) {
                for (word, term) in words.iter().filter(|(word, _)| holds(line, word)) {
                    findings.push(format!("{shown}:{number}: `{word}`: the standard term is {term}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether `line` has `word` as a word of its own, not as a part of a longer identifier.
fn holds(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests;
