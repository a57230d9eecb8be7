//! Epochs of leases: they grow, never recur, and prove to which line of keys they were given.
//!
//! An epoch holds the time at which it was given, in milliseconds, above [`SEAL_BITS`] bits of a keyed hash of that time,
//! of what is leased and of the line of keys that got it. So a database that was restored from an older copy goes on above
//! every epoch it had given before, and knows one of those again although its rows are lost: what was saved under it is
//! kept as a conflict, while a guess is refused. Epochs stay below 2^53, which a JSON reader of any language takes.

use aws_lc_rs::hmac;

use crate::database::Database;
use crate::database::secrets::shared_secret;

/// Bits of the seal: with the 42 of the time until the year 2109, an epoch has 53.
const SEAL_BITS: u32 = 11;
const SEAL_MASK: i64 = (1 << SEAL_BITS) - 1;

/// No epoch with a seal was given before 2026.
const EARLIEST_MS: i64 = 1_767_225_600_000;
/// How far a clock that was corrected since may have been ahead.
const LATEST_AHEAD_MS: i64 = 24 * 3_600 * 1_000;

/// Makes epochs, and knows its own again.
pub struct Epochs {
    key: hmac::Key,
}

impl Epochs {
    /// With the secret of this database, which every replica shares.
    pub async fn load(database: &Database) -> anyhow::Result<Self> {
        let mut seed = [0_u8; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| anyhow::anyhow!("no randomness"))?;
        let secret = shared_secret(database, "epochs", &seed).await?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) })
    }

    /// The epoch of a lease on `subject` that the line of keys `key_hash` is given at `now`, in milliseconds.
    pub fn at(&self, subject: &Subject<'_>, key_hash: &str, now: i64) -> i64 {
        (now << SEAL_BITS) | self.seal(subject, key_hash, now)
    }

    /// The next epoch after `former`, however far ahead of the clock that one is.
    pub fn after(&self, subject: &Subject<'_>, key_hash: &str, former: i64) -> i64 {
        self.at(subject, key_hash, (former >> SEAL_BITS) + 1)
    }

    /// Whether `epoch` was given to the line of keys `key_hash` before `now`, though no row says so. One guess in 2,048 is
    /// taken for such an epoch: whoever guesses must be slowed down.
    pub fn is_sealed_for(&self, subject: &Subject<'_>, key_hash: &str, epoch: i64, now: i64) -> bool {
        may_have_seal(epoch, now) && epoch & SEAL_MASK == self.seal(subject, key_hash, epoch >> SEAL_BITS)
    }

    fn seal(&self, subject: &Subject<'_>, key_hash: &str, at: i64) -> i64 {
        let (kind, id) = match subject {
            Subject::Player(id) => ("player", id),
            Subject::World(id) => ("world", id),
        };
        let tag = hmac::sign(&self.key, format!("{kind}\n{id}\n{key_hash}\n{at}").as_bytes());
        let bytes = tag.as_ref();
        i64::from(u16::from_be_bytes([bytes[0], bytes[1]])) & SEAL_MASK
    }
}

/// Whether the time in `epoch` is one at which epochs with a seal were given.
pub fn may_have_seal(epoch: i64, now: i64) -> bool {
    (EARLIEST_MS..now + LATEST_AHEAD_MS).contains(&(epoch >> SEAL_BITS))
}

/// What is leased.
pub enum Subject<'a> {
    /// A player, by id.
    Player(&'a str),
    /// A world, by id.
    World(&'a str),
}

#[cfg(test)]
mod tests;
