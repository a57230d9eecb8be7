//! Rate limits by address, by player and by account. Counted in memory, by each replica for itself.

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
use crate::config::Config;
use crate::digest::sha256;
use crate::key_format::{is_admin_key, is_server_key};

/// Most counters at a time: some 15 MB. Beyond it, the counters that are needed least are dropped.
const MAX_COUNTED: usize = 100_000;

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
    /// Wrong passwords for an e-mail address (hashed) from a network it was not logged in to from.
    PasswordFromNetwork(String, Option<IpAddr>),
    /// Wrong passwords for an e-mail address (hashed), the first ones of each such network.
    PasswordOfNewcomers(String),
    /// Wrong passwords for an e-mail address (hashed), the later ones of such networks.
    PasswordOfStrangers(String),
    /// Wrong passwords of a player for a room.
    RoomPasswordOf(String, String),
    /// Wrong passwords from an address for a room.
    RoomPasswordFrom(String, IpAddr),
    /// Wrong invite codes of a player.
    InviteCodesOf(String),
    /// Wrong invite codes from an address.
    InviteCodesFrom(IpAddr),
    /// Seats that players of an address have reserved.
    SeatsFrom(IpAddr),
    /// Room lists that a player has begun to follow.
    FollowsOf(String),
    /// Room lists that players of an address have begun to follow.
    FollowsFrom(IpAddr),
    /// Epochs that were never given to a line of server keys (hashed), and that it saved under: of one player, and of all.
    WrongEpochsOf { key_hash: String, player_id: Option<String> },
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    every: Duration,
    burst: u32,
}

impl Limit {
    /// `burst` at once, then one `every` so often.
    pub const fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst }
    }

    /// `count` a minute, half of which may come at once. None: without limit.
    fn per_minute(count: u32) -> Option<Self> {
        (count > 0).then(|| Self { every: Duration::from_secs(60) / count, burst: count.div_ceil(2) })
    }
}

/// The limits and the counts. Of each counter only the time is kept at which it would be unused again (the generic cell rate
/// algorithm). Written here rather than taken from the `governor` crate, which cannot take a request back that turned out
/// not to count, forget one counter, or bound how many there are.
#[derive(Default)]
pub struct RateLimits {
    requests: Option<Limit>,
    logins: Option<Limit>,
    new_accounts: Option<Limit>,
    player_requests: Option<Limit>,
    unused_at: Mutex<HashMap<Counted, Instant>>,
    /// Hashes of keys that were valid, and when: their requests are not counted by address.
    valid_keys: Mutex<HashMap<String, Instant>>,
}

/// How long a key counts as valid without another look-up. Meanwhile a revoked one is rejected, but not counted.
const VALID_KEY_TTL: Duration = Duration::from_secs(60);
/// Most keys remembered; there are as many as fleets.
const MAX_KEYS: usize = 10_000;

impl RateLimits {
    pub fn new(config: &Config) -> Self {
        Self {
            requests: Limit::per_minute(config.requests_per_minute),
            logins: Limit::per_minute(config.logins_per_minute),
            new_accounts: Limit::per_minute(config.new_accounts_per_minute),
            player_requests: Limit::per_minute(config.player_requests_per_minute),
            ..Self::default()
        }
    }

