//! How often: by address, by player, and by what is tried. Counted in memory, by each replica for itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use backend_protocol::{Code, routes};

use crate::admin_keys;
use crate::client_address::{self, subscriber};
use crate::config::Config;
use crate::problem::{Outcome, Refusal};
use crate::server_keys;
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
    /// Wrong passwords for an e-mail address (hashed) from addresses where nobody has logged in to it.
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
}

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

    /// Forgets what was counted.
    pub fn forget(&self, counted: &Counted) {
        self.unused_at.lock().unwrap_or_else(PoisonError::into_inner).remove(counted);
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

fn refuse(what: &'static str, wait: Duration) -> Refusal {
    metrics::counter!("backend_rate_limited_total", "limit" => what).increment(1);
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    Refusal::later(Code::RateLimited, seconds, format!("too many {what}; try again in {seconds} s"))
}

/// The address that counts: none for this machine, which is a proxy or a developer's.
fn counted_address() -> Option<IpAddr> {
    client_address::current().filter(|address| !address.is_loopback()).map(subscriber)
}

fn check(state: &AppState, what: &'static str, counted: Option<Counted>, per_minute: u32) -> Outcome<()> {
    let (Some(counted), Some(limit)) = (counted, Limit::per_minute(per_minute)) else { return Ok(()) };
    state.rate_limits.take(counted, limit, Instant::now()).map_err(|wait| refuse(what, wait))
}

/// Counts a request by its address, before anything is done for it.
pub fn count_request(state: &AppState, request: &Request) -> Outcome<()> {
    let path = request.uri().path();
    if matches!(path, routes::HEALTHZ | routes::READYZ | routes::METRICS) {
        return Ok(());
    }
    let Config { requests_per_minute, logins_per_minute, .. } = state.config;
    // Wrong keys are counted where they are found to be wrong.
    let keyed = request.headers().get(AUTHORIZATION).is_some_and(|value| {
        let key = value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        key.starts_with(server_keys::PREFIX.as_bytes()) || key.starts_with(admin_keys::PREFIX.as_bytes())
    });
    let Some(address) = counted_address() else { return Ok(()) };
    if !keyed {
        check(state, "requests", Some(Counted::Requests(address)), requests_per_minute)?;
    }
    if path.starts_with("/v1/auth/") {
        check(state, "logins", Some(Counted::Logins(address)), logins_per_minute)?;
    }
    Ok(())
}

/// Before a key is looked up: whoever sent many wrong ones waits. Counted as if this one were wrong too; see
/// [`key_was_good`].
pub fn before_key(state: &AppState) -> Outcome<()> {
    check(state, "logins", counted_address().map(Counted::Logins), state.config.logins_per_minute)
}

/// Takes back what [`before_key`] counted.
pub fn key_was_good(state: &AppState) {
    if let (Some(address), Some(limit)) =
        (counted_address(), Limit::per_minute(state.config.logins_per_minute))
    {
        state.rate_limits.give_back(&Counted::Logins(address), limit);
    }
}

/// Before an account is made.
pub fn new_account(state: &AppState) -> Outcome<()> {
    check(
        state,
        "new accounts",
        counted_address().map(Counted::NewAccounts),
        state.config.new_accounts_per_minute,
    )
}

/// With every request of a player. This machine's are not counted, as for addresses.
pub fn player(state: &AppState, player_id: &str) -> Outcome<()> {
    let counted = counted_address().map(|_| Counted::Player(player_id.to_owned()));
    check(state, "requests of this player", counted, state.config.player_requests_per_minute)
}

/// Wrong passwords from one address: 10, then one a minute.
const PASSWORD_FROM: Limit = Limit { every: Duration::from_secs(60), burst: 10 };
/// Wrong passwords for one account from all strange addresses together: 100, then 100 an hour (NIST SP 800-63B §3.2.2).
const PASSWORD_OF_STRANGERS: Limit = Limit { every: Duration::from_secs(36), burst: 100 };

/// Mails to one address: 3, then one in ten minutes.
pub const MAILS_TO: Limit = Limit { every: Duration::from_secs(600), burst: 3 };

/// An attempt at a password, counted as wrong until it turns out to be right.
///
/// Nobody is locked out by others: wrong passwords of strangers block other strangers, never an address from which the
/// account was logged in to before. What is counted is the e-mail address, so that one without an account behaves the same.
pub struct PasswordAttempt<'a> {
    limits: &'a RateLimits,
    from: Counted,
    strangers: Option<Counted>,
}

