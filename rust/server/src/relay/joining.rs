//! Connections that have not shown a ticket yet: how many there are, from one address and from all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most of them.
const MAX_JOINING: usize = 2_048;
/// Most of them from one address. Many players may share one.
const MAX_JOINING_FROM_ADDRESS: usize = 64;

/// Counts them.
#[derive(Default)]
pub struct Joining(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One of them, counted until it is dropped.
pub struct Counted<'a> {
    joining: &'a Joining,
    address: IpAddr,
}

impl Joining {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.counts().all
    }

    /// One more, unless there are as many as there may be. Those of loopback, which is a developer's machine, count among all only.
    pub fn begin(&self, address: IpAddr) -> Option<Counted<'_>> {
        let mut counts = self.counts();
        let own = counts.by_address.get(&address).copied().unwrap_or_default();
        if counts.all >= MAX_JOINING || (own >= MAX_JOINING_FROM_ADDRESS && !address.is_loopback()) {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, own + 1);
        Some(Counted { joining: self, address })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counts = self.joining.counts();
        counts.all -= 1;
        if let Some(own) = counts.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_places_of_all() {
        let joining = Joining::default();
        let (flood, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let all: Vec<_> = (0..MAX_JOINING_FROM_ADDRESS).map_while(|_| joining.begin(flood)).collect();
        assert_eq!(all.len(), MAX_JOINING_FROM_ADDRESS);
        assert!(joining.begin(flood).is_none());
        assert!(joining.begin(other).is_some());
        assert_eq!(joining.count(), MAX_JOINING_FROM_ADDRESS, "it was dropped");
        drop(all);
        assert!(joining.begin(flood).is_some());
        assert!(joining.counts().by_address.is_empty());
    }
}
