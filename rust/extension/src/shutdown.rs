//! The orderly shutdown: signals, the phases, what takes part, what is logged at the end.

pub mod coordinator;
pub mod host_notifier;
pub mod registry;
pub mod requests;
pub mod signals;
pub mod summary_log;
