//! Access for tests and for the simulation: the numbers that the client draws, failpoints, and a few values that
//! nobody else needs to see. With the feature `test-util` only, which no product has.

use backend_protocol::registration::Revocation;
use tokio::time::Instant;

use crate::player_store::PlayerStore;
use crate::registration::Registration;

pub use crate::failpoints::{Failpoint, set_failpoint};
pub use crate::platform::clock::simulated::SimulatedClock;
pub use crate::platform::rng::seeded::draw_from;

/// The epoch under which the store holds a player.
pub fn epoch_of(store: &PlayerStore, player_id: &str) -> Option<i64> {
    store.epoch_of(player_id)
}

/// The worlds whose leases the server's heartbeats renew.
pub fn held_worlds(registration: &Registration) -> Vec<String> {
    registration.worlds()
}

/// Notes revocations as a heartbeat's reply does.
pub fn note_revocations(registration: &Registration, revocations: Vec<Revocation>) {
    registration.revocations().note(revocations, Instant::now());
}
