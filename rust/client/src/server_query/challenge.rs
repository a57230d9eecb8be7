//! Challenges that prove an address, without a table of those that are out: a keyed hash of address and time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::hmac;

use super::source::NO_CHALLENGE;

/// Time in which a challenge is issued under one number. It is accepted in the next window as well.
const WINDOW: Duration = Duration::from_secs(30);

/// Issues and verifies challenges. The key lives as long as the process.
pub struct Challenges(hmac::Key);

impl Challenges {
    pub fn new() -> Self {
        let secret: [u8; 32] = rand::random();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &secret))
    }

    /// The challenge that `peer` has to return.
    pub fn issue(&self, peer: SocketAddr, now: Duration) -> [u8; 4] {
        self.of_window(peer, window(now))
    }

    /// Whether `shown` was issued to `peer`, half a minute to a minute ago at most.
    pub fn is_met(&self, peer: SocketAddr, now: Duration, shown: [u8; 4]) -> bool {
        let current = window(now);
        // Four bytes: comparing them in constant time would protect nothing that a guess does not find.
        shown == self.of_window(peer, current)
            || current.checked_sub(1).is_some_and(|before| shown == self.of_window(peer, before))
    }

    fn of_window(&self, peer: SocketAddr, window: u64) -> [u8; 4] {
        let mut text = [0; 26];
        let address = match peer.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        text[..16].copy_from_slice(&address.octets());
        text[16..18].copy_from_slice(&peer.port().to_le_bytes());
        text[18..].copy_from_slice(&window.to_le_bytes());
        let tag = hmac::sign(&self.0, &text);
        let mut challenge = [0; 4];
        challenge.copy_from_slice(&tag.as_ref()[..4]);
        if challenge == NO_CHALLENGE {
            // That one asks for a challenge.
            challenge[0] = 0;
        }
        challenge
    }
}

fn window(now: Duration) -> u64 {
    now.as_secs() / WINDOW.as_secs()
}
