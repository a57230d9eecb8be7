//! Settings: where they come from, and what is opened with them.

pub mod project_settings;
pub mod resolve;

pub use resolve::*;
