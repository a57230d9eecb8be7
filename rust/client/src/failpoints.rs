//! Failpoints: faults made on purpose, as controls for the tests that have to notice them. In a product all of this is constant
//! and false.

/// A place where the code can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A save is acknowledged locally before it is in the journal.
    EarlyAck,
    /// A save is repeated under a new number.
    FreshSequence,
    /// Nothing is sent again when the backend's database went back.
    NoResend,
}

impl Failpoint {
    /// Whether this one is active: in this build, or in this thread of a test.
    pub fn is_active(self) -> bool {
        let built = match self {
            Self::EarlyAck => cfg!(feature = "failpoint-early-ack"),
            Self::FreshSequence => cfg!(feature = "failpoint-fresh-sequence"),
            // Simulations only.
            Self::NoResend => false,
        };
        #[cfg(feature = "test-util")]
        let built = built || ACTIVE.get() == Some(self);
        built
    }
}

#[cfg(feature = "test-util")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Failpoint>> = const { std::cell::Cell::new(None) };
}

/// Makes this failpoint the active one of this thread, or none.
#[cfg(feature = "test-util")]
pub fn set_failpoint(failpoint: Option<Failpoint>) {
    ACTIVE.set(failpoint);
}