impl<'a> PasswordAttempt<'a> {
    /// `subject` is the hash of the e-mail address; `familiar` whether this address logged in to its account before.
    pub fn begin(limits: &'a RateLimits, subject: &str, familiar: bool) -> Outcome<Self> {
        let address = client_address::current().map(subscriber);
        Self::begin_at(limits, subject, familiar, address, Instant::now())
            .map_err(|wait| refuse("wrong passwords", wait))
    }

    fn begin_at(
        limits: &'a RateLimits,
        subject: &str,
        familiar: bool,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Self, Duration> {
        let from = Counted::PasswordFrom(subject.to_owned(), address);
        let strangers = (!familiar).then(|| Counted::PasswordOfStrangers(subject.to_owned()));
        limits.take(from.clone(), PASSWORD_FROM, now)?;
        if let Some(strangers) = &strangers {
            limits.take(strangers.clone(), PASSWORD_OF_STRANGERS, now)?;
        }
        Ok(Self { limits, from, strangers })
    }

    pub fn was_right(self) {
        self.limits.forget(&self.from);
        if let Some(strangers) = &self.strangers {
            self.limits.give_back(strangers, PASSWORD_OF_STRANGERS);
        }
    }

    /// It was not looked at.
    pub fn was_none(self) {
        self.limits.give_back(&self.from, PASSWORD_FROM);
        if let Some(strangers) = &self.strangers {
            self.limits.give_back(strangers, PASSWORD_OF_STRANGERS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { every: Duration::from_secs(2), burst: 3 };

    #[test]
    fn a_burst_and_then_a_steady_rate() {
        let (limits, now) = (RateLimits::default(), Instant::now());
        let take = |at| limits.take(Counted::Player("ada".into()), LIMIT, now + Duration::from_secs(at));
        assert_eq!((take(0), take(0), take(0)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(take(0), Err(Duration::from_secs(2)));
        assert_eq!(take(1), Err(Duration::from_secs(1)));
        assert_eq!((take(2), take(2)), (Ok(()), Err(Duration::from_secs(2))));
        // A refused one does not count: waiting as told is enough.
        assert_eq!(take(4), Ok(()));
        assert_eq!((take(60), take(60), take(60)), (Ok(()), Ok(()), Ok(())));
        assert!(take(60).is_err());
        limits.give_back(&Counted::Player("ada".into()), LIMIT);
        assert_eq!(take(60), Ok(()));
    }

    #[test]
    fn strangers_do_not_lock_the_owner_out() {
        let (limits, now) = (RateLimits::default(), Instant::now());
        let attempt = |familiar, address: [u8; 4]| {
            PasswordAttempt::begin_at(&limits, "ada", familiar, Some(address.into()), now).map(|_wrong| ())
        };
        for network in 0..10 {
            for _ in 0..10 {
                attempt(false, [198, 51, network, 1]).expect("ten from one address, a hundred from all");
            }
            attempt(false, [198, 51, network, 1]).expect_err("an eleventh");
        }
        attempt(false, [198, 51, 100, 1]).expect_err("any stranger");
        for _ in 0..10 {
            attempt(true, [203, 0, 113, 1]).expect("where the owner was before");
        }
        attempt(true, [203, 0, 113, 1]).expect_err("ten here as well");
        let right = PasswordAttempt::begin_at(&limits, "ada", true, Some([203, 0, 113, 2].into()), now)
            .expect("elsewhere");
        right.was_right();
    }

    #[test]
    fn the_memory_is_bounded_and_the_busiest_are_kept() {
        let (limits, now) = (RateLimits::default(), Instant::now());
        let busy = || Counted::Player("busy".into());
        for _ in 0..3 {
            limits.take(busy(), LIMIT, now).expect("burst");
        }
        for number in 0..MOST as u32 * 2 {
            limits.take(Counted::Requests(IpAddr::from(number.to_be_bytes())), LIMIT, now).expect("first");
        }
        assert!(limits.unused_at.lock().expect("lock").len() <= MOST);
        assert!(limits.take(busy(), LIMIT, now).is_err());
    }
}
