//! `backend-server doctor`: what `serve` needs with the same settings, checked one by one. It serves nothing.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::header::DATE;
use reqwest::Url;
use tokio::net::{TcpListener, UdpSocket};
use uuid::Uuid;

use crate::accounts::mail;
#[cfg(target_os = "linux")]
use crate::allocation::docker;
use crate::allocation::settings::AllocationSettings;
use crate::auth::identity_providers::IdentityProviders;
use crate::auth::{server_keys, signing_keys};
use crate::config::{Config, redact_secrets};
use crate::database::Database;
use crate::matchmaking::settings::Matchmaking;
use crate::private_files;
use crate::world_store::objects::Objects;

/// Longest wait for another machine.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds by which a clock may be wrong: what game servers forgive tokens.
const CLOCK_LEEWAY: i64 = 30;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Good,
    /// It may be meant.
    Warning,
    /// `serve` would not start, or nobody could use it.
    Failure,
}

/// One thing that was checked.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    topic: &'static str,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Good => "ok",
            Level::Warning => "warning",
            Level::Failure => "FAILED",
        };
        // One finding is one line, whatever others have written into an error.
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(out, "{level:<8} {:<8} {text}", self.topic)
    }
}

fn good(topic: &'static str, text: impl Into<String>) -> Finding {
    Finding { level: Level::Good, topic, text: text.into() }
}

fn warning(topic: &'static str, text: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, topic, text: text.into() }
}

fn failure(topic: &'static str, text: impl fmt::Display) -> Finding {
    Finding { level: Level::Failure, topic, text: text.to_string() }
}

/// Checks what `serve` needs. `public_url`: where players and game servers reach the backend.
pub async fn examine(config: &Config, public_url: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![settings(config)];
    match Database::open(&config.database).await {
        Err(error) => findings.push(failure("database", format!("{error:#}"))),
        Ok(database) => {
            findings.push(good("database", redact_secrets(&config.database)));
            findings.push(clock(&database).await);
            findings.extend(keys(config, &database).await);
            findings.push(worlds(config, &database).await);
            database.close().await;
        }
    }
    findings.push(listen(config).await);
    findings.extend(relay(config).await);
    findings.extend(rooms(config).await);
    match public_url {
        Some(url) => findings.push(public(url).await),
        None => findings.push(unencrypted(config)),
    }
    findings
}

fn settings(config: &Config) -> Finding {
    let checked = || -> anyhow::Result<()> {
        config.check()?;
        let matchmaking = Matchmaking::load(config.matchmaking.as_deref())?;
        let allocation = AllocationSettings::load(
            config.rooms_on_demand.as_deref(),
            config.spare_servers,
            config.room_process_program.as_deref(),
        )?;
        matchmaking.check(allocation.is_some())?;
        IdentityProviders::new(&config.identity_providers, config.identity_hook_secret.clone())?;
        mail::MailTransport::new(config)?;
        Ok(())
    };
    match checked() {
        Ok(()) => good("settings", format!("game and environment {}", config.scope())),
        Err(error) => failure("settings", format!("{error:#}")),
    }
}

/// SQLite has the clock of this machine.
async fn clock(database: &Database) -> Finding {
    let there = match database.now().await {
        Ok(now) => now / 1000,
        Err(error) => return failure("clock", format!("the database does not tell the time: {error}")),
    };
    compared(there, "the database")
}

fn compared(there: i64, whose: &str) -> Finding {
    let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let difference = i64::try_from(here).unwrap_or(i64::MAX).saturating_sub(there);
    if difference.abs() <= CLOCK_LEEWAY {
        return good("clock", format!("agrees with that of {whose}"));
    }
    let way = if difference > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "{} s {way} that of {whose}: tokens would be refused. Set the clock of whichever machine is wrong, best by NTP",
        difference.abs()
    );
    failure("clock", text)
}

async fn keys(config: &Config, database: &Database) -> Vec<Finding> {
    let file = config.server_key_file.as_deref();
    let mut findings: Vec<_> = file.map(|path| key_file(path, config)).into_iter().collect();
    findings.push(match server_keys::list(database).await {
        Err(error) => failure("keys", error),
        Ok(records) => {
            let is_own = |record: &&backend_protocol::admin::KeyRecord| {
                record.game.as_ref() == Some(&config.game)
                    && record.environment.as_ref() == Some(&config.environment)
                    && matches!(record.state.as_str(), "active" | "expiring")
            };
            match (records.iter().filter(is_own).count(), file) {
                (0, Some(_)) => good("keys", "none in the database yet; serve accepts that of the file"),
                (0, None) => {
                    warning("keys", "no server key yet: the first start of serve makes one and shows it once")
                }
                (count, _) => good("keys", format!("{count} server keys are accepted")),
            }
        }
    });
    findings.push(match signing_keys::list(database).await {
        Ok(records) if records.is_empty() => good("tokens", "no signing key yet; serve makes one"),
        Ok(records) => good("tokens", format!("{} signing keys", records.len())),
        Err(error) => failure("tokens", format!("{error:#}")),
    });
    findings
}

