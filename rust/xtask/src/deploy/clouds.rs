//! The recipes for clouds: linters of others, and programs of ours that play the clouds or read the files for known mistakes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{Found, files, folder, lint};
use crate::process::{self, Running};
use crate::summary::{Counts, Outcome};
use crate::{python, workspace};

/// Pinned: a new release must not turn a green tree red.
const MOTO: &str = "moto[cloudformation,ec2,ecs,events,iam,rds,s3,secretsmanager,sns,ssm]==5.2.5";
const CFN_LINT: &str = "cfn-lint==1.58.0";
/// HashiCorp's own parser, compiled for Node.js.
const HCL2JSON: &str = "@cdktf/hcl2json@0.21.0";
const TIMEOUT: Duration = Duration::from_mins(5);

/// The stage of `cargo xtask test`: what takes seconds.
pub fn stage() -> Result<Outcome> {
    let mut counts = run(workspace::python(), "check_game_host.py", &[])?;
    let moto = match python::environment("moto", MOTO) {
        Ok(programs) => programs.join("python"),
        Err(error) => return Ok(Outcome::NotRun(format!("no moto to play AWS: {error:#}"))),
    };
    for script in ["check_aws_ec2.py", "check_aws_ecs.py"] {
        let more = run(Command::new(&moto), script, &[])?;
        counts.passed += more.passed;
        counts.failed += more.failed;
    }
    Ok(Outcome::Ran(counts))
}

/// Runs a program of `tests/deploy` to its end.
fn run(mut command: Command, script: &str, arguments: &[PathBuf]) -> Result<Counts> {
    // What a library is about to deprecate is no finding.
    command.args(["-W", "ignore"]).arg(workspace::root().join("tests/deploy").join(script)).args(arguments);
    let mut run = Running::start_echoing(script, command, |_| true)?;
    let status = run.wait(TIMEOUT)?;
    match Counts::of_engine(&run.lines()) {
        Some(counts) if status.success() || counts.failed > 0 => Ok(counts),
        _ => bail!("{script} did not come to its end ({status})\n{}", run.tail()),
    }
}

fn all_passed(counts: &Counts) -> Result<Found> {
    ensure!(counts.failed == 0 && counts.passed > 0, "{} tests failed", counts.failed);
    Ok(Found::Good)
}

/// The program of the machines, against fakes of the metadata services.
pub fn game_host() -> Result<Found> {
    all_passed(&run(workspace::python(), "check_game_host.py", &[])?)
}

/// The script of EC2 and the templates of ECS, against moto.
pub fn aws() -> Result<Found> {
    let moto = python::environment("moto", MOTO)?.join("python");
    all_passed(&run(Command::new(&moto), "check_aws_ec2.py", &[])?)?;
    all_passed(&run(Command::new(&moto), "check_aws_ecs.py", &[])?)
}

pub fn cfn_lint() -> Result<Found> {
    let mut command = Command::new(python::environment("cfn-lint", CFN_LINT)?.join("cfn-lint"));
    let templates = files(&folder("aws-ecs"))?;
    command.args(templates.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")));
    lint(command)?;
    Ok(Found::Good)
}

/// The files of Terraform, by HashiCorp's parser and, where it is, by the formatter of Terraform.
pub fn terraform() -> Result<Found> {
    let python = python::environment("moto", MOTO)?.join("python");
    all_passed(&run(Command::new(python), "check_azure.py", &[hcl2json()?])?)?;
    let Some(terraform) = workspace::on_path(&["terraform"]) else {
        return Ok(Found::NotChecked(
            "the files are good, but there is no terraform to format them".to_owned(),
        ));
    };
    let mut command = Command::new(terraform);
    command.args(["fmt", "-check", "-diff"]).arg(folder("azure"));
    lint(command)?;
    Ok(Found::Good)
}

/// The folder whose `node_modules` has the parser, installed at the first use.
fn hcl2json() -> Result<PathBuf> {
    const HOW_TO_GET: &str = "install Node.js with npm (Debian: apt-get install npm)";
    let folder = workspace::provisions().join("hcl2json");
    let complete = folder.join("complete");
    if fs::read_to_string(&complete).ok().as_deref() != Some(HCL2JSON) {
        println!("fetching {HCL2JSON} into {}", folder.display());
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("npm");
        command.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(HCL2JSON);
        process::output(command).context(HOW_TO_GET)?;
        fs::write(&complete, HCL2JSON)?;
    }
    Ok(folder)
}
