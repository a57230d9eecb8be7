//! `cargo xtask module-graph`: which module depends on which, as a page for people; and the check that no circle is added.

mod graph;
mod page;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::graph::{Levels, circle, levels};
use self::source::Modules;
use crate::{process, workspace};

/// The page, below the workspace.
const PAGE: &str = "docs/internal/module-graph.md";
/// The list of edges that may close a circle, below the workspace.
const ALLOWED: &str = "rust/xtask/module-circles.txt";
/// Kinds of cargo's targets that are not part of a product or a program.
const LEFT_OUT: [&str; 4] = ["test", "bench", "example", "custom-build"];

/// Crate → its levels. A package with several programs has one entry for each.
type Crates = BTreeMap<String, Levels>;

/// In the list: whatever the module depends on.
const ALL: &str = "*";

/// An edge that may close a circle.
#[derive(Debug, PartialEq, Eq)]
struct Allowed {
    /// Crate and modules, such as `backend-client::player_store`.
    level: String,
    from: String,
    to: String,
}

/// Writes the page.
pub fn draw() -> Result<()> {
    let path = workspace::root().join(PAGE);
    fs::create_dir_all(path.parent().context("the page is in a folder")?)?;
    fs::write(&path, page::page(&crates()?)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// Fails on a circle that the list does not allow, on a line of the list that nothing needs, and on a page that is old.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let list = fs::read_to_string(root.join(ALLOWED)).context(ALLOWED)?;
    let crates = crates()?;
    let findings = findings(&crates, &parse(&list)?);
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    let drawn = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    ensure!(
        drawn == page::page(&crates),
        "{PAGE} is not what the sources say: `cargo xtask module-graph` draws it"
    );
    Ok(())
}

/// What is wrong with the graph.
fn findings(crates: &Crates, allowed: &[Allowed]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut needed = vec![false; allowed.len()];
    for (name, levels) in crates {
        for (parent, level) in levels {
            let at = [std::slice::from_ref(name), parent.as_slice()].concat().join("::");
            let mut level = level.clone();
            for (index, edge) in allowed.iter().enumerate().filter(|(_, edge)| edge.level == at) {
                let Some(targets) = level.get_mut(&edge.from) else { continue };
                needed[index] |= match edge.to.as_str() {
                    ALL => !std::mem::take(targets).is_empty(),
                    one => targets.remove(one),
                };
            }
            if let Some(circle) = circle(&level) {
                let first = circle.first().cloned().unwrap_or_default();
                findings.push(format!("{at}: a circle: {} -> {first}", circle.join(" -> ")));
            }
        }
    }
    for (edge, _) in allowed.iter().zip(&needed).filter(|(_, needed)| !**needed) {
        findings
            .push(format!("{ALLOWED}: {}: {} -> {} is not there any more", edge.level, edge.from, edge.to));
    }
    findings
}

fn parse(list: &str) -> Result<Vec<Allowed>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [level, from, to, reason] if !reason.is_empty() => {
                Ok(Allowed { level: level.to_owned(), from: from.to_owned(), to: to.to_owned() })
            }
            _ => bail!("{ALLOWED}: not level, module, module and reason, with tabs between: {line}"),
        })
        .collect()
}

/// The crates of the workspace.
fn crates() -> Result<Crates> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--no-deps", "--format-version=1", "--offline"]);
    let metadata: Value = serde_json::from_str(&process::output(command)?).context("cargo metadata")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut crates = Crates::new();
    for target in list(&metadata["packages"]).iter().flat_map(|package| list(&package["targets"])) {
        let is_left_out = |kind: &Value| LEFT_OUT.iter().any(|left_out| kind == left_out);
        if list(&target["kind"]).iter().any(is_left_out) {
            continue;
        }
        let (name, root) = (target["name"].as_str(), target["src_path"].as_str());
        let name = name.context("a target without a name")?.replace('_', "-");
        let root = PathBuf::from(root.context("a target without a file")?);
        let modules = Modules::of_crate(&root).with_context(|| name.clone())?;
        // A program over the library of its own package.
        let name = if crates.contains_key(&name) { format!("{name} (program)") } else { name };
        crates.insert(name, levels(&modules));
    }
    Ok(crates)
}

#[cfg(test)]
mod tests;
