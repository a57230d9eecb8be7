//! The seam to whatever runs the process: where it is reachable, and how long it is given to leave.

use std::time::Duration;

/// A host. The plain one knows what it was told; others may ask an orchestrator.
pub trait Host: Send + Sync {
    /// Address players connect to.
    fn public_address(&self) -> String;
    /// Time from a termination request to the end of the process.
    fn shutdown_grace(&self) -> Duration;
}

/// A machine that says nothing about itself.
#[derive(Debug, Clone)]
pub struct PlainHost {
    /// Address players connect to.
    pub public_address: String,
    /// Time from a termination request to the end of the process.
    pub shutdown_grace: Duration,
}

impl Host for PlainHost {
    fn public_address(&self) -> String {
        self.public_address.clone()
    }

    fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace
    }
}
