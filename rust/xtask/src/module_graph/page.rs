//! The page: one drawing for each folder of modules.

use std::fmt::Write as _;

use super::Crates;

const HEAD: &str = "# Modules

Which module depends on which: an arrow means that a file of the one, or of a folder below it, names something in the other.
Between a module and those that it declares there is no arrow. `cargo xtask module-graph` draws this page; `cargo xtask lint`
fails when it is old, and on circles that `rust/xtask/module-circles.txt` does not allow.
";

/// The text of the page.
pub fn page(crates: &Crates) -> String {
    let mut page = HEAD.to_owned();
    for (name, levels) in crates {
        let levels: Vec<_> =
            levels.iter().filter(|(_, level)| level.values().any(|targets| !targets.is_empty())).collect();
        if levels.is_empty() {
            continue;
        }
        // Writing into a String cannot fail.
        let _infallible = writeln!(page, "\n## {name}");
        for (parent, level) in levels {
            if !parent.is_empty() {
                let _infallible = writeln!(page, "\n### {name}: {}", parent.join("::"));
            }
            page.push_str("\n```mermaid\nflowchart LR\n");
            for (from, targets) in level {
                if !targets.is_empty() {
                    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
                    let _infallible = writeln!(page, "    {from} --> {}", targets.join(" & "));
                }
            }
            page.push_str("```\n");
        }
    }
    page
}
