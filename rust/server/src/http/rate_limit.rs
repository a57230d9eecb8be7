//! How often: by address, by player, and by what is tried. Counted in memory, by each replica for itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use backend_protocol::{Code, routes};

use super::client_ip::{network_of as network, subscriber};
use super::context;
use super::error::{ApiError, ApiResult};
use crate::auth::admin_keys;
use crate::auth::server_keys;
use crate::config::Config;
use crate::digest::sha256;
use crate::state::AppState;

/// Most things counted at a time: some 15 MB. Beyond it, whoever is counted longest loses his count.
const MOST: usize = 100_000;

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Requests from an address.
    Requests(IpAddr),
    /// Attempts to log in, and wrong keys, from an address.
    Logins(IpAddr),
    /// New accounts from an address.
    NewAccounts(IpAddr),
    /// Requests of a player.
    Player(String),
    /// Mails to an e-mail address (hashed).
    MailsTo(String),
    /// Wrong passwords for an e-mail address (hashed) from an address.
    PasswordFrom(String, Option<IpAddr>),
    /// Wrong passwords for an e-mail address (hashed) from a network where nobody has logged in to it.
    PasswordFromNetwork(String, Option<IpAddr>),
    /// Wrong passwords for an e-mail address (hashed), the first ones of each such network.
    PasswordOfNewcomers(String),
    /// Wrong passwords for an e-mail address (hashed), the later ones of such networks.
    PasswordOfStrangers(String),
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    every: Duration,
    burst: u32,
}

impl Limit {
    /// `count` a minute, half of which may come at once. None: without limit.
    fn per_minute(count: u32) -> Option<Self> {
        (count > 0).then(|| Self { every: Duration::from_secs(60) / count, burst: count.div_ceil(2) })
    }
}

/// The counts. A generic cell rate: of each, only the time is kept at which it would be unused again.
#[derive(Default)]
pub struct RateLimits {
    unused_at: Mutex<HashMap<Counted, Instant>>,
    /// Hashes of keys that were found good, and when: their requests are not counted by address.
    good_keys: Mutex<HashMap<String, Instant>>,
}

/// How long a key is taken for a good one before it was looked up again. Meanwhile a revoked one is refused, but not counted.
const KEY_GOOD_FOR: Duration = Duration::from_secs(60);
/// Most keys remembered; there are as many as fleets.
const MOST_KEYS: usize = 10_000;

impl RateLimits {
    /// Counts one, or says how long to wait.
    pub fn take(&self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        let mut unused_at = self.unused_at.lock().unwrap_or_else(PoisonError::into_inner);
        let at = unused_at.get(&counted).map_or(now, |at| (*at).max(now));
        let full = limit.every * limit.burst;
        let wait = (at + limit.every).duration_since(now).saturating_sub(full);
        if !wait.is_zero() {
            return Err(wait);
        }
        if unused_at.len() >= MOST && !unused_at.contains_key(&counted) {
            make_room(&mut unused_at, now);
        }
        unused_at.insert(counted, at + limit.every);
        Ok(())
    }

    /// Takes back one that turned out not to count.
    pub fn give_back(&self, counted: &Counted, limit: Limit) {
        let mut unused_at = self.unused_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = unused_at.get_mut(counted)
            && let Some(before) = at.checked_sub(limit.every)
        {
            *at = before;
        }
    }

    fn is_good_key(&self, key_hash: &str, now: Instant) -> bool {
        let good = self.good_keys.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(key_hash).is_some_and(|at| now.duration_since(*at) < KEY_GOOD_FOR)
    }

    fn note_good_key(&self, key_hash: &str, now: Instant) {
        let mut good = self.good_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MOST_KEYS {
            good.retain(|_, at| now.duration_since(*at) < KEY_GOOD_FOR);
        }
        if good.len() < MOST_KEYS || good.contains_key(key_hash) {
            good.insert(key_hash.to_owned(), now);
        }
    }

    /// Forgets what was counted.
    pub fn forget(&self, counted: &Counted) {
        self.unused_at.lock().unwrap_or_else(PoisonError::into_inner).remove(counted);
    }
}

