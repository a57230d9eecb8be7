//! Checks of a game server's surroundings, for whoever deploys it: one finding per line, each with what to do.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::validation::Validate;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::api::backend::Backend;
use crate::api::clock_difference::described;
use crate::config::Config;
use crate::error::{Cause, ClientError, Fault};
use crate::host::{Host, PublicAddress, known_address, wait_for_address};
use crate::platform::secret::ServerKey;

/// Longest wait for an answer of the backend, all attempts together.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for hosts to say where players reach the server.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// What no backend has signed.
const NO_TOKEN: &str = "backend-doctor";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// It may be meant.
    Warning,
    /// The server would not work.
    Failure,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was checked, as a word.
    pub topic: &'static str,
    /// What was found and, if it is not good, what to do.
    pub text: String,
}

impl Finding {
    /// As it should be.
    pub fn good(topic: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Good, topic, text: text.into() }
    }

    /// It may be meant.
    pub fn warning(topic: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warning, topic, text: text.into() }
    }

    /// The server would not work.
    pub fn failure(topic: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Failure, topic, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Good => "ok",
            Level::Warning => "warning",
            Level::Failure => "FAILED",
        };
        // One finding is one line, whatever others have written into an error.
        write!(out, "{level:<8} {:<8} {}", self.topic, self.text.replace(['\n', '\r'], " "))
    }
}

/// Exit code of a program that prints these findings: 1 if anything failed.
pub fn exit_code(findings: &[Finding]) -> i32 {
    i32::from(findings.iter().any(|finding| finding.level == Level::Failure))
}

/// Reachability, TLS, clock and key.
pub async fn check_backend(
    config: &Config,
    backend: &dyn Backend,
    key: Result<ServerKey, ClientError>,
) -> Vec<Finding> {
    let address = config.address();
    let answer = match timeout(BACKEND_TIMEOUT, backend.key_set(None)).await {
        Ok(answer) => answer.map(|_| ()),
        Err(_) => Err(ClientError::new(Fault::Timeout, "no answer in time")),
    };
    let mut findings = Vec::new();
    match &answer {
        Ok(()) => findings.push(Finding::good("backend", format!("{address} answers"))),
        Err(error) if error.cause == Cause::Client(Fault::Tls) => {
            findings.push(Finding::failure("tls", error.to_string()));
        }
        Err(error) => findings.push(Finding::failure(
            "backend",
            format!("{address} gives no good answer: {error}. Check BACKEND_URL, and that the backend runs"),
        )),
    }
    let is_answered = answer.is_ok();
    if is_answered {
        findings.push(tls(config, &address));
        findings.push(clock(backend.clock_difference()));
    }
    findings.push(match key {
        Err(error) => Finding::failure("key", error.to_string()),
        Ok(_) if !is_answered => Finding::warning(
            "key",
            "one is set, but without an answer of the backend nobody knows whether it is accepted",
        ),
        Ok(key) => check_key(backend, &key).await,
    });
    findings
}

fn tls(config: &Config, address: &str) -> Finding {
    if address.starts_with("https://") {
        Finding::good("tls", "the certificate of the backend is accepted")
    } else if config.allow_insecure_http {
        Finding::warning(
            "tls",
            "plain HTTP: keys and tokens can be read on the way. Use https, and turn allow_insecure_http off",
        )
    } else {
        Finding::good("tls", "plain HTTP on this machine")
    }
}

fn clock(difference: i64) -> Finding {
    if difference == 0 {
        return Finding::good("clock", "agrees with that of the backend");
    }
    let text = format!(
        "{} that of the backend: players would be refused. Set the clock of whichever machine is wrong, best by NTP",
        described(difference)
    );
    Finding::failure("clock", text)
}

