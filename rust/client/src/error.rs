//! Why a call failed, as a value a game can act on.

use std::borrow::Cow;
use std::time::Duration;

use backend_protocol::{Code, FieldError, Problem};

macro_rules! faults {
    ($(#[doc = $doc:literal] $name:ident = $text:literal;)+) => {
        /// Failures that arise on this side of the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $(#[doc = $doc] $name,)+
        }

        impl Fault {
            /// Every failure of this side.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The stable word for scripts.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

faults! {
    /// No backend URL, or no server key, is configured.
    NotConfigured = "not_configured";
    /// A field breaks a limit; nothing was sent.
    InvalidField = "invalid_field";
    /// The URL is not one the client connects to.
    InvalidUrl = "invalid_url";
    /// Plain HTTP to another machine, which the configuration does not allow.
    InsecureUrl = "insecure_url";
    /// The backend could not be reached, or the connection broke.
    Network = "network";
    /// The certificate was not accepted.
    Tls = "tls";
    /// The total deadline passed.
    Timeout = "timeout";
    /// The caller gave up, or the node left the tree.
    Cancelled = "cancelled";
    /// The reply is not what the protocol says.
    BadReply = "bad_reply";
    /// The reply is larger than the client reads.
    ReplyTooLarge = "reply_too_large";
    /// The call needs a session, and there is none.
    NotLoggedIn = "not_logged_in";
    /// A game server wants a join ticket, and none was set.
    TicketMissing = "ticket_missing";
    /// The call needs a registered server, and there is none.
    NotRegistered = "not_registered";
    /// The player was not loaded by this store.
    NotLoaded = "not_loaded";
    /// The server shuts down, and the final state of its players is in.
    ShuttingDown = "shutting_down";
    /// The node searches for a match already.
    AlreadySearching = "already_searching";
    /// No match was found in time.
    NoMatch = "no_match";
    /// A match was found, and the player, or one of the party, did not accept it.
    MatchNotAccepted = "match_not_accepted";
    /// A match was found, and no room was free for it in time.
    NoRoom = "no_room";
    /// The relay did not let the player into the room; the message says why.
    RelayRefused = "relay_refused";
    /// Too much unsent data is waiting.
    BacklogFull = "backlog_full";
    /// Local storage failed.
    Storage = "storage";
    /// The journal on local disk cannot be used: saves are not safe until the backend has them.
    Journal = "journal";
    /// A defect of the client.
    Internal = "internal";
}

impl Fault {
    /// Whether the same call may succeed later.
    const fn is_passing(self) -> bool {
        matches!(self, Self::Network | Self::Timeout)
    }
}

/// Where the failure was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The backend said so.
    Backend(Code),
    /// The client found it.
    Client(Fault),
}

/// Why a call failed. Holds no secrets.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// Where it was found, and its stable code.
    pub cause: Cause,
    /// One sentence for a person.
    pub message: Cow<'static, str>,
    /// Status of the reply, if there was one.
    pub http_status: Option<u16>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// How long the backend asks to wait.
    pub retry_after: Option<Duration>,
    /// Id under which the backend logged the request.
    pub request_id: Option<String>,
    /// The field at fault.
    pub field: Option<String>,
}

impl ClientError {
    /// A failure found on this side.
    pub fn new(fault: Fault, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            cause: Cause::Client(fault),
            message: message.into(),
            http_status: None,
            retryable: fault.is_passing(),
            retry_after: None,
            request_id: None,
            field: None,
        }
    }

    /// A field that breaks a limit on this side.
    pub fn field(field: impl Into<String>, rule: impl AsRef<str>) -> Self {
        FieldError::new(field, rule.as_ref()).into()
    }

    /// The stable code: the backend's, or one of [`Fault`].
    pub fn code(&self) -> &'static str {
        match self.cause {
            Cause::Backend(code) => code.as_str(),
            Cause::Client(fault) => fault.as_str(),
        }
    }

    /// Whether the backend answered with `code`.
    pub fn is(&self, code: Code) -> bool {
        self.cause == Cause::Backend(code)
    }

    /// Whether the backend gave no answer that settles the question: it may have acted or not.
    pub fn is_unanswered(&self) -> bool {
        match self.cause {
            Cause::Backend(code) => matches!(code, Code::Unavailable | Code::RateLimited | Code::Internal),
            Cause::Client(fault) => {
                matches!(fault, Fault::Network | Fault::Timeout | Fault::BadReply | Fault::ReplyTooLarge)
            }
        }
    }

    pub(crate) fn with_request_id(mut self, id: &str) -> Self {
        self.request_id.get_or_insert_with(|| id.to_owned());
        self
    }
}

impl From<FieldError> for ClientError {
    fn from(error: FieldError) -> Self {
        let mut made = Self::new(Fault::InvalidField, error.to_string());
        made.field = Some(error.field);
        made
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        let passing = matches!(problem.status, 408 | 425 | 429 | 500 | 502 | 503 | 504);
        Self {
            cause: Cause::Backend(problem.code),
            message: problem.detail.into(),
            http_status: Some(problem.status),
            retryable: passing,
            retry_after: problem.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            request_id: (!problem.request_id.is_empty()).then_some(problem.request_id),
            field: problem.field,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::peer_auth::refusal;

    /// The guide has a row with an anchor, a cause and a cure for each code, and no row for another one.
    #[test]
    fn the_guide_explains_every_code() {
        let guide = include_str!("../../../docs/src/errors.md");
        let explained: Vec<&str> = guide
            .lines()
            .filter_map(|line| line.strip_prefix("| <a id=\"")?.split_once('"'))
            .map(|(code, row)| {
                let cells: Vec<&str> = row.split(" | ").collect();
                assert!(cells.len() == 3 && cells[0].ends_with(&format!("`{code}`")), "{row}");
                assert!(cells.iter().skip(1).all(|cell| cell.len() > 5), "no cause, or no cure: {row}");
                code
            })
            .collect();
        let once: BTreeSet<&str> = explained.iter().copied().collect();
        assert_eq!(once.len(), explained.len(), "a code has two rows");
        let codes = Code::ALL.iter().map(|code| code.as_str());
        let all = codes.chain(Fault::ALL.iter().map(|fault| fault.as_str())).chain(refusal::ALL);
        assert_eq!(once, all.collect());
    }
}
