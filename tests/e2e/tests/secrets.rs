//! Secrets stay where they belong: everything that real processes write at the finest log level, successes and failures and a
//! crash included, holds none of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness::backend::Backend;
use test_harness::fixture::{self, Fixture};
use test_harness::log::Log;
use test_harness::telemetry::{OtlpReceiver, Scrape};
use test_harness::until;

const EMAIL: &str = "canary@example.org";
const PASSWORD: &str = "canary-first-password-1843";
const WRONG_PASSWORD: &str = "canary-wrong-password-1844";
const NEW_PASSWORD: &str = "canary-second-password-1845";
const COLLECTOR_KEY: &str = "canary-key-of-the-collector-1847";
const DEVICE: &str = "canary-device-of-the-player-1846";
/// How tokens, tickets and keys begin that are made at run time, and the least number of letters that follow.
const SHAPES: &[(&str, usize)] = &[("eyJ", 20), ("grt_", 20), ("gsk_", 20), ("gak_", 20), ("PRIVATE KEY", 0)];

/// What was written, and what must not be in it.
#[derive(Default)]
struct Search {
    secrets: Vec<String>,
    places: Vec<(String, Vec<u8>)>,
}

impl Search {
    fn log(&mut self, what: &str, log: &Log) {
        self.places.push((format!("the log of {what}"), log.lines().join("\n").into_bytes()));
    }

    /// Every file below `folder` but those below `except`, which are there to hold secrets.
    fn folder(&mut self, folder: &Path, except: &[PathBuf]) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if except.contains(&path) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                self.folder(&path, except)?;
            } else if path.is_file() {
                self.places.push((path.display().to_string(), fs::read(&path)?));
            }
        }
        Ok(())
    }

    /// Where something was found that should not be there. Does not repeat it.
    fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, bytes) in &self.places {
            for (number, secret) in self.secrets.iter().enumerate() {
                if positions(bytes, secret).next().is_some() {
                    found.push(format!("{place} holds secret number {number}"));
                }
            }
            // The server's copy of the public keys is signed as a token is, and opens nothing.
            let is_public =
                |shape: &str| shape == "eyJ" && Path::new(place).extension().is_some_and(|end| end == "jwks");
            for (shape, letters) in SHAPES.iter().filter(|(shape, _)| !is_public(shape)) {
                let is_whole = |at: usize| {
                    let rest = bytes.get(at + shape.len()..at + shape.len() + letters).unwrap_or_default();
                    rest.len() == *letters
                        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
                };
                if positions(bytes, shape).any(is_whole) {
                    found.push(format!("{place} holds something that begins with {shape}"));
                }
            }
        }
        found
    }
}

fn positions<'a>(bytes: &'a [u8], word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let word = word.as_bytes();
    bytes.windows(word.len().max(1)).enumerate().filter(move |(_, at)| *at == word).map(|(at, _)| at)
}

/// The code in the newest mail of `folder` that is not in `before`.
fn mailed_code(folder: &Path, before: &[String]) -> Result<String> {
    until("a mail with a code", || {
        for entry in fs::read_dir(folder)? {
            let text = fs::read_to_string(entry?.path())?;
            let is_code = |word: &&str| {
                word.len() == 11
                    && word.as_bytes()[5] == b'-'
                    && word.bytes().all(|b| b == b'-' || b.is_ascii_uppercase() || b.is_ascii_digit())
            };
            let code = text.lines().map(str::trim).find(is_code).map(str::to_owned);
            if let Some(code) = code.filter(|code| !before.contains(code)) {
                return Ok(Some(code));
            }
        }
        Ok(None)
    })
}

/// Asks, and keeps the answer as a place to search: errors are shown to players.
fn ask(search: &mut Search, client: &mut Fixture, command: &Value) -> Result<Value> {
    let answer = client.ask(command)?;
    if answer["ticket"].is_null() {
        search.places.push((format!("the answer to {}", command["do"]), answer.to_string().into_bytes()));
    }
    Ok(answer)
}

