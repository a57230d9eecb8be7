//! The numbers of leases that are over.

use std::collections::HashMap;
use std::sync::Arc;

use super::player::Player;

/// Leases whose numbers are remembered after they ended.
const MAX_ENDED_LEASES: usize = 50_000;

/// How far the numbers of leases that are over had come, by player and epoch. A backend that went back may give the same lease
/// again, also one before the last, and a number stands for one save only.
#[derive(Default)]
pub struct EndedLeases(HashMap<(Arc<str>, i64), i64>);

impl EndedLeases {
    /// Notes a player who leaves.
    pub fn note(&mut self, player: &Player) {
        if self.0.len() >= MAX_ENDED_LEASES {
            let mut epochs: Vec<i64> = self.0.keys().map(|(_, epoch)| *epoch).collect();
            let (_, middle, _) = epochs.select_nth_unstable(MAX_ENDED_LEASES / 2);
            let middle = *middle;
            // Epochs grow with time.
            self.0.retain(|(_, epoch), _| *epoch > middle);
        }
        self.0.insert((Arc::clone(&player.id), player.epoch), player.next_sequence);
    }

    /// The next number of a player who comes back under this epoch.
    pub fn next_sequence(&mut self, player_id: &str, epoch: i64) -> i64 {
        self.0.remove(&(player_id.into(), epoch)).unwrap_or(1)
    }
}
