//! Codes of refusals that exist only between a game server and its client. A peer can also be refused with a code of the backend.

/// The peer was not verified in time.
pub const AUTH_TIMEOUT: &str = "auth_timeout";
/// The peer does not speak the handshake.
pub const HANDSHAKE_INVALID: &str = "handshake_invalid";
/// The connection cannot be encrypted.
pub const ENCRYPTION_FAILED: &str = "encryption_failed";
/// The server shuts down.
pub const SERVER_DRAINING: &str = "server_draining";
/// The same player connected again.
pub const REPLACED: &str = "replaced";
/// The game has disconnected the player.
pub const KICKED: &str = "kicked";
/// The player's session was ended.
pub const SESSION_ENDED: &str = "session_ended";

/// Every code that exists only between peers.
pub const ALL: [&str; 7] =
    [AUTH_TIMEOUT, HANDSHAKE_INVALID, ENCRYPTION_FAILED, SERVER_DRAINING, REPLACED, KICKED, SESSION_ENDED];
