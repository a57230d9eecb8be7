//! The word check: crates that speak the field's terms do not fall back into words of our own.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// The words, each with the standard term.
const WORDS: &str = include_str!("../../terminology.txt");
/// Folders whose files are checked.
const CONVERTED: [&str; 6] = ["addons", "demo", "godot", "rust", "templates", "tests"];
/// What the names of these files end with.
const ENDINGS: [&str; 3] = ["rs", "gd", "py"];
/// Folders in them that are not ours, or not of this check: links to the addon, what Godot imports, what cargo and fuzzers write.
const SKIPPED: [&str; 4] = ["addons", ".godot", "target", "corpus"];
/// Its own tests name the words.
const OWN_TESTS: &str = "rust/xtask/src/lint/terminology/tests.rs";

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

/// One line of the list.
struct Word<'a> {
    private: &'a str,
    term: &'a str,
    /// Where the word is gone; `None`: everywhere.
    folder: Option<&'a str>,
}

fn parse(list: &str) -> Result<Vec<Word<'_>>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.split('\t');
            let missing = || format!("no tab in the word list: {line}");
            let private = columns.next().with_context(missing)?;
            Ok(Word { private, term: columns.next().with_context(missing)?, folder: columns.next() })
        })
        .collect()
}

fn search(root: &Path, folder: &Path, words: &[Word<'_>], findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.file_name().is_some_and(|name| SKIPPED.iter().any(|skipped| name == *skipped)) {
                search(root, &path, words, findings)?;
            }
        } else if path.extension().is_some_and(|extension| ENDINGS.iter().any(|ending| extension == *ending))
        {
            let text = fs::read_to_string(&path)?;
            let path = path.strip_prefix(root).unwrap_or(&path);
            if path == Path::new(OWN_TESTS) {
                continue;
            }
            let applies = |word: &&Word<'_>| word.folder.is_none_or(|folder| path.starts_with(folder));
            for (number, line) in (1..).zip(text.lines()) {
                for word in words.iter().filter(applies).filter(|word| holds(line, word.private)) {
                    let Word { private, term, .. } = word;
                    let shown = path.display();
                    findings.push(format!("{shown}:{number}: `{private}`: the standard term is {term}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether `line` has `word`, or the constant of that name, as a word of its own, not as a part of a longer identifier. With `*` at
/// its end, `word` is what an identifier begins with.
fn holds(line: &str, word: &str) -> bool {
    let is_snake_case = !word.contains(char::is_uppercase);
    holds_exactly(line, word) || (is_snake_case && holds_exactly(line, &word.to_uppercase()))
}

fn holds_exactly(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let (word, is_beginning) = word.strip_suffix('*').map_or((word, false), |beginning| (beginning, true));
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(is_part) && (is_beginning || !after.starts_with(is_part))
    })
}

#[cfg(test)]
mod tests;
