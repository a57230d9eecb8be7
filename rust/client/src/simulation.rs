//! A backend, a network, disks and processes in memory, with the rules of the real ones, simulated time and faults on
//! demand, for the tests of the state machines.

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
mod seeds;
mod trace;

pub use backend::{SimulatedBackend, Trouble, server_key};
use checker::Checker;
pub use disk::{Damaged, DiskTrouble, ProcessDisk, SimulatedDisk};
pub use fake_backend::State;
pub use network::Network;
pub use process_control::{Power, ProcessClock};
pub use rng::Rng;
pub use trace::Trace;
