//! The pages, their code blocks and what else they have in code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use test_harness::programs;

/// Pages and folders of pages, relative to the workspace.
const PLACES: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "addons/backend_client/README.md",
    "demo/README.md",
    "deploy",
    "docs/src",
    "templates",
];
const FENCE: &str = "```";

/// A page of the documentation.
pub struct Page {
    /// Relative to the workspace.
    pub path: String,
    pub text: String,
}

/// A block of code.
pub struct Block {
    /// Line of the page with its first line, from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
    /// The paragraph before it.
    pub before: String,
    /// The paragraph after it.
    pub after: String,
}

/// Code within a sentence or a table.
pub struct Span {
    pub line: usize,
    pub text: String,
}

/// Every page.
pub fn pages() -> Result<Vec<Page>> {
    let mut files = Vec::new();
    for place in PLACES {
        collect(&programs::workspace().join(place), &mut files)?;
    }
    files.sort();
    ensure!(files.len() > 40, "only {} pages were found", files.len());
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(programs::workspace()).unwrap_or(file).display().to_string();
        Ok(Page { path, text: fs::read_to_string(file).with_context(|| file.display().to_string())? })
    };
    files.iter().map(read).collect()
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if place.is_file() {
        files.push(place.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(place).with_context(|| format!("no {}", place.display()))? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "md") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

impl Page {
    /// One page of the guide.
    pub fn of_guide(name: &str) -> Result<Self> {
        let path = format!("docs/src/{name}");
        let text = fs::read_to_string(programs::workspace().join(&path))?;
        Ok(Self { path, text })
    }

    /// The blocks of code, without the indentation that they have in lists.
    pub fn blocks(&self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let is_fence = |line: &&str| line.trim_start().starts_with(FENCE);
        let mut blocks = Vec::new();
        let mut at = 0;
        while let Some(begin) = lines[at..].iter().position(is_fence).map(|found| at + found) {
            let Some(length) = lines[begin + 1..].iter().position(is_fence) else { break };
            let end = begin + 1 + length;
            let indent = lines[begin].len() - lines[begin].trim_start().len();
            let content = lines[begin + 1..end].iter();
            let content = content.map(|line| line.get(indent..).unwrap_or_else(|| line.trim_start()));
            blocks.push(Block {
                line: begin + 2,
                language: lines[begin].trim().trim_start_matches('`').to_owned(),
                text: content.flat_map(|line| [line, "\n"]).collect(),
                before: paragraph(lines[..begin].iter().rev())
                    .into_iter()
                    .rev()
                    .collect::<Vec<_>>()
                    .join(" "),
                after: paragraph(lines[end + 1..].iter()).join(" "),
            });
            at = end + 1;
        }
        blocks
    }

    /// What is code outside of blocks.
    pub fn spans(&self) -> Vec<Span> {
        let mut in_block = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            let is_fence = line.trim_start().starts_with(FENCE);
            in_block ^= is_fence;
            prose += if in_block || is_fence { "" } else { line };
            prose.push('\n');
        }
        // A span may cross lines, but not paragraphs.
        let mut spans = Vec::new();
        let mut line = 1;
        for paragraph in prose.split_inclusive("\n\n") {
            for (index, piece) in paragraph.split('`').enumerate() {
                if index % 2 == 1 {
                    spans.push(Span { line, text: piece.replace('\n', " ") });
                }
                line += piece.matches('\n').count();
            }
        }
        spans
    }
}

/// The lines up to the first empty one, past empty ones at the beginning.
fn paragraph<'a>(lines: impl Iterator<Item = &'a &'a str>) -> Vec<&'a str> {
    lines
        .map(|line| line.trim())
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty() && !line.starts_with(FENCE) && !line.starts_with('#'))
        .collect()
}

#[test]
fn blocks_and_spans_are_found_with_their_lines() {
    let text = "# Title\n\nWrite `a.gd`:\n\n1. Run\n   it:\n\n   ```sh\n   one\n     two\n   ```\n\n   It prints `three\n   four`.\n\n`five`\n";
    let page = Page { path: "page.md".to_owned(), text: text.to_owned() };
    let blocks = page.blocks();
    assert_eq!(blocks.len(), 1);
    let block = &blocks[0];
    assert_eq!((block.line, block.language.as_str(), block.text.as_str()), (9, "sh", "one\n  two\n"));
    assert_eq!((block.before.as_str(), block.after.as_str()), ("1. Run it:", "It prints `three four`."));
    let spans: Vec<_> = page.spans().into_iter().map(|span| (span.line, span.text)).collect();
    let expected = [(3, "a.gd"), (13, "three    four"), (16, "five")];
    assert_eq!(spans, expected.map(|(line, text)| (line, text.to_owned())));
}
