//! Valgrind, which counts the instructions of a program.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, Installed, Wanted};
use crate::{process, workspace};

/// How to get Valgrind where we cannot.
pub const HOW_TO_GET: &str = "install valgrind (Debian: apt-get install valgrind)";

/// What starts it.
pub struct Valgrind {
    program: PathBuf,
    /// Its tools, where they are not where it was built for.
    tools: Option<PathBuf>,
}

/// The program on this machine.
pub fn present() -> Option<PathBuf> {
    workspace::on_path(&["valgrind"]).filter(|_| !workspace::only_private())
}

/// The program, fetched if the machine has none.
pub fn provide() -> Result<Valgrind> {
    if let Some(program) = present() {
        return Ok(Valgrind { program, tools: None });
    }
    // On the machine's C library: it runs programs that were built here.
    let wanted =
        Wanted { name: "valgrind", suite: None, packages: &["valgrind"], installed: Installed::Machine };
    let root = packages::provide(&wanted, |_, _| Ok(()))
        .with_context(|| format!("no valgrind on this machine, and it could not be fetched; {HOW_TO_GET}"))?;
    let program = packages::program(&root, "usr/bin/valgrind")?;
    Ok(Valgrind { program, tools: Some(root.join("usr/libexec/valgrind")) })
}

impl Valgrind {
    /// Where it is, and which.
    pub fn version(&self) -> Result<String> {
        let mut command = self.command();
        command.arg("--version");
        Ok(format!("{} {}", self.program.display(), process::output(command)?.trim()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(tools) = &self.tools {
            command.env("VALGRIND_LIB", tools);
        }
        command
    }

    /// Instructions that `program` executes from its beginning to its end.
    pub fn instructions(&self, program: &PathBuf, arguments: &[&str]) -> Result<u64> {
        let log = tempfile::NamedTempFile::new()?;
        let mut command = self.command();
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(format!("--log-file={}", log.path().display())).arg(program).args(arguments);
        process::output(command)?;
        let said = std::fs::read_to_string(log.path())?;
        let collected = said.lines().find_map(|line| line.split_once("Collected :"));
        let (_, number) = collected.with_context(|| format!("callgrind counted nothing\n{said}"))?;
        Ok(number.trim().parse()?)
    }
}
