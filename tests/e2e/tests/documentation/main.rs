//! The documentation as its readers use it: pasted, typed and looked up.

mod commands;
mod known;
mod readme;
mod text;
mod tutorial;
