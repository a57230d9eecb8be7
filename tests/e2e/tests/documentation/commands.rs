//! Every command line of the documentation: the program, its sub-commands, options and variables exist.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use test_harness::programs;

use crate::known::Known;
use crate::text::{Block, Page, pages};

/// Every program that the documentation may call. What it says to these is checked in [`Known::check`] as far as it can be.
const PROGRAMS: [&str; 26] = [
    "apt-get",
    "aws",
    "az",
    "backend-server",
    "cargo",
    "cp",
    "curl",
    "date",
    "docker",
    "godot",
    "install",
    "mkdir",
    "mv",
    "pip",
    "python3",
    "rm",
    "runuser",
    "sha256sum",
    "sqlite3",
    "systemctl",
    "systemd-run",
    "systemd-sysusers",
    "terraform",
    "touch",
    "unzip",
    "mdbook",
];
/// Programs of the working folder: those of the packages and of exports.
const LOCAL: [&str; 4] = [
    "./backend-server",
    "./game_server.x86_64",
    "addons/backend_client/bin/backend-server.linux-x86_64",
    "../pond/addons/backend_client/bin/backend-server.linux-x86_64",
];
/// Where commands are run, beside the working folder.
const FOLDERS: [&str; 9] = [
    "deploy/aws-ec2",
    "deploy/aws-ecs",
    "deploy/azure",
    "deploy/docker",
    "deploy/systemd",
    "addons/backend_client/bin",
    "pond",
    "../backend",
    "../pond/addons/backend_client/bin",
];
/// Blocks of these languages are command lines; those without one are, if they begin with a program.
const SHELL: &str = "sh";
/// Writes down with what it was called: the line, the words, the variables, the folder.
const RECORDER: &str = r#"#!/bin/bash
{ printf '%s\0' "$DOCUMENTATION_LINE" "$PWD" "$(export -p)" "$0" "$@"; printf '\1\0'; } >> "$DOCUMENTATION_RECORD"
"#;
/// Runs a block with nothing but recorders on the PATH.
const RUNNER: &str = r#"
set -T
command_not_found_handle() {
    { printf '%s\0' "$DOCUMENTATION_LINE" "$PWD" "" "unknown program" "$1"; printf '\1\0'; } >> "$DOCUMENTATION_RECORD"
}
trap '[[ ${FUNCNAME[0]-} == command_not_found_handle ]] || export DOCUMENTATION_LINE=$LINENO' DEBUG
. "$DOCUMENTATION_BLOCK"
"#;

/// One call of a program.
struct Call {
    /// Line within the block, from 1.
    line: usize,
    folder: String,
    exports: String,
    words: Vec<String>,
}

