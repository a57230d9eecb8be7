//! Randomness of the state machines, so that a simulation can repeat what happened.

use uuid::Uuid;

/// A random number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    // 53 bits are what an f64 holds.
    (draw() >> 11) as f64 / ((1u64 << 53) - 1) as f64
}

/// A random id.
pub(crate) fn id() -> Uuid {
    Uuid::from_u64_pair(draw(), draw())
}

/// A random id as others expect one (RFC 9562 §5.4), without a system call for each.
pub(crate) fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(id().into_bytes()).into_uuid()
}

fn draw() -> u64 {
    #[cfg(feature = "test-util")]
    if let Some(number) = seeded::draw() {
        return number;
    }
    rand::random()
}

#[cfg(feature = "test-util")]
pub(crate) mod seeded {
    //! Numbers of a test's own instead of the system's, for all that runs on this thread.

    use std::cell::RefCell;

    /// Where the numbers come from.
    pub type Source = Box<dyn FnMut() -> u64>;

    thread_local! {
        static SOURCE: RefCell<Option<Source>> = const { RefCell::new(None) };
    }

    /// Makes this thread draw its random numbers from `source`, until `None`.
    pub fn draw_from(source: Option<Source>) {
        SOURCE.replace(source);
    }

    pub(super) fn draw() -> Option<u64> {
        SOURCE.with_borrow_mut(|source| source.as_mut().map(|draw| draw()))
    }
}
