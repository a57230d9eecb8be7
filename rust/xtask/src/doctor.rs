//! `cargo xtask doctor`: what is present, what is missing, and how to get it.

use std::process::{Command, ExitCode};

use crate::{browser, cjk_font, display, godot, postgres, process, python, valgrind, workspace};

/// One thing a command needs.
struct Finding {
    what: &'static str,
    needed_for: &'static str,
    /// Where it is, or how to get it.
    state: Result<String, Missing>,
}

enum Missing {
    /// The command that needs it fetches it.
    Fetched(String),
    /// A person has to get it.
    Absent(String),
}

/// Prints the findings; fails when a person has to get something.
pub fn run() -> ExitCode {
    let mut absent = false;
    for finding in findings() {
        let (mark, text) = match &finding.state {
            Ok(text) => ("ok     ", text.clone()),
            Err(Missing::Fetched(text)) => ("fetched", text.clone()),
            Err(Missing::Absent(text)) => {
                absent = true;
                ("MISSING", text.clone())
            }
        };
        println!("{mark}  {:14} {:14} {text}", finding.what, finding.needed_for);
    }
    if absent {
        println!("\nGet what is missing, then run `cargo xtask doctor` again.");
    } else {
        println!("\nNothing is missing. What is marked as fetched comes into target/ when first needed.");
    }
    if absent { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn findings() -> Vec<Finding> {
    let finding = |what, needed_for, state| Finding { what, needed_for, state };
    vec![
        finding("rustc", "everything", version("rustc", "install Rust 1.94 or later from https://rustup.rs")),
        finding("C compiler", "everything", version("cc", "install gcc or clang (Debian: apt-get install gcc libc6-dev)")),
        finding("rustfmt", "fmt, lint", version("rustfmt", "rustup component add rustfmt")),
        finding("clippy", "lint", version("clippy-driver", "rustup component add clippy")),
        finding("gdtoolkit", "lint, optional", gdtoolkit()),
        finding("Godot", "demo, test", engine()),
        finding("PostgreSQL", "test", fetched_from_debian(
            postgres::present().map(|programs| programs.folder().display().to_string()),
            "postgres",
            postgres::HOW_TO_GET,
        )),
        finding("Xvfb", "test, pictures", fetched_from_debian(
            display::present().map(|path| path.display().to_string()),
            "xvfb",
            display::HOW_TO_GET,
        )),
        finding("Chromium", "test", fetched_from_debian(
            browser::present().map(|browser| browser.chromium.display().to_string()),
            "chromium",
            browser::HOW_TO_GET,
        )),
        finding("CJK font", "test", fetched_from_debian(
            cjk_font::present().map(|path| path.display().to_string()),
            "cjk-font",
            cjk_font::HOW_TO_GET,
        )),
        finding("Valgrind", "test, bench", fetched_from_debian(
            valgrind::present().map(|path| path.display().to_string()),
            "valgrind",
            valgrind::HOW_TO_GET,
        )),
        finding("unshare", "test", program("unshare", "install util-linux")),
        finding("ip", "test", program("ip", "install iproute2")),
        finding("setpriv", "test as root", program("setpriv", "install util-linux")),
        finding("cargo-nextest", "test, optional", match workspace::on_path(&["cargo-nextest"]) {
            Some(path) => Ok(path.display().to_string()),
            None => Ok("absent: cargo test is used instead (`cargo install cargo-nextest --locked` for time limits per test)".to_owned()),
        }),
    ]
}

fn version(name: &str, how: &str) -> Result<String, Missing> {
    let mut command = Command::new(name);
    command.arg("--version");
    match process::output(command) {
        Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
        Err(_absent) => Err(Missing::Absent(how.to_owned())),
    }
}

fn program(name: &str, how: &str) -> Result<String, Missing> {
    workspace::on_path(&[name]).map(|path| path.display().to_string()).ok_or(Missing::Absent(how.to_owned()))
}

fn gdtoolkit() -> Result<String, Missing> {
    if let Some(path) = workspace::on_path(&["gdformat"]) {
        return Ok(path.display().to_string());
    }
    let fetched = workspace::provisions().join("gdtoolkit");
    if fetched.join("complete").is_file() {
        return Ok(format!("installed in {}", fetched.display()));
    }
    let mut venv = Command::new("python3");
    venv.args(["-c", "import venv, ensurepip"]);
    if process::output(venv).is_ok() {
        return Err(Missing::Fetched("from PyPI into target/gdtoolkit/".to_owned()));
    }
    Ok(format!("absent: GDScript is not linted; {}", python::HOW_TO_GET))
}

fn engine() -> Result<String, Missing> {
    match godot::present() {
        Ok(Some(engine)) => Ok(format!("{} {}", engine.binary.display(), engine.version)),
        Ok(None) => fetched_from_debian(None, "godot", godot::HOW_TO_GET),
        Err(error) => Err(Missing::Absent(format!("{error:#}; {}", godot::HOW_TO_GET))),
    }
}

/// What is `present`, else whether the distribution's packages are, or can be, unpacked into `target/<folder>`.
fn fetched_from_debian(present: Option<String>, folder: &str, how: &str) -> Result<String, Missing> {
    if let Some(path) = present {
        return Ok(path);
    }
    let folder = workspace::provisions().join(folder);
    if folder.join("complete").is_file() {
        return Ok(format!("unpacked in {}", folder.display()));
    }
    if workspace::on_path(&["apt-get"]).is_some() && workspace::on_path(&["dpkg-deb"]).is_some() {
        return Err(Missing::Fetched(format!("from the distribution's mirror into {}", folder.display())));
    }
    Err(Missing::Absent(how.to_owned()))
}