#[test]
fn nothing_that_is_written_holds_a_secret() -> Result<()> {
    let mut search = Search::default();
    let mails = tempfile::tempdir()?;
    let mail = format!("--mail=file:{}", mails.path().display());
    let mut backend = Backend::start_with(&["--log-level=trace", &mail])?;
    let homes = (tempfile::tempdir()?, tempfile::tempdir()?);
    let collector = OtlpReceiver::start()?;
    let mut server = fixture::server("Vault", &backend.url(), &backend.server_key_file())?
        .env("BACKEND_LOG", "trace")
        .env("BACKEND_LOG_FORMAT", "json")
        .env("BACKEND_METRICS_ADDRESS", "0")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={COLLECTOR_KEY}"))
        .env("OTEL_METRIC_EXPORT_INTERVAL", "1000")
        .with_home(homes.0.path())
        .start()?;
    let mut client = fixture::client("client", &backend.url())?
        .env("BACKEND_LOG", "trace")
        .with_home(homes.1.path())
        .start()?;
    search.secrets =
        [PASSWORD, WRONG_PASSWORD, NEW_PASSWORD, DEVICE, COLLECTOR_KEY].map(str::to_owned).to_vec();
    search.secrets.push(fs::read_to_string(backend.server_key_file())?.trim().to_owned());
    let room = server.ask(&json!({ "do": "register" }))?;
    let room_id = room["server_id"].as_str().context("no room")?.to_owned();

    // Logins, right and wrong, and another password by mail.
    ask(&mut search, &mut client, &json!({ "do": "register", "email": EMAIL, "password": PASSWORD }))?;
    let wrong = json!({ "do": "log_in_with_password", "email": EMAIL, "password": WRONG_PASSWORD });
    let refused = ask(&mut search, &mut client, &wrong)?;
    ensure!(refused["failed"] == "invalid_credentials", "{refused}");
    let first_code = mailed_code(mails.path(), &[])?;
    ask(&mut search, &mut client, &json!({ "do": "forget_password", "email": EMAIL }))?;
    let code = mailed_code(mails.path(), std::slice::from_ref(&first_code))?;
    let bad =
        json!({ "do": "reset_password", "email": EMAIL, "code": "AAAAA-AAAAA", "password": NEW_PASSWORD });
    ensure!(ask(&mut search, &mut client, &bad)?["failed"] == "mail_code_invalid", "a wrong code was taken");
    let reset = json!({ "do": "reset_password", "email": EMAIL, "code": code, "password": NEW_PASSWORD });
    let done = ask(&mut search, &mut client, &reset)?;
    ensure!(done["failed"].is_null(), "{done}");
    search.secrets.extend([first_code, code]);
    ask(&mut search, &mut client, &json!({ "do": "log_in_with_device", "device_id": DEVICE }))?;

    // A ticket that is good, used, and broken. Nothing to find is no proof if little was written,
    // so the server's finest lines are waited for.
    let ticket = ask(&mut search, &mut client, &json!({ "do": "ticket", "room_id": room_id }))?;
    let ticket = ticket["ticket"].as_str().context("no ticket")?.to_owned();
    let broken = ticket.replace('.', ".A");
    for (shown, outcome) in [(&ticket, "authenticated"), (&ticket, "refused"), (&broken, "refused")] {
        let join = json!({ "do": "join", "port": room["port"], "ticket": shown });
        let answer = ask(&mut search, &mut client, &join)?;
        ensure!(answer["outcome"] == outcome, "{answer}");
        if outcome == "authenticated" {
            // The client knows first: one that leaves at once may never be in for the server.
            server.log().wait_for("player joined")?;
        }
        client.ask(&json!({ "do": "leave" }))?;
    }
    search.secrets.push(ticket);

    // Without the backend.
    search.places.push(("the metrics".to_owned(), backend.api()?.metrics()?.into_bytes()));
    let line = server.log().wait_for("metrics for Prometheus are at http://")?;
    let url = line.split(['"', ' ']).find(|word| word.starts_with("http://")).context("no URL")?;
    search.places.push(("the server's metrics".to_owned(), Scrape::of(url)?.text.into_bytes()));
    search.log("the backend", backend.log()?);
    backend.kill()?;
    let away = json!({ "do": "log_in_with_password", "email": EMAIL, "password": NEW_PASSWORD });
    let away = ask(&mut search, &mut client, &away)?;
    ensure!(away["retryable"] == true, "{away}");

    // One ends as it should, the other crashes.
    server.godot().signal(Signal::TERM)?;
    server.godot().wait()?;
    client.godot().signal(Signal::ABORT)?;
    until("the crash to be over", || Ok((!client.godot().is_running()?).then_some(())))?;
    let exports = collector.exports()?;
    ensure!(exports.iter().any(|export| export.path == "/v1/traces"), "no spans were exported");
    for export in exports {
        search.places.push((format!("an export to {}", export.path), export.body.to_string().into_bytes()));
    }
    search.log("the server", server.log());
    search.log("the client", client.log());
    search.folder(backend.folder(), &[backend.server_key_file()])?;
    search.folder(homes.0.path(), &[])?;
    search.folder(homes.1.path(), &[])?;
    let findings = search.findings();
    if findings.is_empty() { Ok(()) } else { bail!("{}", findings.join("\n")) }
}

#[test]
fn a_leaked_secret_is_found() -> Result<()> {
    let backend = Backend::start()?;
    let mut client = fixture::client("client", &backend.url())?.start()?;
    let token = format!("eyJ{}", "hbGciOiJFZERTQSJ9".repeat(2));
    client.ask(&json!({ "do": "say", "text": format!("logging in with {PASSWORD}, got {token}") }))?;
    client.log().wait_for("logging in with")?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("journal"), [b"\0\xff", DEVICE.as_bytes(), b"\0"].concat())?;
    let mut search = Search::default();
    search.log("the client", client.log());
    search.folder(folder.path(), &[])?;
    ensure!(
        search.findings().len() == 1,
        "the shape of a token is found without knowing it: {:?}",
        search.findings()
    );
    search.secrets = vec![PASSWORD.to_owned(), DEVICE.to_owned(), NEW_PASSWORD.to_owned()];
    ensure!(search.findings().len() == 3, "{:?}", search.findings());
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().wait()?;
    Ok(())
}
