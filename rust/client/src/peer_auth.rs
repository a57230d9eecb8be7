//! Who may join a game server, and over which connection.

pub mod dtls;