impl RateLimits {
    /// Forgets the wrong passwords of strangers for an e-mail address (hashed).
    pub fn forget_strangers(&self, subject: &str) {
        self.forget(&Counted::PasswordOfNewcomers(subject.to_owned()));
        self.forget(&Counted::PasswordOfStrangers(subject.to_owned()));
    }
}

fn make_room(unused_at: &mut HashMap<Counted, Instant>, now: Instant) {
    unused_at.retain(|_, at| *at > now);
    if unused_at.len() >= MOST {
        // The half that needs it least, so that this is done seldom.
        let mut times: Vec<Instant> = unused_at.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(MOST / 2);
        let median = *median;
        unused_at.retain(|_, at| *at > median);
    }
}

fn refuse(what: &'static str, wait: Duration) -> ApiError {
    metrics::counter!("backend_rate_limited_total", "limit" => what).increment(1);
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    ApiError::later(Code::RateLimited, seconds, format!("too many {what}; try again in {seconds} s"))
}

/// The address that counts: none for this machine, which is a proxy or a developer's.
fn counted_address() -> Option<IpAddr> {
    context::address().filter(|address| !address.is_loopback()).map(subscriber)
}

fn check(state: &AppState, what: &'static str, counted: Option<Counted>, per_minute: u32) -> ApiResult<()> {
    let (Some(counted), Some(limit)) = (counted, Limit::per_minute(per_minute)) else { return Ok(()) };
    state.rate_limits.take(counted, limit, Instant::now()).map_err(|wait| refuse(what, wait))
}

/// Counts a request by its address, before anything is done for it.
pub fn count_request(state: &AppState, request: &Request) -> ApiResult<()> {
    let path = request.uri().path();
    if matches!(path, routes::HEALTHZ | routes::READYZ | routes::METRICS) {
        return Ok(());
    }
    let Config { requests_per_minute, logins_per_minute, .. } = state.config;
    let Some(address) = counted_address() else { return Ok(()) };
    // What only looks like a key changes nothing: it has to have been found good.
    let keyed =
        key_hash_in(request).is_some_and(|key_hash| state.rate_limits.is_good_key(&key_hash, Instant::now()));
    if !keyed {
        check(state, "requests", Some(Counted::Requests(address)), requests_per_minute)?;
    }
    if path.starts_with("/v1/auth/") {
        check(state, "logins", Some(Counted::Logins(address)), logins_per_minute)?;
    }
    Ok(())
}

/// What the key that a request shows is known by, if it shows one.
fn key_hash_in(request: &Request) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let key = value.strip_prefix("Bearer ")?;
    (server_keys::is_well_formed(key) || admin_keys::is_well_formed(key)).then(|| sha256(key.as_bytes()))
}

/// Before a key is looked up: whoever sent many wrong ones waits. Counted as if this one were wrong too; see
/// [`key_was_good`]. One that was good a moment ago is looked up in any case: others at its address do not keep it out.
pub fn before_key(state: &AppState, key_hash: Option<&str>) -> ApiResult<()> {
    if key_hash.is_some_and(|key_hash| state.rate_limits.is_good_key(key_hash, Instant::now())) {
        return Ok(());
    }
    check(state, "logins", counted_address().map(Counted::Logins), state.config.logins_per_minute)
}

/// Takes back what [`count_request`] and [`before_key`] counted.
pub fn key_was_good(state: &AppState, key_hash: &str) {
    let Some(address) = counted_address() else { return };
    let (limits, now) = (&state.rate_limits, Instant::now());
    if !limits.is_good_key(key_hash, now) {
        let Config { requests_per_minute, logins_per_minute, .. } = state.config;
        for (counted, per_minute) in
            [(Counted::Requests(address), requests_per_minute), (Counted::Logins(address), logins_per_minute)]
        {
            if let Some(limit) = Limit::per_minute(per_minute) {
                limits.give_back(&counted, limit);
            }
        }
    }
    limits.note_good_key(key_hash, now);
}

/// From now on it is counted as any other.
pub fn key_was_wrong(state: &AppState, key_hash: &str) {
    state.rate_limits.good_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(key_hash);
}

/// Before an account is made.
pub fn new_account(state: &AppState) -> ApiResult<()> {
    check(
        state,
        "new accounts",
        counted_address().map(Counted::NewAccounts),
        state.config.new_accounts_per_minute,
    )
}

