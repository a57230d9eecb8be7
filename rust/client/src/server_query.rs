//! Answers to queries over UDP, without the backend: the Source query protocol (A2S), our own ping and the question by which
//! servers on a local network are found.
//!
//! | Question | Answer | Before the address is proven |
//! |---|---|---|
//! | A2S_INFO, A2S_PLAYER, A2S_RULES | what server browsers show | a challenge of 9 bytes, for a question of at least 9 |
//! | ping, padded to 32 bytes | status and player counts, 26 bytes | the answer itself: it is never larger than the question |
//! | room, padded to 1,200 bytes | the room as JSON | the same |
//!
//! The ping is not A2S_INFO, because that one carries nothing by which an answer belongs to its question: with a nonce, latency and
//! loss of each probe are exact, nobody who does not see the question can forge the answer, and a probe is one round trip
//! without a challenge.
//!
//! What is answered is a snapshot of [`Facts`] that the game publishes. The sockets are read on worker threads, so that a game
//! that hangs still answers, and says that it does.

mod challenge;
mod discovery_socket;
mod facts;
pub mod ping;
mod rate_limit;
mod responder;
mod socket;
pub mod source;

pub use discovery_socket::{DISCOVERY_GROUP, DISCOVERY_PORT, Interface};
pub use facts::{Facts, Participant, ServedFacts};
pub use responder::{MAX_QUESTION, Responder};
pub use socket::{QueryOptions, ServerQuery};

#[cfg(test)]
mod tests;
