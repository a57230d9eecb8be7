//! What the metadata services of clouds have in common: plain HTTP with short limits, and what is made of their answers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{HostEvent, Notice, OnHostEvent, PublicAddress, ReportedAddress};
use crate::api::transport::{HttpRequest, HttpTransport, Transport};
use crate::platform::clock::{Clock, SystemClock};

/// A service that is there answers within milliseconds. From a container without a way to it, nothing ever answers.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of looks at the public address: an operator may attach another one.
pub(super) const ADDRESS_INTERVAL: Duration = Duration::from_secs(60);
/// Largest answer. What is asked for has some kilobytes at most.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Longest pause after failures, once the service has answered: the next notice may be one of thirty seconds.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause while it never has.
const MAX_PAUSE_OF_STRANGER: Duration = Duration::from_secs(60);
/// Failures in a row after which nobody waits for an address any more.
const MAX_FAILURES: u32 = 3;
/// Time without a good answer after which a warning is due.
const SILENCE: Duration = Duration::from_secs(30);
/// Shortest time that is left: who is late has to hurry, and not to give up.
const MIN_DEADLINE: u64 = 1;
/// Longest time that is left: more than this is a mistake of a clock.
const MAX_DEADLINE: u64 = 24 * 3_600;

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MetadataError {
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// Another status than those that were expected.
    #[error("{path} was refused with {status}")]
    Refused { path: String, status: u16 },
    /// The answer cannot be read.
    #[error("the answer to {0} cannot be read")]
    Garbage(String),
}

/// A good answer.
pub(super) struct Answer {
    pub text: String,
    pub headers: HeaderMap,
}

impl Answer {
    /// The number of this version of the value.
    pub fn etag(&self) -> Option<String> {
        self.headers.get(ETAG)?.to_str().ok().map(str::to_owned)
    }
}

/// A service at a URL.
pub(super) struct MetadataService {
    base: String,
    /// Opened when first needed: detection takes no time.
    transport: OnceLock<HttpTransport>,
}

impl MetadataService {
    /// The service at this URL, to which paths are appended.
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), transport: OnceLock::new() }
    }

    /// The answer with status 200; `None` for 404.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: Option<String>,
        timeout: Duration,
    ) -> Result<Option<Answer>, MetadataError> {
        let unreachable = |error: String| MetadataError::Unreachable(error);
        let garbage = || MetadataError::Garbage(path.to_owned());
        let url =
            Url::parse(&format!("{}{path}", self.base)).map_err(|error| unreachable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            let mut value = HeaderValue::try_from(value).map_err(|_| garbage())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let body = body.map(String::into_bytes);
        let request = HttpRequest { method, url, headers, body, timeout: Some(timeout) };
        let reply = self.transport()?.send(request).await.map_err(|error| unreachable(error.to_string()))?;
        match reply.status {
            200 if reply.body.len() > MAX_ANSWER_BYTES => Err(garbage()),
            200 => {
                let text = String::from_utf8(reply.body).map_err(|_| garbage())?;
                Ok(Some(Answer { text, headers: reply.headers }))
            }
            404 => Ok(None),
            status => Err(MetadataError::Refused { path: path.to_owned(), status }),
        }
    }

    fn transport(&self) -> Result<&HttpTransport, MetadataError> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport);
        }
        let opened = HttpTransport::local().map_err(|error| MetadataError::Unreachable(error.to_string()))?;
        Ok(self.transport.get_or_init(|| opened))
    }
}

/// A document of JSON, which has to be there.
pub(super) fn document<T: DeserializeOwned>(answer: Option<&Answer>, path: &str) -> Result<T, MetadataError> {
    let read = answer.and_then(|answer| serde_json::from_str(&answer.text).ok());
    read.ok_or_else(|| MetadataError::Garbage(path.to_owned()))
}

/// Seconds since 1970 of a time such as `2026-01-31T12:00:00Z`, in UTC. Fractions of a second are left out.
pub(super) fn parse_utc(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char| -> Option<[u64; 3]> {
        let all: Option<Vec<u64>> = text.split(separator).map(|part| part.parse().ok()).collect();
        all?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The year begins in March, so that the leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Days from 1 March of year 0 to 1970.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Whether players elsewhere can reach this address.
pub(super) fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let is_shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64;
            let is_local = address.is_private() || address.is_loopback() || address.is_link_local();
            !is_local && !is_shared && !address.is_unspecified() && !address.is_broadcast()
        }
        IpAddr::V6(address) => address.segments()[0] & 0xe000 == 0x2000,
    }
}