/// With every request of a player. This machine's are not counted, as for addresses.
pub fn player(state: &AppState, player_id: &str) -> ApiResult<()> {
    let counted = counted_address().map(|_| Counted::Player(player_id.to_owned()));
    check(state, "requests of this player", counted, state.config.player_requests_per_minute)
}

/// Wrong passwords from one address: 10, then one a minute.
const PASSWORD_FROM: Limit = Limit { every: Duration::from_secs(60), burst: 10 };
/// The first wrong passwords of a network for an account: 3, then one a day.
const PASSWORD_FROM_NETWORK: Limit = Limit { every: Duration::from_secs(24 * 3600), burst: 3 };
/// Wrong passwords for one account from all strange networks together: 100, then 100 an hour (NIST SP 800-63B §3.2.2). Half of
/// them are for networks that have hardly tried it yet: whoever wants to keep the owner out of a new place needs some 1,200
/// networks, and the owner needs one.
const PASSWORD_OF_NEWCOMERS: Limit = Limit { every: Duration::from_secs(72), burst: 50 };
const PASSWORD_OF_STRANGERS: Limit = Limit { every: Duration::from_secs(72), burst: 50 };

/// Mails to one address: 3, then one in ten minutes.
pub const MAILS_TO: Limit = Limit { every: Duration::from_secs(600), burst: 3 };

/// An attempt at a password, counted as wrong until it turns out to be right.
///
/// Nobody is locked out by others: wrong passwords of strangers block other strangers, never an address from which the
/// account was logged in to before, and not a network from which it has hardly been tried. A password that is reset by mail
/// clears what strangers did. What is counted is the e-mail address, so that one without an account behaves the same.
pub struct PasswordAttempt<'a> {
    limits: &'a RateLimits,
    /// Each with its limit.
    counted: Vec<(Counted, Limit)>,
    /// How many of them are forgotten when the password was right; the others are given back.
    own: usize,
}

impl<'a> PasswordAttempt<'a> {
    /// `subject` is the hash of the e-mail address; `familiar` whether this address logged in to its account before.
    pub fn begin(limits: &'a RateLimits, subject: &str, familiar: bool) -> ApiResult<Self> {
        Self::begin_at(limits, subject, familiar, context::address(), Instant::now()).map_err(|wait| {
            let mut error = refuse("wrong passwords", wait);
            error.0.detail += ", or ask for a new password by mail";
            error
        })
    }

    fn begin_at(
        limits: &'a RateLimits,
        subject: &str,
        familiar: bool,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Self, Duration> {
        let from = Counted::PasswordFrom(subject.to_owned(), address.map(subscriber));
        let mut attempt = Self { limits, counted: Vec::with_capacity(3), own: 1 };
        attempt.take(from, PASSWORD_FROM, now)?;
        if familiar {
            return Ok(attempt);
        }
        let from_network = Counted::PasswordFromNetwork(subject.to_owned(), address.map(network));
        if attempt.try_take(from_network, PASSWORD_FROM_NETWORK, now).is_ok() {
            attempt.own += 1;
            attempt.take(Counted::PasswordOfNewcomers(subject.to_owned()), PASSWORD_OF_NEWCOMERS, now)?;
        } else {
            attempt.take(Counted::PasswordOfStrangers(subject.to_owned()), PASSWORD_OF_STRANGERS, now)?;
        }
        Ok(attempt)
    }

    fn try_take(&mut self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        self.limits.take(counted.clone(), limit, now)?;
        self.counted.push((counted, limit));
        Ok(())
    }

    /// A refused attempt counts nowhere: waiting as told is enough.
    fn take(&mut self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        self.try_take(counted, limit, now).inspect_err(|_| self.give_back())
    }

    fn give_back(&self) {
        for (counted, limit) in &self.counted {
            self.limits.give_back(counted, *limit);
        }
    }

    pub fn was_right(self) {
        for (place, (counted, limit)) in self.counted.iter().enumerate() {
            if place < self.own {
                self.limits.forget(counted);
            } else {
                self.limits.give_back(counted, *limit);
            }
        }
    }

    /// It was not looked at.
    pub fn was_none(self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests;
