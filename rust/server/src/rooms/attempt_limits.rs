//! Limits on wrong room passwords, wrong invite codes, seats that are reserved, and room lists that are followed anew.
//!
//! A guess counts as wrong until it turns out to be right. Guests cost nothing, so what bounds whoever guesses, or reserves seats
//! to keep others out, is the address; loopback, which is a proxy or a developer's machine, has no limit but the player's.

use std::time::{Duration, Instant};

use crate::http::ApiResult;
use crate::http::rate_limit::{Counted, Limit, RateLimits, Taken, counted_address, rejection};

/// Wrong passwords of one player for one room: 5, then one a minute.
const PASSWORD_OF_PLAYER: Limit = Limit::new(Duration::from_secs(60), 5);
/// Wrong passwords from one address for one room: 20, then one a minute.
const PASSWORD_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(60), 20);
/// Wrong codes of one player: 10, then one a minute.
const CODES_OF_PLAYER: Limit = Limit::new(Duration::from_secs(60), 10);
/// Wrong codes from one address: 60, then one a minute, 1,500 on the first day. Of 729 million codes, 10,000 rooms have 10,000:
/// such a guesser finds one of them in some 50 days, and which one is chance.
const CODES_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(60), 60);

/// Seats reserved from one address: 64, then one in 2 s. A party at one place finds its seats; whoever reserves without coming
/// keeps no more than some 100 at a time, since a seat lasts as long as its ticket.
const SEATS_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(2), 64);

/// Room lists that a player begins to follow: 20, then one in 2 s. Whoever tries out filters is below it.
const FOLLOWS_OF_PLAYER: Limit = Limit::new(Duration::from_secs(2), 20);
/// The same from one address: 64, then one in 2 s. As many as may be followed at a time by default come back at once.
const FOLLOWS_FROM_ADDRESS: Limit = Limit::new(Duration::from_secs(2), 64);

/// Counts a guess at the password of a room.
pub fn guess_password<'a>(limits: &'a RateLimits, room_id: &str, player_id: &str) -> ApiResult<Taken<'a>> {
    let by_address = counted_address().map(|address| Counted::RoomPasswordFrom(room_id.to_owned(), address));
    let by_player = Counted::RoomPasswordOf(room_id.to_owned(), player_id.to_owned());
    let counted = by_address.map(|counted| (counted, PASSWORD_FROM_ADDRESS)).into_iter();
    take(limits, "wrong room passwords", counted.chain([(by_player, PASSWORD_OF_PLAYER)]))
}

/// Counts a guess at an invite code.
pub fn guess_invite_code<'a>(limits: &'a RateLimits, player_id: &str) -> ApiResult<Taken<'a>> {
    let by_address = counted_address().map(Counted::InviteCodesFrom);
    let by_player = Counted::InviteCodesOf(player_id.to_owned());
    let counted = by_address.map(|counted| (counted, CODES_FROM_ADDRESS)).into_iter();
    take(limits, "wrong invite codes", counted.chain([(by_player, CODES_OF_PLAYER)]))
}

/// Counts seats that are about to be reserved.
pub fn reserve_seats(limits: &RateLimits, seats: u32) -> ApiResult<Taken<'_>> {
    let counted = counted_address().map(|address| (Counted::SeatsFrom(address), SEATS_FROM_ADDRESS));
    take(limits, "reserved seats", (0..seats).filter_map(|_| counted.clone()))
}

/// Counts a room list that a player begins to follow.
pub fn follow_list<'a>(limits: &'a RateLimits, player_id: &str) -> ApiResult<Taken<'a>> {
    let by_address = counted_address().map(Counted::FollowsFrom);
    let by_player = Counted::FollowsOf(player_id.to_owned());
    let counted = by_address.map(|counted| (counted, FOLLOWS_FROM_ADDRESS)).into_iter();
    take(limits, "newly followed room lists", counted.chain([(by_player, FOLLOWS_OF_PLAYER)]))
}

fn take<'a>(
    limits: &'a RateLimits,
    what: &'static str,
    counted: impl Iterator<Item = (Counted, Limit)>,
) -> ApiResult<Taken<'a>> {
    let (mut taken, now) = (Taken::new(limits), Instant::now());
    for (counted, limit) in counted {
        taken.take(counted, limit, now).map_err(|wait| rejection(what, wait))?;
    }
    Ok(taken)
}
