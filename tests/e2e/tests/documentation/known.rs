//! The programs that the documentation names, and whether they take what it gives them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backend_settings::{PROCESS_SETTINGS, PROJECT_SETTINGS};
use test_harness::programs;

/// Arguments of games in this repository, which their README files list.
const OF_GAMES: [&str; 1] = ["--port"];

/// The options and variables that the programs know.
pub struct Known {
    backend: PathBuf,
    xtask: PathBuf,
    /// Options of the engine.
    engine: BTreeSet<String>,
    /// Options of a game with the addon, after `--`.
    game: BTreeSet<String>,
    /// All options of all of them.
    pub options: BTreeSet<String>,
    /// Environment variables.
    pub variables: BTreeSet<String>,
}

impl Known {
    pub fn read() -> Result<Self> {
        let (backend, xtask) = (programs::backend_server()?, programs::xtask()?);
        let overrides = PROJECT_SETTINGS.iter().map(|setting| setting.overrides);
        let overrides = overrides.chain(PROCESS_SETTINGS.iter().map(|setting| setting.overrides));
        let overrides: Vec<_> = overrides.collect();
        let arguments = overrides.iter().filter_map(|setting| setting.argument);
        let game: BTreeSet<_> = arguments.chain(OF_GAMES).map(str::to_owned).collect();
        let engine = options(&help(&programs::godot()?, &["--help"])?);
        ensure!(engine.contains("--headless"), "`godot --help` lists no options: {engine:?}");
        let mut of_backend = String::new();
        helps(&backend, &mut Vec::new(), &mut of_backend)?;
        let mut of_xtask = String::new();
        helps(&xtask, &mut Vec::new(), &mut of_xtask)?;
        let of_tools = options(&of_backend).into_iter().chain(options(&of_xtask));
        let mut of_demo = String::new();
        scripts(&programs::workspace().join("demo"), &mut of_demo)?;
        // The demo takes the names of its options apart.
        let of_demo =
            of_demo.split('"').skip(1).step_by(2).map(|word| format!("--{}", word.trim_matches(['-', '='])));
        let of_recipe = fs::read_to_string(programs::workspace().join("deploy/aws-ec2/game_servers.py"))?;
        let of_recipe = of_recipe.split('"').filter(|word| word.starts_with("--")).map(str::to_owned);
        let of_tools = of_tools.chain(of_demo).chain(of_recipe);
        let known = of_tools.chain(engine.clone()).chain(game.clone()).collect();
        let mut variables: BTreeSet<_> =
            overrides.iter().filter_map(|setting| setting.environment).map(str::to_owned).collect();
        let begin = "[env: ";
        variables.extend(
            of_backend
                .split(begin)
                .skip(1)
                .filter_map(|rest| Some(rest.split(['=', ']']).next()?.to_owned())),
        );
        ensure!(
            variables.contains("BACKEND_DATABASE"),
            "the backend's help names no variables: {variables:?}"
        );
        Ok(Self { backend, xtask, engine, game, options: known, variables })
    }

    /// What is wrong with this command, if anything is. `words` begins with the program.
    pub fn check(&self, words: &[&str]) -> Result<(), String> {
        let (program, arguments) = words.split_first().ok_or("no program")?;
        match program.rsplit('/').next().unwrap_or_default() {
            name if name.starts_with("backend-server") => parse(&self.backend, arguments),
            "cargo" => self.check_cargo(arguments),
            "godot" | "game_server.x86_64" => self.check_engine(arguments),
            // Those run another program, named in the middle.
            "docker" | "runuser" | "systemd-run" => {
                match arguments.iter().position(|word| word.ends_with("/backend-server")) {
                    Some(begin) => self.check(&arguments[begin..]),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn check_cargo(&self, arguments: &[&str]) -> Result<(), String> {
        match arguments {
            ["xtask", rest @ ..] => parse(&self.xtask, rest).and_then(|()| match rest {
                ["godot", "--", rest @ ..] => self.check_engine(rest),
                _ => Ok(()),
            }),
            ["run", rest @ ..] => {
                let begin = rest.iter().position(|word| *word == "--").map_or(rest.len(), |at| at + 1);
                if rest.contains(&"backend-server") { parse(&self.backend, &rest[begin..]) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn check_engine(&self, arguments: &[&str]) -> Result<(), String> {
        let mut words = arguments.iter();
        let mut is_addons_script = false;
        for word in words.by_ref().take_while(|word| **word != "--") {
            let name = word.split('=').next().unwrap_or_default();
            if word.starts_with('-') && !self.engine.contains(name) {
                return Err(format!("the engine has no option {name}"));
            }
            if Path::new(word).extension().is_some_and(|extension| extension == "gd") {
                is_addons_script = true;
                if !programs::workspace().join(word).is_file() {
                    return Err(format!("there is no {word}"));
                }
            }
        }
        for word in words.filter(|_| !is_addons_script) {
            let name = word.split('=').next().unwrap_or_default();
            if word.starts_with('-') && !self.game.contains(name) {
                return Err(format!("a game with the addon has no argument {name}"));
            }
        }
        Ok(())
    }
}

/// Has the program itself read the arguments: what comes before `--help` is parsed, and nothing is run.
fn parse(program: &PathBuf, arguments: &[&str]) -> Result<(), String> {
    let end = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let output = Command::new(program)
        .args(&arguments[..end])
        .arg("--help")
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if output.status.success() { Ok(()) } else { Err(why) }
}

fn help(program: &PathBuf, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{} {arguments:?}: {}", program.display(), output.status);
    // The engine colours its help.
    let text = String::from_utf8(output.stdout)?;
    let mut plain = String::new();
    let mut pieces = text.split('\u{1b}');
    plain += pieces.next().unwrap_or_default();
    for piece in pieces {
        plain += piece.split_once('m').map_or("", |(_, rest)| rest);
    }
    Ok(plain)
}

/// The help of the program and of all its sub-commands.
fn helps(program: &PathBuf, command: &mut Vec<String>, text: &mut String) -> Result<()> {
    let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    arguments.push("--help");
    let own = help(program, &arguments)?;
    let listed = own.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let names: Vec<String> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    *text += &own;
    for name in names {
        command.push(name);
        helps(program, command, text).with_context(|| command.join(" "))?;
        command.pop();
    }
    Ok(())
}

/// The scripts of a project, without the addon.
fn scripts(folder: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // The addon is a link.
        if entry.file_type()?.is_dir() {
            scripts(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "gd") {
            *text += &fs::read_to_string(&path)?;
        }
    }
    Ok(())
}

/// The options in a help or in a script.
fn options(help: &str) -> BTreeSet<String> {
    let is_part = |one: char| one.is_ascii_alphanumeric() || one == '-';
    let words = help.split(|one: char| !is_part(one));
    words.filter(|word| word.len() > 1 && word.starts_with('-')).map(str::to_owned).collect()
}