fn key_file(path: &Path, config: &Config) -> Finding {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return good(
                "keys",
                format!("{} is not there yet; serve writes a new key to it", path.display()),
            );
        }
        Err(error) => return failure("keys", format!("--server-key-file {}: {error}", path.display())),
    };
    match server_keys::check_text(text.trim(), config).and_then(|()| private_files::check_secret(path)) {
        Ok(()) => good("keys", format!("{} has a server key", path.display())),
        Err(error) => failure("keys", format!("--server-key-file {}: {error:#}", path.display())),
    }
}

/// An object that is stored, read and removed.
async fn worlds(config: &Config, database: &Database) -> Finding {
    let probed = async {
        let objects = Objects::open(config, database).await?;
        let location = objects.location("doctor", &Uuid::new_v4().simple().to_string());
        objects.put(&location, Bytes::from_static(b"probe")).await?;
        let size = objects.size(&location).await;
        objects.discard(&location).await;
        anyhow::ensure!(size? == Some(5), "what was stored is not there");
        Ok(())
    };
    match tokio::time::timeout(TIMEOUT, probed).await {
        Ok(Ok(())) => good("worlds", "the world storage takes and returns objects"),
        Ok(Err(error)) => {
            let error = redact_secrets(&format!("{error:#}"));
            failure("worlds", format!("{error}. Check --world-storage and its credentials"))
        }
        Err(_) => failure("worlds", "the world storage does not answer. Check --world-storage"),
    }
}

async fn listen(config: &Config) -> Finding {
    match TcpListener::bind(config.listen).await {
        Ok(_) => good("listen", format!("{} is free", config.listen)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => warning(
            "listen",
            format!(
                "something listens at {} already: good if it is this backend, else choose another --listen",
                config.listen
            ),
        ),
        Err(error) => {
            failure("listen", format!("--listen {}: {error}. Choose another address", config.listen))
        }
    }
}

async fn relay(config: &Config) -> Option<Finding> {
    let address = config.relay_listen?;
    Some(match UdpSocket::bind(address).await {
        Ok(_) => good("relay", format!("{address} is free, for UDP")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let text = format!(
                "something listens at {address} (UDP) already: good if it is this backend, else choose another --relay-listen"
            );
            warning("relay", text)
        }
        Err(error) => failure("relay", format!("--relay-listen {address}: {error}. Choose another address")),
    })
}

/// What starts servers for rooms, if it is another program. Settings that cannot be read are a finding of their own.
#[cfg(target_os = "linux")]
async fn rooms(config: &Config) -> Option<Finding> {
    let settings = AllocationSettings::load(config.rooms_on_demand.as_deref(), None, None).ok()??;
    let docker = settings.docker?;
    Some(match docker::examine(&docker).await {
        Ok(()) => good("rooms", format!("the container engine has the image {}", docker.image)),
        Err(error) => failure("rooms", format!("{error:#}")),
    })
}

#[cfg(not(target_os = "linux"))]
async fn rooms(_config: &Config) -> Option<Finding> {
    None
}

fn unencrypted(config: &Config) -> Finding {
    if config.listen.ip().is_loopback() {
        good("tls", "not needed on loopback. With a proxy in front, check it with --public-url")
    } else {
        warning(
            "tls",
            format!(
                "{} can be reached from elsewhere, by plain HTTP. Put a proxy with TLS in front, and check it with --public-url",
                config.listen
            ),
        )
    }
}

/// Through the proxy, as game servers and players come.
async fn public(url: &str) -> Finding {
    let shown = redact_secrets(url);
    let Some(ready) = Url::parse(url).ok().and_then(|url| url.join("readyz").ok()) else {
        return failure("public", format!("--public-url {shown}: write https://backend.example.org/"));
    };
    let asked = async {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
        client.build()?.get(ready.clone()).send().await
    };
    let reply = match asked.await {
        Ok(reply) => reply,
        Err(error) => {
            let error = chain(&error.without_url());
            let advice = "Check name, port, firewall and certificate";
            return failure("public", format!("{shown} cannot be reached from here: {error}. {advice}"));
        }
    };
    if !reply.status().is_success() {
        let advice = "Start the backend, and check where the proxy sends requests";
        return failure("public", format!("{shown} answers with {}. {advice}", reply.status().as_u16()));
    }
    let date = reply.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
    if let Some(date) = date {
        let compared = compared(i64::try_from(date.as_secs()).unwrap_or(i64::MAX), &shown);
        if compared.level == Level::Failure {
            return compared;
        }
    }
    if ready.scheme() == "https" {
        good("public", format!("{shown} is ready, and its certificate is accepted"))
    } else {
        warning(
            "public",
            format!("{shown} is ready, by plain HTTP: keys and tokens can be read on the way. Use https"),
        )
    }
}

/// All that an error wraps: reqwest's own words stop early.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
