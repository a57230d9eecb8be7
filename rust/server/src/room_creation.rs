//! Rooms on demand: players create a room, or find a seat by quick play.

pub mod create;
pub mod quick_play;
pub mod requests;
