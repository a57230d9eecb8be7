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
    #[cfg(test)]
    if let Some(number) = seeded::draw() {
        return number;
    }
    rand::random()
}

#[cfg(test)]
pub(crate) mod seeded {
    //! The numbers of one seed instead of the system's, for all that runs on this thread.

    use std::cell::Cell;

    use crate::simulation::Rng;

    thread_local! {
        static DICE: Cell<Option<Rng>> = const { Cell::new(None) };
    }

    /// From now on, or until `None`, this thread draws from `dice`.
    pub fn set(dice: Option<Rng>) {
        DICE.set(dice);
    }

    pub fn draw() -> Option<u64> {
        let mut dice = DICE.take()?;
        let number = dice.draw();
        DICE.set(Some(dice));
        Some(number)
    }
}
