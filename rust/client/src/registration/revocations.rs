//! Tokens that ended before their time, as heartbeats tell: of players who were banned or who ended their sessions.
//!
//! It is state, not news: who looks late, or again, sees the same. A token is judged by when it was issued, which the backend
//! wrote into it, and so is the end of it: no clock of this machine takes part.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_protocol::registration::{Revocation, RevocationReason};
use backend_protocol::validation::MAX_ACCESS_TOKEN_SECONDS;
use backend_protocol::{Code, Problem};
use tokio::time::Instant;

use crate::error::ClientError;

/// Most players remembered. Beyond it the oldest ends are forgotten first: fewest tokens are left of them.
const MAX_REMEMBERED: usize = 50_000;
/// After this long every token that ended has expired, too. More than a token's life and every clock's leeway.
const REMEMBERED_FOR: Duration = Duration::from_secs(MAX_ACCESS_TOKEN_SECONDS + 300);

/// What ended, by player.
#[derive(Default)]
pub struct Revocations {
    ended: Mutex<HashMap<String, Ended>>,
    version: AtomicU64,
}

#[derive(Clone, Copy)]
struct Ended {
    before: u64,
    reason: RevocationReason,
    heard: Instant,
}

impl Revocations {
    /// Takes over what a reply tells. The same may come twice, and in any order.
    pub(crate) fn note(&self, revocations: Vec<Revocation>, now: Instant) {
        if revocations.is_empty() {
            return;
        }
        let mut ended = self.lock();
        ended.retain(|_, one| now.saturating_duration_since(one.heard) < REMEMBERED_FOR);
        let mut is_new = false;
        for Revocation { player_id, reason, before } in revocations {
            if ended.get(&player_id).is_none_or(|known| known.before < before || known.reason != reason) {
                is_new = true;
            }
            let one = ended.entry(player_id).or_insert(Ended { before, reason, heard: now });
            if one.before <= before {
                *one = Ended { before, reason, heard: now };
            }
        }
        if ended.len() > MAX_REMEMBERED {
            tracing::warn!(
                players = ended.len(),
                "more revocations than can be remembered: the oldest are forgotten"
            );
            let mut ends: Vec<u64> = ended.values().map(|one| one.before).collect();
            let surplus = ends.len() - MAX_REMEMBERED;
            let (_, oldest_kept, _) = ends.select_nth_unstable(surplus);
            let oldest_kept = *oldest_kept;
            ended.retain(|_, one| one.before >= oldest_kept);
        }
        drop(ended);
        if is_new {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Why a token of `player_id` that was issued at `issued_at`, in seconds since 1970, is no longer good. `None`: nothing is
    /// known against it.
    pub fn reason(&self, player_id: &str, issued_at: u64) -> Option<RevocationReason> {
        let ended = self.lock();
        ended.get(player_id).filter(|one| issued_at <= one.before).map(|one| one.reason)
    }

    /// Fails if a token of `player_id` that was issued at `issued_at` is no longer good.
    pub fn check(&self, player_id: &str, issued_at: u64) -> Result<(), ClientError> {
        match self.reason(player_id, issued_at) {
            None => Ok(()),
            Some(RevocationReason::Banned) => {
                Err(Problem::new(Code::Banned, "this account may not play").into())
            }
            Some(RevocationReason::SessionsEnded | RevocationReason::Unknown) => {
                Err(Problem::new(Code::TokenInvalid, "the session of this token was ended").into())
            }
        }
    }

    /// Grows whenever something ends: for who looks every frame.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Ended>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(player_id: &str, before: u64) -> Revocation {
        Revocation { player_id: player_id.into(), reason: RevocationReason::SessionsEnded, before }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_issued_up_to_the_end_is_not_good_and_what_came_after_it_is() {
        let revocations = Revocations::default();
        revocations.note(vec![ended("ada", 100)], Instant::now());
        assert_eq!(revocations.reason("ada", 100), Some(RevocationReason::SessionsEnded));
        assert_eq!(revocations.reason("ada", 101), None);
        assert_eq!(revocations.reason("bo", 100), None);
        let refused = revocations.check("ada", 99).expect_err("ended");
        assert_eq!(refused.code(), "token_invalid");
    }

    #[tokio::test(start_paused = true)]
    async fn order_and_repetition_do_not_matter() {
        let revocations = Revocations::default();
        let banned = Revocation { reason: RevocationReason::Banned, ..ended("ada", 200) };
        revocations.note(vec![banned.clone()], Instant::now());
        let version = revocations.version();
        revocations.note(vec![banned], Instant::now());
        assert_eq!(revocations.version(), version, "nothing new");
        revocations.note(vec![ended("ada", 100)], Instant::now());
        assert_eq!(revocations.check("ada", 150).expect_err("banned").code(), "banned");
        assert_eq!(revocations.reason("ada", 201), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_token_can_be_left_of_is_forgotten() {
        let revocations = Revocations::default();
        revocations.note(vec![ended("ada", 100)], Instant::now());
        tokio::time::advance(REMEMBERED_FOR).await;
        revocations.note(vec![ended("bo", 100)], Instant::now());
        assert_eq!(revocations.reason("ada", 100), None);
        assert!(revocations.reason("bo", 100).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_bound_and_the_newest_stay() {
        let revocations = Revocations::default();
        for start in (0..MAX_REMEMBERED as u64 + 2_000).step_by(1_000) {
            let batch = (start..start + 1_000).map(|number| ended(&number.to_string(), number));
            revocations.note(batch.collect(), Instant::now());
        }
        assert_eq!(revocations.lock().len(), MAX_REMEMBERED);
        assert_eq!(revocations.reason("1999", 0), None);
        assert!(revocations.reason("2000", 0).is_some());
    }
}
