//! Limits on wrong room passwords and invite codes.
//!
//! Each attempt counts as wrong until it turns out to be right. Guests cost nothing, so what bounds a guesser is the address;
//! loopback, which is a proxy or a developer's machine, has no limit but the player's.

use std::time::{Duration, Instant};

use crate::http::ApiResult;
use crate::http::rate_limit::{Counted, Limit, RateLimits, counted_address, rejection};

/// Wrong passwords of one player for one room: 5, then one a minute.
const PASSWORD_OF_PLAYER: Limit = Limit::new(Duration::from_secs(60), 5);
/// Wrong passwords from one address for one room: 20, then one a minute.
const PASSWORD_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(60), 20);
/// Wrong codes of one player: 10, then one a minute.
const CODES_OF_PLAYER: Limit = Limit::new(Duration::from_secs(60), 10);
/// Wrong codes from one address: 60, then one a minute, 1,500 on the first day. Of 729 million codes, 10,000 rooms have 10,000:
/// such a guesser finds one of them in some 50 days, and which one is chance.
const CODES_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(60), 60);

/// An attempt that counts as wrong unless [`Guess::was_right`].
pub struct Guess<'a> {
    limits: &'a RateLimits,
    counted: Vec<(Counted, Limit)>,
}

impl<'a> Guess<'a> {
    /// Counts an attempt at the password of a room.
    pub fn at_password(limits: &'a RateLimits, room_id: &str, player_id: &str) -> ApiResult<Self> {
        let by_address =
            counted_address().map(|address| Counted::RoomPasswordFrom(room_id.to_owned(), address));
        let by_player = Counted::RoomPasswordOf(room_id.to_owned(), player_id.to_owned());
        let counted = by_address.map(|counted| (counted, PASSWORD_FROM_ADDRESS)).into_iter();
        Self::begin(limits, "wrong room passwords", counted.chain([(by_player, PASSWORD_OF_PLAYER)]))
    }

    /// Counts an attempt at an invite code.
    pub fn at_invite_code(limits: &'a RateLimits, player_id: &str) -> ApiResult<Self> {
        let by_address = counted_address().map(Counted::InviteCodesFrom);
        let by_player = Counted::InviteCodesOf(player_id.to_owned());
        let counted = by_address.map(|counted| (counted, CODES_FROM_ADDRESS)).into_iter();
        Self::begin(limits, "wrong invite codes", counted.chain([(by_player, CODES_OF_PLAYER)]))
    }

    fn begin(
        limits: &'a RateLimits,
        what: &'static str,
        counted: impl Iterator<Item = (Counted, Limit)>,
    ) -> ApiResult<Self> {
        let mut guess = Self { limits, counted: Vec::with_capacity(2) };
        let now = Instant::now();
        for (counted, limit) in counted {
            if let Err(wait) = limits.take(counted.clone(), limit, now) {
                // An attempt that is not made counts nowhere.
                guess.give_back();
                return Err(rejection(what, wait));
            }
            guess.counted.push((counted, limit));
        }
        Ok(guess)
    }

    /// Takes the attempt back: it was right, or not looked at.
    pub fn was_right(self) {
        self.give_back();
    }

    fn give_back(&self) {
        for (counted, limit) in &self.counted {
            self.limits.give_back(counted, *limit);
        }
    }
}
