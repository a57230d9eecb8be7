//! What a registration reports: to the game, and to whatever follows its heartbeats.

use std::sync::Arc;

use backend_protocol::rooms::RoomOptions;

use crate::error::ClientError;

/// The names of the keys that are good now, as heartbeat replies list them; `None` until the first one did.
pub type ActiveKids = Option<Arc<[String]>>;

/// What happens to a registration, reported on a worker thread.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Listed under this id.
    Registered(String),
    /// An attempt to register failed. It is repeated in the background if [`ClientError::retryable`]; each kind of failure is
    /// reported once until the server is listed.
    RegistrationFailed(ClientError),
    /// The backend forgot the server; it is registering again.
    Lost(ClientError),
    /// A heartbeat did not get through; the next one follows.
    HeartbeatFailed(ClientError),
    /// The operator wants this server to drain and leave.
    DrainRequested,
    /// The room has another invite code than before, or none.
    InviteCodeChanged(Option<String>),
    /// The backend started this server for a room like this: the game takes it over, see [`super::Registration::take_room_over`].
    RoomAssigned(RoomOptions),
    /// No longer listed.
    Deregistered,
}

/// What the player store has to know from a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another server waits for these players.
    Wanted(Vec<String>),
    /// These players have conflicts to merge.
    Conflicts(Vec<String>),
    /// The backend answers again, after heartbeats that failed.
    Answers,
    /// The server is listed, perhaps at another backend than before.
    Listed,
    /// The backend's database is older than what it had confirmed: a backup was restored.
    RolledBack,
    /// The backend had forgotten the server, which is listed again, under another id if it was known by this one.
    ListedAgain(Option<String>),
}

/// Which backend a server is registered at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackendIdentity {
    /// The one with this identity.
    Known(String),
    /// One of an earlier version, which has none.
    Unknown,
}

impl BackendIdentity {
    /// The identity, if there is one.
    pub(crate) fn known(&self) -> Option<&str> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Unknown => None,
        }
    }
}

impl From<Option<String>> for BackendIdentity {
    fn from(identity: Option<String>) -> Self {
        identity.map_or(Self::Unknown, Self::Known)
    }
}

/// Called with each [`Event`], on a worker thread.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;