/// A token that nobody has signed shows whether the key is good: a key is verified first.
async fn check_key(backend: &dyn Backend, key: &ServerKey) -> Finding {
    let body = Validate { token: NO_TOKEN.to_owned(), server_id: None };
    match timeout(BACKEND_TIMEOUT, backend.validate(key, &body)).await {
        Ok(Ok(_)) => Finding::good("key", "accepted by the backend"),
        Ok(Err(error)) if error.is(Code::TokenInvalid) || error.is(Code::TokenExpired) => {
            Finding::good("key", "accepted by the backend")
        }
        Ok(Err(error)) if error.is(Code::ServerKeyInvalid) => Finding::failure(
            "key",
            format!("refused: {error}. Create one where the backend runs, with backend-server keys create"),
        ),
        Ok(Err(error)) => Finding::warning("key", format!("nobody knows whether it is accepted: {error}")),
        Err(_) => Finding::warning("key", "nobody knows whether it is accepted: no answer in time"),
    }
}

/// Whether a folder takes files that last. `passing`: why what is in it ends with the container.
pub fn check_folder(topic: &'static str, folder: &Path, passing: Option<&str>) -> Finding {
    // It is made when it is needed.
    let existing = folder.ancestors().find(|path| path.is_dir()).unwrap_or(folder);
    let probe = existing.join(format!(".backend-doctor-{}", std::process::id()));
    let written = std::fs::File::create_new(&probe).and_then(|mut file| {
        file.write_all(b"probe")?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::remove_file(&probe)) {
        return Finding::failure(
            topic,
            format!(
                "nothing can be written to {}: {error}. Give the server's user the rights, or name another folder",
                existing.display()
            ),
        );
    }
    match passing {
        Some(why) => Finding::warning(
            topic,
            format!(
                "what is in {} does not outlive the container: {why}. Name a folder on a volume",
                folder.display()
            ),
        ),
        None => Finding::good(topic, format!("{} can be written to", folder.display())),
    }
}

/// The grace of a shutdown beside the time after which what runs the server kills it. `configured`: what the settings say
/// about that; zero if nothing.
pub fn check_grace(grace: Duration, configured: Duration, hosts: &[Arc<dyn Host>]) -> Vec<Finding> {
    let usual = hosts.iter().filter_map(|host| Some((host.name(), host.usual_grace()?)));
    let configured = (!configured.is_zero()).then_some(("the setting host_grace_seconds", configured));
    let too_short: Vec<Finding> = configured
        .into_iter()
        .chain(usual)
        .filter(|(_, end)| grace >= *end)
        .map(|(who, end)| {
            let text = format!(
                "{} s, but {who} allows {} s unless set otherwise: what is unsent by then stays in the journal. Set \
                 BACKEND_SHUTDOWN_GRACE_SECONDS lower, or give the process more time there",
                grace.as_secs_f64(),
                end.as_secs_f64()
            );
            Finding::warning("grace", text)
        })
        .collect();
    if too_short.is_empty() {
        return vec![Finding::good("grace", format!("{} s", grace.as_secs_f64()))];
    }
    too_short
}

/// Where players reach the server. `configured`: `None` for what a host says.
pub async fn check_address(hosts: &[Arc<dyn Host>], configured: Option<String>) -> Finding {
    if let Some(address) = configured {
        return Finding::good("address", format!("{address}, by the settings"));
    }
    let mut running = JoinSet::new();
    for host in hosts {
        let host = Arc::clone(host);
        running.spawn(async move { host.run(Arc::new(|_| {})).await });
    }
    // Late or not, what is known then counts.
    let _late = timeout(ADDRESS_TIMEOUT, wait_for_address(hosts)).await;
    match known_address(hosts) {
        Some(PublicAddress { address, ports }) => {
            let ports = ports.iter().map(|(name, port)| format!(", port {port} ({name})"));
            Finding::good("address", format!("{address}{}, by the host", ports.collect::<String>()))
        }
        None => Finding::warning(
            "address",
            "127.0.0.1: no host reports one, so players on other machines cannot connect. Set BACKEND_PUBLIC_ADDRESS",
        ),
    }
}

#[cfg(test)]
mod tests;