    /// Counts one, or returns how long to wait.
    pub fn take(&self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        let mut unused_at = self.unused_at.lock().unwrap_or_else(PoisonError::into_inner);
        let at = unused_at.get(&counted).map_or(now, |at| (*at).max(now));
        let full = limit.every * limit.burst;
        let wait = (at + limit.every).duration_since(now).saturating_sub(full);
        if !wait.is_zero() {
            return Err(wait);
        }
        if unused_at.len() >= MAX_COUNTED && !unused_at.contains_key(&counted) {
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

    fn is_valid_key(&self, key_hash: &str, now: Instant) -> bool {
        let good = self.valid_keys.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(key_hash).is_some_and(|at| now.duration_since(*at) < VALID_KEY_TTL)
    }

    fn record_valid_key(&self, key_hash: &str, now: Instant) {
        let mut good = self.valid_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MAX_KEYS {
            good.retain(|_, at| now.duration_since(*at) < VALID_KEY_TTL);
        }
        if good.len() < MAX_KEYS || good.contains_key(key_hash) {
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
    pub fn forget_unknown_networks(&self, subject: &str) {
        self.forget(&Counted::PasswordOfNewcomers(subject.to_owned()));
        self.forget(&Counted::PasswordOfStrangers(subject.to_owned()));
    }
}

fn make_room(unused_at: &mut HashMap<Counted, Instant>, now: Instant) {
    unused_at.retain(|_, at| *at > now);
    if unused_at.len() >= MAX_COUNTED {
        // The half that needs it least, so that this is done seldom.
        let mut times: Vec<Instant> = unused_at.values().copied().collect();
        let (_, median, _) = times.select_nth_unstable(MAX_COUNTED / 2);
        let median = *median;
        unused_at.retain(|_, at| *at > median);
    }
}

pub fn rejection(what: &'static str, wait: Duration) -> ApiError {
    metrics::counter!("backend_rate_limited_total", "limit" => what).increment(1);
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    ApiError::later(Code::RateLimited, seconds, format!("too many {what}; try again in {seconds} s"))
}

/// The address that counts: none for this machine, which is a proxy or a developer's.
pub fn counted_address() -> Option<IpAddr> {
    context::address().filter(|address| !address.is_loopback()).map(subscriber)
}

/// By address, by account and by key. Loopback, which is a proxy or a developer's machine, is not limited.
impl RateLimits {
    fn check(&self, what: &'static str, counted: Option<Counted>, limit: Option<Limit>) -> ApiResult<()> {
        let (Some(counted), Some(limit)) = (counted, limit) else { return Ok(()) };
        self.take(counted, limit, Instant::now()).map_err(|wait| rejection(what, wait))
    }

    /// Counts a request by its address, before anything is done for it.
    pub fn count_request(&self, request: &Request) -> ApiResult<()> {
        let path = request.uri().path();
        if matches!(path, routes::HEALTHZ | routes::READYZ | routes::METRICS) {
            return Ok(());
        }
        let Some(address) = counted_address() else { return Ok(()) };
        // Only a key that was found valid exempts: anything could look like one.
        let keyed = key_hash_in(request).is_some_and(|key_hash| self.is_valid_key(&key_hash, Instant::now()));
        if !keyed {
            self.check("requests", Some(Counted::Requests(address)), self.requests)?;
        }
        if path.starts_with("/v1/auth/") {
            self.check("logins", Some(Counted::Logins(address)), self.logins)?;
        }
        Ok(())
    }

    /// Counts a key that is about to be looked up as if it were invalid; see [`RateLimits::key_is_valid`]. A key that was valid
    /// a moment ago is looked up in any case: others at its address do not keep it out.
    pub fn count_key(&self, key_hash: Option<&str>) -> ApiResult<()> {
        if key_hash.is_some_and(|key_hash| self.is_valid_key(key_hash, Instant::now())) {
            return Ok(());
        }
        self.check("logins", counted_address().map(Counted::Logins), self.logins)
    }

    /// Takes back what [`RateLimits::count_request`] and [`RateLimits::count_key`] counted.
    pub fn key_is_valid(&self, key_hash: &str) {
        let Some(address) = counted_address() else { return };
        let now = Instant::now();
        if !self.is_valid_key(key_hash, now) {
            for (counted, limit) in
                [(Counted::Requests(address), self.requests), (Counted::Logins(address), self.logins)]
            {
                if let Some(limit) = limit {
                    self.give_back(&counted, limit);
                }
            }
        }
        self.record_valid_key(key_hash, now);
    }

    /// Requests with this key are counted by address from now on.
    pub fn key_is_invalid(&self, key_hash: &str) {
        self.valid_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(key_hash);
    }

    /// Counts a new account by its address.
    pub fn count_new_account(&self) -> ApiResult<()> {
        self.check("new accounts", counted_address().map(Counted::NewAccounts), self.new_accounts)
    }

    /// Counts a request of a player, wherever it comes from but loopback.
    pub fn count_player_request(&self, player_id: &str) -> ApiResult<()> {
        let counted = counted_address().map(|_| Counted::Player(player_id.to_owned()));
        self.check("requests of this player", counted, self.player_requests)
    }
}

/// The hash of the key that a request carries, if it carries one.
fn key_hash_in(request: &Request) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let key = value.strip_prefix("Bearer ")?;
    (is_server_key(key) || is_admin_key(key)).then(|| sha256(key.as_bytes()))
}

/// Wrong passwords from one address: 10, then one a minute.
const PASSWORD_FROM: Limit = Limit { every: Duration::from_secs(60), burst: 10 };
/// The first wrong passwords of a network for an account: 3, then one a day.
const PASSWORD_FROM_NETWORK: Limit = Limit { every: Duration::from_secs(24 * 3600), burst: 3 };
/// Wrong passwords for one account from all strange networks together: 100, then 100 an hour (NIST SP 800-63B §3.2.2). Half of
/// them are for networks that have hardly tried it yet: an attacker who wants to keep the owner out of a new place needs some 1,200
/// networks, and the owner needs one.
const PASSWORD_OF_NEWCOMERS: Limit = Limit { every: Duration::from_secs(72), burst: 50 };
const PASSWORD_OF_STRANGERS: Limit = Limit { every: Duration::from_secs(72), burst: 50 };

/// Mails to one address: 3, then one in ten minutes.
pub const MAILS_TO: Limit = Limit { every: Duration::from_secs(600), burst: 3 };

/// Epochs of one player that were never given to the line of server keys that saves under them: 20, then one a minute. Servers
/// have no such epochs, unless they send what they saved with another key to a database that lost it: then what they have of
/// other players must not suffer from it.
const WRONG_EPOCHS_OF_PLAYER: Limit = Limit { every: Duration::from_secs(60), burst: 20 };
/// The same of all players: 5,000, then one a second. Of 2,048 guesses, one is right.
const WRONG_EPOCHS_OF: Limit = Limit { every: Duration::from_secs(1), burst: 5_000 };

impl RateLimits {
    /// Whether an epoch of a player that no row knows `is_right`. Always false for a line of keys that was wrong too often: then
    /// nobody learns whether it is.
    pub fn verify_epoch(&self, key_hash: &str, player_id: &str, is_right: impl FnOnce() -> bool) -> bool {
        let counted = |player_id| Counted::WrongEpochsOf { key_hash: key_hash.to_owned(), player_id };
        let limits =
            [(counted(Some(player_id.to_owned())), WRONG_EPOCHS_OF_PLAYER), (counted(None), WRONG_EPOCHS_OF)];
        let mut taken = Taken::new(self);
        let now = Instant::now();
        if limits.into_iter().any(|(counted, limit)| taken.take(counted, limit, now).is_err()) {
            return false;
        }
        let is_right = is_right();
        if is_right {
            taken.give_back();
        }
        is_right
    }
}

/// What was counted for one attempt, by several limits.
pub struct Taken<'a> {
    limits: &'a RateLimits,
    /// Each with its limit.
    counted: Vec<(Counted, Limit)>,
}

impl<'a> Taken<'a> {
    pub fn new(limits: &'a RateLimits) -> Self {
        Self { limits, counted: Vec::with_capacity(3) }
    }

    fn try_take(&mut self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        self.limits.take(counted.clone(), limit, now)?;
        self.counted.push((counted, limit));
        Ok(())
    }

    /// A rejected attempt counts nowhere: waiting as long as `Retry-After` is enough.
    pub fn take(&mut self, counted: Counted, limit: Limit, now: Instant) -> Result<(), Duration> {
        self.try_take(counted, limit, now).inspect_err(|_| {
            for (counted, limit) in self.counted.drain(..) {
                self.limits.give_back(&counted, limit);
            }
        })
    }

    /// The attempt does not count after all.
    pub fn give_back(self) {
        for (counted, limit) in &self.counted {
            self.limits.give_back(counted, *limit);
        }
    }
}

/// An attempt at a password, counted as wrong until it turns out to be right.
///
/// No account is locked out by others: wrong passwords of strangers block other strangers, never an address from which the
/// account was logged in to before, and not a network from which it has hardly been tried. A password that is reset by mail
/// clears what strangers did. What is counted is the e-mail address, so that one without an account behaves the same.
pub struct PasswordAttempt<'a> {
    taken: Taken<'a>,
    /// How many of them are forgotten when the password was right; the others are given back.
    own: usize,
}

impl<'a> PasswordAttempt<'a> {
    /// `subject` is the hash of the e-mail address; `familiar` whether this address logged in to its account before.
    pub fn begin(limits: &'a RateLimits, subject: &str, familiar: bool) -> ApiResult<Self> {
        Self::begin_at(limits, subject, familiar, context::address(), Instant::now()).map_err(|wait| {
            let mut error = rejection("wrong passwords", wait);
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
        let mut attempt = Self { taken: Taken::new(limits), own: 1 };
        attempt.taken.take(from, PASSWORD_FROM, now)?;
        if familiar {
            return Ok(attempt);
        }
        let from_network = Counted::PasswordFromNetwork(subject.to_owned(), address.map(network));
        if attempt.taken.try_take(from_network, PASSWORD_FROM_NETWORK, now).is_ok() {
            attempt.own += 1;
            attempt.taken.take(
                Counted::PasswordOfNewcomers(subject.to_owned()),
                PASSWORD_OF_NEWCOMERS,
                now,
            )?;
        } else {
            attempt.taken.take(
                Counted::PasswordOfStrangers(subject.to_owned()),
                PASSWORD_OF_STRANGERS,
                now,
            )?;
        }
        Ok(attempt)
    }

    /// Clears what this address counted, and takes the rest back: the password was right.
    pub fn succeed(self) {
        let Taken { limits, counted } = self.taken;
        for (place, (counted, limit)) in counted.iter().enumerate() {
            if place < self.own {
                limits.forget(counted);
            } else {
                limits.give_back(counted, *limit);
            }
        }
    }

    /// Takes the attempt back: the password was not checked.
    pub fn cancel(self) {
        self.taken.give_back();
    }
}

#[cfg(test)]
mod tests;
