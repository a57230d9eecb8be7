//! Authentication of a game server's peers, without the engine: the packets, and the server's state.

pub mod protocol;
pub mod server;
