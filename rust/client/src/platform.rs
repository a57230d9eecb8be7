//! What the client takes from its surroundings: time, randomness, files, secrets.

pub mod clock;
pub(crate) mod database_check;
pub mod encrypted_storage;
pub(crate) mod private_files;
pub(crate) mod rng;
pub mod secret;
pub mod stall_detector;
pub mod storage;
