//! A backend, a network, disks and processes in memory, with the rules of the real ones, simulated time and faults on
//! demand, for the tests of the state machines.

mod backend;
mod cluster;
mod dice;
mod disk;
mod faults;
mod judge;
mod leaving;
mod line;
mod people;
mod power;
mod rules;
mod scenario;
mod seeds;
mod trace;

pub use backend::{SimulatedBackend, Trouble, server_key};
pub use dice::Dice;
pub use disk::{Damaged, DiskTrouble, ProcessDisk, SimulatedDisk};
use judge::Judge;
pub use line::Line;
pub use power::{Power, ProcessClock};
pub use rules::State;
pub use trace::Trace;
