//! `cargo xtask fmt` and `cargo xtask lint`: Rust with the toolchain's own tools, GDScript with gdtoolkit.

mod links;
mod terminology;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{interrupt, module_graph, process, python, settings, workspace};

/// Pinned: a new release must not turn a green tree red.
const GDTOOLKIT: &str = "gdtoolkit==4.5.0";
const PROJECTS: [&str; 6] = ["addons", "demo", "godot", "templates", "tests/fixtures", "tests/bench"];

/// Formats everything in place.
pub fn format() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["fmt", "--all"]);
    process::run("cargo fmt", command)?;
    gdscript("gdformat", &[])
}

/// Runs all checks, or those whose names contain a word of `only`; changes nothing.
pub fn run(only: &[String]) -> Result<()> {
    let cargo = |what: &str, arguments: &[&str]| {
        let mut command = workspace::cargo();
        command.args(arguments);
        process::run(what, command)
    };
    let checks: [(&str, &dyn Fn() -> Result<()>); 9] = [
        ("terminology", &terminology::check),
        ("module graph", &module_graph::check),
        ("links", &links::check),
        ("settings", &settings::check),
        ("cargo fmt --check", &|| cargo("cargo fmt", &["fmt", "--all", "--check"])),
        ("cargo clippy", &|| {
            cargo("cargo clippy", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        }),
        // They are a workspace of their own: a change of what they use makes it stale, and nobody else notices.
        ("lock file of the fuzz targets", &|| {
            let manifest = ["--manifest-path", "rust/fuzz/Cargo.toml"];
            cargo("cargo update", &[&["update", "--workspace", "--locked"], &manifest[..]].concat())
        }),
        ("gdformat --check", &|| gdscript("gdformat", &["--check"])),
        ("gdlint", &|| gdscript("gdlint", &[])),
    ];
    let selected = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let selected: Vec<_> = checks.into_iter().filter(|(name, _)| selected(name)).collect();
    ensure!(!selected.is_empty(), "no check is called {}", only.join(" or "));
    let mut failed = Vec::new();
    for (name, check) in selected {
        interrupt::check()?;
        println!("== {name}");
        if let Err(error) = check() {
            println!("{error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}; `cargo xtask fmt` formats", failed.join(", "));
    Ok(())
}

fn gdscript(tool: &str, arguments: &[&str]) -> Result<()> {
    let program = match tool_path(tool) {
        Ok(program) => program,
        // Not everybody who changes Rust has Python; what is not checked is said.
        Err(error) => {
            println!("GDScript is NOT checked with {tool}: {error:#}");
            return Ok(());
        }
    };
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).args(arguments).args(scripts()?);
    process::run(tool, command)
}

/// The tool on the PATH, or one installed into `target/gdtoolkit/`.
fn tool_path(tool: &str) -> Result<PathBuf> {
    if let Some(path) = workspace::on_path(&[tool]) {
        return Ok(path);
    }
    Ok(python::environment("gdtoolkit", GDTOOLKIT)?.join(tool))
}

/// Every script we wrote, relative to the workspace.
fn scripts() -> Result<Vec<PathBuf>> {
    let root = workspace::root();
    let mut found = Vec::new();
    for project in PROJECTS {
        collect(&root.join(project), &mut found)?;
    }
    found.sort();
    Ok(found.iter().filter_map(|path| path.strip_prefix(&root).ok().map(Path::to_owned)).collect())
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        // The addon is linked into the projects: links are not followed, so each script is seen once.
        let kind = entry.file_type()?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() && !hidden && entry.file_name() != "export" {
            collect(&path, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "gd") {
            found.push(path);
        }
    }
    Ok(())
}
