//! Who may join a game server, and over which connection.

pub mod dtls;
pub mod protocol;
pub mod refusal;
pub mod server;
