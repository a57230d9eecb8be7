//! Faults that are planted on purpose: controls for the tests that have to notice them. In a product all of this is
//! constant and false.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// A save is acknowledged locally before it is in the journal.
    EarlyAck,
    /// A save is repeated under a new number.
    FreshSequence,
}

impl Failpoint {
    /// Whether this one is planted: in this build, or by a test in its thread.
    pub fn is_here(self) -> bool {
        let built = match self {
            Self::EarlyAck => cfg!(feature = "planted-early-ack"),
            Self::FreshSequence => cfg!(feature = "planted-fresh-sequence"),
        };
        #[cfg(feature = "test-util")]
        let built = built || HERE.get() == Some(self);
        built
    }
}

#[cfg(feature = "test-util")]
thread_local! {
    static HERE: std::cell::Cell<Option<Failpoint>> = const { std::cell::Cell::new(None) };
}

/// From now on this thread has the fault.
#[cfg(feature = "test-util")]
pub fn plant(planted: Option<Failpoint>) {
    HERE.set(planted);
}
