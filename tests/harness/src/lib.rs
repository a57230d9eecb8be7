//! Starts the real backend and real Godot processes, puts faults between them, and asserts on what the backend
//! holds afterwards.
//!
//! Nothing here stands in for a part of the product: a [`backend::Backend`] is the built `backend-server` on a
//! database of its own, a [`godot::Godot`] is the engine running the demo or the fixture game, signals are
//! signals. The tests are in the crates beside this one.
#![deny(missing_docs)]

pub mod agones;
pub mod api;
pub mod backend;
pub mod browser;
pub mod cloud;
pub mod deadline;
pub mod demo;
pub mod display;
pub mod fault_proxy;
pub mod fixture;
pub mod forgery;
pub mod godot;
pub mod http_message;
pub mod log;
pub mod output;
pub mod picture;
pub mod process;
pub mod programs;
pub mod room_servers;
pub mod round_robin;
pub mod telemetry;
pub mod world;

pub use deadline::{WAIT_TIMEOUT, until};
