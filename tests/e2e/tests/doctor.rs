//! What operators are told before players come, by a game server and by the backend.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use test_harness::backend::{Backend, free_port};
use test_harness::cloud::{Cloud, CloudPeer, Manner};
use test_harness::godot::{Godot, Launch};
use test_harness::programs;

const HEAD: &str = "doctor: ";

/// The fixture game, started only to be checked.
fn examined(backend_url: &str) -> Launch {
    Launch::headless("Doctor", "tests/fixtures/game")
        .arg("--role=server")
        .arg("--backend-doctor")
        .arg(format!("--backend-url={backend_url}"))
}

/// The finding about `topic`.
fn finding(godot: &Godot, topic: &str) -> Result<String> {
    let lines = godot.log().lines();
    let found = lines.iter().filter_map(|line| Some(line.split_once(HEAD)?.1)).find(|line| {
        let mut words = line.split_whitespace();
        words.nth(1) == Some(topic)
    });
    found.map(str::to_owned).with_context(|| format!("nothing about {topic}\n{}", godot.log().tail()))
}

fn is_found(godot: &Godot, topic: &str, level: &str, text: &str) -> Result<()> {
    let finding = finding(godot, topic)?;
    ensure!(finding.starts_with(level) && finding.contains(text), "{finding}");
    Ok(())
}

#[test]
fn a_game_server_that_would_work_is_told_so() -> Result<()> {
    let backend = Backend::start()?;
    let peer = CloudPeer::new(Cloud::Ec2, &[("public-ipv4", "198.51.100.7")])?;
    peer.start(Manner::Good)?;
    let (name, url) = peer.environment().remove(0);
    let launch =
        examined(&backend.url()).env("BACKEND_SERVER_KEY_FILE", backend.server_key_file()).env(name, url);
    let mut godot = launch.start()?;
    godot.finish(0)?;
    is_found(&godot, "host", "ok", "Amazon EC2")?;
    is_found(&godot, "address", "ok", "198.51.100.7, by the host")?;
    is_found(&godot, "backend", "ok", &backend.url())?;
    is_found(&godot, "tls", "ok", "plain HTTP on this machine")?;
    is_found(&godot, "clock", "ok", "agrees")?;
    is_found(&godot, "key", "ok", "accepted")?;
    is_found(&godot, "journal", "ok", "can be written to")?;
    is_found(&godot, "grace", "ok", "25 s")?;
    // It was checked, and not run.
    ensure!(backend.api()?.rooms()?.is_empty(), "a room");
    peer.check()
}

#[test]
fn a_game_server_with_a_foreign_key_is_told_what_to_do() -> Result<()> {
    let (backend, other) = (Backend::start()?, Backend::start()?);
    let launch = examined(&backend.url()).env("BACKEND_SERVER_KEY_FILE", other.server_key_file());
    let mut godot = launch.env("BACKEND_SHUTDOWN_GRACE_SECONDS", "40").start()?;
    godot.finish(1)?;
    is_found(&godot, "host", "ok", "no host")?;
    is_found(&godot, "address", "warning", "BACKEND_PUBLIC_ADDRESS")?;
    is_found(&godot, "key", "FAILED", "backend-server keys create")?;
    is_found(&godot, "grace", "warning", "BACKEND_SHUTDOWN_GRACE_SECONDS")
}

#[test]
fn a_game_server_without_backend_and_key_is_told_what_to_do() -> Result<()> {
    let mut godot = examined(&format!("http://127.0.0.1:{}", free_port()?)).start()?;
    godot.finish(1)?;
    is_found(&godot, "backend", "FAILED", "BACKEND_URL")?;
    is_found(&godot, "key", "FAILED", "BACKEND_SERVER_KEY")
}

fn backend_doctor(arguments: &[&str]) -> Result<(Output, String)> {
    let output = Command::new(programs::backend_server()?).arg("doctor").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output, text))
}

#[test]
fn a_backend_that_would_work_is_told_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("backend.db").to_string_lossy().into_owned();
    let listen = format!("127.0.0.1:{}", free_port()?);
    let (output, text) = backend_doctor(&["--database", &database, "--listen", &listen])?;
    ensure!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in
        ["ok       settings", "ok       database", "ok       clock", "ok       worlds", "ok       listen"]
    {
        ensure!(text.contains(line), "no {line:?} in\n{text}");
    }
    ensure!(text.contains("warning  keys     no server key yet"), "{text}");

    let backend = Backend::start()?;
    let (address, url) = (backend.address().to_string(), backend.url());
    let arguments = ["--database", &database, "--listen", &address, "--public-url", &url];
    let (output, text) = backend_doctor(&arguments)?;
    ensure!(output.status.success(), "{text}");
    ensure!(text.contains("warning  listen   something listens"), "{text}");
    ensure!(text.contains("warning  public") && text.contains("is ready, by plain HTTP"), "{text}");
    Ok(())
}

#[test]
fn a_backend_that_would_not_work_is_told_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key_file = folder.path().join("server.key");
    std::fs::write(&key_file, "no key")?;
    let key_file = key_file.to_string_lossy().into_owned();
    let database = folder.path().join("backend.db").to_string_lossy().into_owned();
    let nobody = format!("http://127.0.0.1:{}/", free_port()?);
    let arguments = ["--database", &database, "--server-key-file", &key_file, "--public-url", &nobody];
    let (output, text) = backend_doctor(&arguments)?;
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("FAILED   keys") && text.contains("does not hold a server key"), "{text}");
    ensure!(text.contains("FAILED   public") && text.contains("cannot be reached"), "{text}");

    let missing = folder.path().join("nowhere/backend.db").to_string_lossy().into_owned();
    let (output, text) = backend_doctor(&["--database", &missing])?;
    ensure!(output.status.code() == Some(1) && text.contains("FAILED   database"), "{text}");
    let secret = "postgres://backend:hunter2@127.0.0.1:1/none?sslmode=disable";
    let (output, text) = backend_doctor(&["--database", secret])?;
    ensure!(output.status.code() == Some(1) && !text.contains("hunter2"), "{text}");
    Ok(())
}
