//! Rate limits of answers, by address and overall, in memory that does not grow. Written here rather than taken from the `governor`
//! crate, whose table of addresses grows with every forged sender until somebody sweeps it.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Answers per second and address, and how many may come at once: a few dozen players behind one router.
const PER_ADDRESS: Rate = Rate { per_second: 50, burst: 100 };
/// Answers per second to everybody.
const OVERALL: Rate = Rate { per_second: 5_000, burst: 5_000 };
/// Buckets for addresses. Two addresses may share one: the hash is keyed, so nobody can choose with whom.
const BUCKETS: usize = 4_096;

#[derive(Clone, Copy)]
struct Rate {
    per_second: u32,
    burst: u32,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// What was taken and not made up for yet.
    taken: f32,
    at: Duration,
}

impl Bucket {
    fn has(&mut self, rate: Rate, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.at).as_secs_f32();
        self.taken = (self.taken - elapsed * rate.per_second as f32).max(0.0);
        self.at = now;
        self.taken < rate.burst as f32
    }

    fn take(&mut self, datagrams: usize) {
        self.taken += datagrams as f32;
    }
}

fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Counts the datagrams that are sent.
pub struct RateLimit {
    by_address: Box<[Bucket]>,
    overall: Bucket,
    hasher: RandomState,
}

impl RateLimit {
    pub fn new() -> Self {
        let by_address = vec![Bucket::default(); BUCKETS].into();
        Self { by_address, overall: Bucket::default(), hasher: RandomState::new() }
    }

    /// Whether `address` may have another answer. Strangers never use up what this machine gets: whoever watches the server from
    /// there has to hear from it, and nobody else can send from there.
    pub fn allows(&mut self, address: IpAddr, now: Duration) -> bool {
        let index = self.index(address);
        // Whoever asks too much is turned away without costing the others anything.
        self.by_address[index].has(PER_ADDRESS, now) && (is_local(address) || self.overall.has(OVERALL, now))
    }

    /// `address` is sent this many datagrams.
    pub fn count(&mut self, address: IpAddr, datagrams: usize) {
        let index = self.index(address);
        self.by_address[index].take(datagrams);
        if !is_local(address) {
            self.overall.take(datagrams);
        }
    }

    /// A network of IPv6 is one address: whoever has one has all of it.
    fn index(&self, address: IpAddr) -> usize {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64),
        };
        (self.hasher.hash_one(network) % BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests;
