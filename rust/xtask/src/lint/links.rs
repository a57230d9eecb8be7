//! The link check: what the documentation links to or names as a path of the repository exists.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Folders whose pages are checked, beside those in the root.
const FOLDERS: [&str; 4] = ["addons", "demo", "docs", "templates"];
/// The classes, whose documentation names pages of the guide.
const CLASSES: &str = "rust/extension/src";
/// The guide: its pages are rendered without the rest of the repository.
const GUIDE: &str = "docs/src";
/// A code span that begins with one of these is a path.
const PATHS: [&str; 7] = ["addons/", "demo/", "deploy/", "docs/", "godot/", "rust/", "tests/"];

/// Fails on links and paths that lead nowhere.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let mut pages = Vec::new();
    for entry in fs::read_dir(&root)? {
        let path = entry?.path();
        if path.is_file() && is_page(&path) {
            pages.push(path);
        }
    }
    for folder in FOLDERS {
        collect(&root.join(folder), "md", &mut pages)?;
    }
    pages.sort();
    ensure!(pages.len() > 10, "only {} pages found", pages.len());
    let mut findings = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
        let shown = page.strip_prefix(&root).unwrap_or(page).display().to_string();
        for finding in findings_of(&root, page, &text) {
            findings.push(format!("{shown}: {finding}"));
        }
    }
    let mut sources = Vec::new();
    collect(&root.join(CLASSES), "rs", &mut sources)?;
    for source in &sources {
        let text = fs::read_to_string(source)?;
        for path in pages_in_class_docs(&text).filter(|path| !root.join(path).exists()) {
            let shown = source.strip_prefix(&root).unwrap_or(source).display();
            findings.push(format!("{shown}: there is no {path}"));
        }
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

/// The pages of the guide that the classes' documentation names, in the engine's markup.
fn pages_in_class_docs(source: &str) -> impl Iterator<Item = &str> {
    source
        .split("[code]")
        .skip(1)
        .filter_map(|rest| rest.split("[/code]").next())
        .filter(|path| path.starts_with("docs/"))
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The files below `folder` whose names end with `.extension`.
fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && !entry.file_name().to_string_lossy().starts_with('.') {
            collect(&path, extension, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    Ok(())
}

fn findings_of(root: &Path, page: &Path, text: &str) -> Vec<String> {
    let guide = root.join(GUIDE);
    let folder = page.parent().unwrap_or(root);
    let (prose, spans) = split_code(text);
    let mut findings = Vec::new();
    for target in links(&prose) {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let file = if path.is_empty() { page.to_owned() } else { normalized(&folder.join(path)) };
        if !file.exists() {
            findings.push(format!("the link to {target} leads nowhere"));
        } else if page.starts_with(&guide) && !file.starts_with(&guide) {
            findings.push(format!("the link to {target} leads out of the guide: name the path instead"));
        } else if !anchor.is_empty() && is_page(&file) {
            let linked = fs::read_to_string(&file).unwrap_or_default();
            if !headings(&linked).iter().any(|heading| heading == anchor) {
                findings.push(format!("the link to {target} names no heading of that page"));
            }
        }
    }
    for span in spans {
        let is_path = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | '-' | '/' | '.' | '@');
        let named = PATHS.iter().any(|begin| span.starts_with(begin)) && span.chars().all(is_path);
        // Build output is there only after a build.
        if named && !span.contains("/bin/") && !root.join(&span).exists() {
            findings.push(format!("there is no `{span}`"));
        }
    }
    findings
}

/// The targets of links and images to other files.
fn links(prose: &str) -> Vec<&str> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// The text without code, and its code spans. A span may cross lines, but not paragraphs.
fn split_code(text: &str) -> (String, Vec<String>) {
    let (mut prose, mut spans, mut paragraph, mut in_block) =
        (String::new(), Vec::new(), String::new(), false);
    for line in text.lines().chain([""]) {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        if !in_block && !is_fence && !line.trim().is_empty() {
            paragraph += line;
            paragraph.push('\n');
            continue;
        }
        for (index, piece) in paragraph.split('`').enumerate() {
            if index % 2 == 0 { prose += piece } else { spans.push(piece.to_owned()) }
        }
        paragraph.clear();
    }
    (prose, spans)
}

/// The anchors of the headings of a page.
fn headings(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !in_block) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
            anchors.push(kept.map(|one| if one == ' ' { '-' } else { one }).collect());
        }
    }
    anchors
}

/// `path` without `.` and `..`.
fn normalized(path: &Path) -> PathBuf {
    let mut kept = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                kept.pop();
            }
            Component::CurDir => {}
            other => kept.push(other),
        }
    }
    kept
}

#[cfg(test)]
mod tests;
