//! What a fault proxy does to traffic, and how often it did.

use std::time::Duration;

/// What the proxy does to traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Forwards.
    None,
    /// Nobody listens: connections are refused, open ones are cut.
    Refuse,
    /// Takes connections and bytes and answers nothing.
    Blackhole,
    /// Cuts each connection with a reset as soon as it carries data.
    Reset,
    /// Forwards requests after this pause.
    Delay(Duration),
    /// Lets the backend execute requests to this path and throws the replies away, then cuts the connection.
    DropReply {
        /// Start of the path, such as `/v1/players/save`.
        path: String,
    },
    /// Sends requests to this path to the backend twice, at the same time on two connections, and passes one reply on.
    DuplicateRequest {
        /// Start of the path.
        path: String,
    },
    /// Lets the backend execute requests to this path and ends the connection in the middle of the reply's body.
    TruncateReply {
        /// Start of the path.
        path: String,
    },
    /// Ends the connection in good order while a request to this path is still being sent: what the game writes then
    /// meets a closed socket. Only requests larger than what the system buffers are cut.
    HangUp {
        /// Start of the path.
        path: String,
    },
}

/// How often a proxy did what its faults say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Struck {
    /// Open connections cut because nobody listens any more.
    pub refused: usize,
    /// Connections whose requests were swallowed.
    pub swallowed: usize,
    /// Connections cut by a reset.
    pub reset: usize,
    /// Requests held up.
    pub delayed: usize,
    /// Replies thrown away.
    pub dropped: usize,
    /// Requests sent twice.
    pub duplicated: usize,
    /// Replies cut.
    pub truncated: usize,
    /// Connections ended in the middle of a request.
    pub hung_up: usize,
}

impl Struck {
    /// All of them.
    pub const fn total(self) -> usize {
        let Self { refused, swallowed, reset, delayed, dropped, duplicated, truncated, hung_up } = self;
        refused + swallowed + reset + delayed + dropped + duplicated + truncated + hung_up
    }
}
