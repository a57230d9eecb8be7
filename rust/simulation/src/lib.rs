//! Simulation of the client's surroundings: a backend, a network, disks and processes in memory, with the rules of the real
//! ones, under simulated time and with faults on demand. [`play`] runs the client's state machines in it, one run per seed.

mod backend;
mod checker;
mod cluster;
mod disk;
mod fake_backend;
mod faults;
mod leaving;
mod network;
mod players;
mod process_control;
mod rng;
mod scenario;
mod trace;

pub use backend::{SimulatedBackend, server_key};
use checker::Checker;
pub use disk::{Damaged, DiskTrouble, ProcessDisk, SimulatedDisk};
pub use fake_backend::{Backup, Fact, State, Trouble};
pub use network::Network;
pub use process_control::{Power, ProcessClock};
pub use rng::{Rng, mixed};
pub use scenario::{RunResult, play};
pub use trace::{Faults, Trace};
