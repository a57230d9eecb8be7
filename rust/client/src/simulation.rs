//! A backend, a network, disks and processes in memory, with the rules of the real ones, simulated time and faults on
//! demand, for the tests of the state machines.

mod backend;
mod dice;
mod disk;
mod line;
mod power;
mod rules;
mod trace;

pub use backend::{SimulatedBackend, Trouble, server_key};
pub use dice::Dice;
pub use disk::{DiskTrouble, ProcessDisk, SimulatedDisk};
pub use line::Line;
pub use power::{Power, ProcessClock};
pub use rules::State;
pub use trace::Trace;