#[test]
fn every_command_line_is_one_that_its_program_takes() -> Result<()> {
    let known = Known::read()?;
    let mut findings = Vec::new();
    let mut count = 0;
    for page in pages()? {
        for block in page.blocks().into_iter().filter(is_shell) {
            let (calls, found) = findings_of(&known, &page, &block)?;
            count += calls;
            findings.extend(found);
        }
    }
    ensure!(count > 60, "only {count} commands were found");
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

#[test]
fn every_command_option_and_variable_in_a_sentence_exists() -> Result<()> {
    let known = Known::read()?;
    let mut findings = Vec::new();
    let mut count = 0;
    for page in pages()? {
        for span in page.spans() {
            let Some(wrong) = wrong_in_span(&known, &span.text) else { continue };
            count += 1;
            if let Err(wrong) = wrong {
                findings.push(format!("{}:{}: `{}`: {wrong}", page.path, span.line, span.text));
            }
        }
    }
    ensure!(count > 200, "only {count} commands, options and variables were found");
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_command_line_is_reported_with_page_and_line() -> Result<()> {
    let known = Known::read()?;
    let wrong = [
        ("backend-server serv", 1, "serv"),
        ("mkdir x && backend-server serve --server-key-fil server.key", 1, "--server-key-fil"),
        ("cd deploy/docker\nbackend-server serve \\\n  --listen nowhere", 2, "nowhere"),
        ("docker compose exec backend /bin/backend-server admin-keys make", 1, "make"),
        ("cargo xtask pakage", 1, "pakage"),
        ("cargo run -p backend-server -- serve --no-such-option", 1, "--no-such-option"),
        ("cargo xtask godot -- --headles --path demo", 1, "--headles"),
        ("BACKEND_SERVER_KEYS=x godot --headless", 1, "BACKEND_SERVER_KEYS"),
        ("export BACKEND_URI=http://127.0.0.1:8420\ngodot", 2, "BACKEND_URI"),
        ("godot -- --backend-profil=ada", 1, "--backend-profil"),
        ("godot --script addons/backend_client/no_such.gd -- build/", 1, "no_such.gd"),
        ("gotod --headless", 1, "gotod"),
        ("systemctl start backend-servers", 1, "backend-servers"),
        ("cd deploy/systemd\ninstall -m 644 no-such.service /etc/systemd/system/", 2, "no-such.service"),
        ("echo 'unfinished", 1, "unexpected EOF"),
    ];
    for (text, line, part) in wrong {
        let page = Page { path: "page.md".to_owned(), text: format!("```sh\n{text}\n```\n") };
        let mut findings = Vec::new();
        for block in page.blocks() {
            findings.extend(findings_of(&known, &page, &block)?.1);
        }
        let begin = format!("page.md:{}: ", line + 1);
        ensure!(
            findings.iter().any(|finding| finding.starts_with(&begin) && finding.contains(part)),
            "{text}: {findings:?}"
        );
    }
    for span in ["backend-server keys mak", "cargo xtask biuld", "--no-such-option", "BACKEND_NO_SUCH"] {
        ensure!(wrong_in_span(&known, span).is_some_and(|found| found.is_err()), "{span} passes");
    }
    Ok(())
}

fn is_shell(block: &Block) -> bool {
    let begins = |program: &&str| block.text.starts_with(&format!("{program} "));
    block.language == SHELL || (block.language.is_empty() && PROGRAMS.iter().any(begins))
}

/// The number of commands in a block, and what is wrong with them.
fn findings_of(known: &Known, page: &Page, block: &Block) -> Result<(usize, Vec<String>)> {
    let place = |line: usize| format!("{}:{}", page.path, block.line + line.max(1) - 1);
    let (calls, complaint) = calls(block)?;
    let mut findings = Vec::new();
    if !complaint.is_empty() {
        findings.push(format!("{}: {}", place(1), complaint.replace('\n', " ")));
    }
    for call in &calls {
        if let Err(wrong) = check(known, call) {
            findings.push(format!("{}: {wrong}", place(call.line)));
        }
    }
    Ok((calls.len(), findings))
}

/// Has bash read the block, with recorders in the place of all programs.
fn calls(block: &Block) -> Result<(Vec<Call>, String)> {
    let folder = tempfile::tempdir()?;
    let recorders = folder.path().join("programs");
    let home = folder.path().join("home");
    fs::create_dir_all(&recorders)?;
    for inner in FOLDERS {
        fs::create_dir_all(home.join(inner))?;
    }
    fs::create_dir_all(&home)?;
    for program in PROGRAMS {
        write_program(&recorders.join(program))?;
    }
    for program in LOCAL {
        write_program(&home.join(program))?;
    }
    let (file, record) = (folder.path().join("block.sh"), folder.path().join("record"));
    fs::write(&file, &block.text)?;
    fs::write(&record, "")?;
    let output = Command::new("/bin/bash")
        .args(["--noprofile", "--norc", "-c", RUNNER])
        .current_dir(&home)
        .env_clear()
        .env("PATH", &recorders)
        .env("DOCUMENTATION_BLOCK", &file)
        .env("DOCUMENTATION_RECORD", &record)
        .output()?;
    let text = fs::read_to_string(&record)?;
    let calls = text.split("\u{1}\0").filter(|call| !call.is_empty()).map(|call| {
        let mut parts = call.trim_end_matches('\0').split('\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (line, folder, exports) = (next().parse().unwrap_or(1), next(), next());
        Call { line, folder, exports, words: parts.collect() }
    });
    let calls: Vec<_> = calls.collect();
    Ok((calls, String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn write_program(path: &Path) -> Result<()> {
    fs::write(path, RECORDER)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn check(known: &Known, call: &Call) -> Result<(), String> {
    let words: Vec<&str> = call.words.iter().map(String::as_str).collect();
    let program = words[0].rsplit('/').next().unwrap_or_default();
    if words[0] == "unknown program" {
        return Err(format!("{} is no program that this test knows", words[1]));
    }
    for line in call.exports.lines() {
        let Some(name) = line.strip_prefix("declare -x BACKEND_") else { continue };
        let name = format!("BACKEND_{}", name.split('=').next().unwrap_or_default());
        if !known.variables.contains(&name) {
            return Err(format!("no program reads {name}"));
        }
    }
    let file = |path: &str| {
        let folder = call.folder.split("/home/").nth(1).unwrap_or_default();
        let file = programs::workspace().join(folder).join(path);
        if file.is_file() { Ok(()) } else { Err(format!("there is no {folder}/{path}")) }
    };
    match program {
        "systemctl" => {
            words[2..].iter().filter(|unit| !unit.starts_with('-')).try_for_each(|unit| unit_exists(unit))
        }
        "install" | "cp" if call.folder.contains("/deploy/") => {
            let own =
                words[1..words.len() - 1].iter().filter(|word| word.contains('.') && !word.contains('/'));
            own.copied().try_for_each(file)
        }
        // A script of the folder, or an example of the guide.
        "python3" if call.folder.contains("/deploy/") => file(words[1]),
        "python3" => {
            let script = programs::workspace().join("docs/src/examples").join(words[1]);
            if script.is_file() { Ok(()) } else { Err(format!("there is no docs/src/examples/{}", words[1])) }
        }
        _ => known.check(&words),
    }
}

/// A unit of `deploy/systemd`, or one of a package that the guide installs.
fn unit_exists(unit: &str) -> Result<(), String> {
    let (name, instance) = unit.split_once('@').map_or((unit, ""), |(name, _)| (name, "@"));
    let folder = programs::workspace().join("deploy/systemd");
    let candidates = [unit.to_owned(), format!("{name}{instance}.service")];
    if ["caddy", "postgresql"].contains(&unit) || candidates.iter().any(|file| folder.join(file).is_file()) {
        Ok(())
    } else {
        Err(format!("deploy/systemd has no unit {unit}"))
    }
}

/// What is wrong with a span; `None` if it is no command, option or variable.
fn wrong_in_span(known: &Known, span: &str) -> Option<Result<(), String>> {
    let words: Vec<&str> = span.split_whitespace().collect();
    match words.as_slice() {
        ["backend-server" | "./backend-server", _, ..] | ["cargo", "xtask", ..] => {
            // What the reader puts in: `FILE…`, `[--seed S]`.
            let given = words.iter().filter_map(|word| {
                let plain = word.trim_matches(['[', ']']);
                let is_placeholder = plain.contains('…') || plain.chars().all(|one| one.is_ascii_uppercase());
                match (is_placeholder, *word == "…" || word.starts_with('[')) {
                    (true, true) => None,
                    (true, false) => Some("1"),
                    (false, _) => Some(plain),
                }
            });
            let given: Vec<&str> = given.collect();
            Some(known.check(&given))
        }
        [option, ..] if option.starts_with("--") && option.len() > 3 => {
            let name = option.split(['=', ',']).next().unwrap_or_default();
            Some(if known.options.contains(name) {
                Ok(())
            } else {
                Err(format!("no program has the option {name}"))
            })
        }
        [variable] if variable.starts_with("BACKEND_") && !variable.ends_with('_') => {
            let name = variable.split('=').next().unwrap_or_default();
            let is_known = known.variables.contains(name) || OF_THE_EDITOR.contains(&name);
            Some(if is_known { Ok(()) } else { Err(format!("no program reads {name}")) })
        }
        _ => None,
    }
}

/// Variables that only the plugin of the editor reads.
const OF_THE_EDITOR: [&str; 1] = ["BACKEND_SERVER_PROGRAM"];