/// What a cloud has reported so far, so that nothing is passed on twice.
pub(super) struct Reports {
    clock: Arc<dyn Clock>,
    address: watch::Sender<ReportedAddress>,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// Reasons of notices, with the seconds since 1970 at which the machine ends.
    notices: Vec<(&'static str, Option<u64>)>,
    /// The reason of the last advice, and what tells it from the next one.
    advice: Option<(&'static str, String)>,
}

impl Reports {
    pub fn new() -> Self {
        Self { clock: Arc::new(SystemClock), address: watch::Sender::default(), given: Mutex::default() }
    }

    pub fn address(&self) -> watch::Receiver<ReportedAddress> {
        self.address.subscribe()
    }

    /// Players reach this machine there. `None`: it has no public address now, and keeps one that it had.
    pub fn reach(&self, address: Option<IpAddr>, on_event: &OnHostEvent) {
        let Some(address) = address else { return self.expect_no_address() };
        let address = PublicAddress { address: address.to_string(), ports: Vec::new() };
        let reported = ReportedAddress::At(address.clone());
        let changes = self.address.send_if_modified(|known| {
            let changes = *known != reported;
            *known = reported;
            changes
        });
        if changes {
            on_event(HostEvent::AddressChanged(address));
        }
    }

    /// Nobody is to wait for an address any more. One may come nevertheless.
    pub fn expect_no_address(&self) {
        self.address.send_if_modified(|address| {
            let waits = *address == ReportedAddress::NotYet;
            if waits {
                *address = ReportedAddress::Never;
            }
            waits
        });
    }

    /// The machine ends at this time in seconds since 1970, if that is known. Passed on once, and again with an earlier time.
    pub fn notice(&self, reason: &'static str, end: Option<u64>, on_event: &OnHostEvent) {
        {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            match given.notices.iter_mut().find(|(before, _)| *before == reason) {
                Some((_, before)) => {
                    let is_news = end.is_some_and(|end| before.is_none_or(|before| end < before));
                    if !is_news {
                        return;
                    }
                    *before = end;
                }
                None => given.notices.push((reason, end)),
            }
        }
        let now = self.clock.unix_seconds();
        let left = end.map(|end| end.saturating_sub(now).clamp(MIN_DEADLINE, MAX_DEADLINE));
        on_event(HostEvent::Notice(Notice { reason, deadline: left.map(Duration::from_secs) }));
    }

    /// Something may happen to the machine that ends no process. `key` tells one advice from the next; `None`: it is over.
    pub fn advise(&self, reason: &'static str, key: Option<&str>, on_event: &OnHostEvent) {
        let advice = key.map(|key| (reason, key.to_owned()));
        let is_news = {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            let is_news = advice.is_some() && given.advice != advice;
            given.advice = advice;
            is_news
        };
        if is_news {
            on_event(HostEvent::Advice(reason));
        }
    }

    /// This time from now, in seconds since 1970.
    pub fn seconds_from_now(&self, duration: Duration) -> u64 {
        self.clock.unix_seconds().saturating_add(duration.as_secs())
    }
}

/// Pauses between the calls of one loop, and what the log hears of it.
pub(super) struct Pace {
    /// What is asked, for the log.
    what: &'static str,
    interval: Duration,
    failures: u32,
    has_answered: bool,
    silent_since: Option<Instant>,
    is_warned: bool,
}

impl Pace {
    /// A loop that asks at this interval while all is well.
    pub fn new(what: &'static str, interval: Duration) -> Self {
        Self { what, interval, failures: 0, has_answered: false, silent_since: None, is_warned: false }
    }

    /// The pause after a call.
    pub fn after(&mut self, outcome: Result<(), MetadataError>) -> Duration {
        let Err(error) = outcome else {
            self.failures = 0;
            self.has_answered = true;
            self.silent_since = None;
            if std::mem::take(&mut self.is_warned) {
                tracing::info!("{} answers", self.what);
            }
            return self.interval;
        };
        self.failures = self.failures.saturating_add(1);
        tracing::debug!(%error, self.failures, "{} is asked again", self.what);
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if !self.is_warned && since.elapsed() >= SILENCE {
            self.is_warned = true;
            tracing::warn!(
                "{} gives no good answer for {} s ({error}): notices of the end of this machine are not seen. The server runs on; \
                 set BACKEND_HOST=none if it is not there",
                self.what,
                SILENCE.as_secs()
            );
        }
        let longest = if self.has_answered { MAX_PAUSE } else { MAX_PAUSE_OF_STRANGER };
        Duration::from_secs(1 << self.failures.saturating_sub(1).min(6)).min(longest)
    }

    /// Whether nobody should wait for an answer any more.
    pub fn is_hopeless(&self) -> bool {
        self.failures >= MAX_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_amazon_are_read() {
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_utc("2001-09-09T01:46:40Z"), Some(1_000_000_000));
        assert_eq!(parse_utc("2024-02-29T23:59:59.5Z\n"), Some(1_709_251_199));
        assert_eq!(parse_utc("2026-12-31T00:00:00Z"), Some(1_798_675_200));
        for wrong in
            ["", "soon", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T24:00:00Z", "0000-00-00T00:00:00Z"]
        {
            assert_eq!(parse_utc(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn addresses_of_players_are_told_from_others() {
        for public in ["198.51.100.7", "2001:db8::7"] {
            assert!(public.parse().is_ok_and(|address| is_public(&address)), "{public}");
        }
        let others =
            ["10.0.0.4", "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0", "fd00::1", "fe80::1", "::1"];
        for other in others {
            assert!(other.parse().is_ok_and(|address| !is_public(&address)), "{other}");
        }
    }
}
