//! What a backend can do: one method for each request that a game makes. What a backend may lack is a trait of its own, in a
//! file of its own.

pub mod accounts;
pub mod matchmaking;
pub mod room_creation;
pub mod worlds;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backend_protocol::player_store::{
    LoadPlayers, LoadedPlayers, PlayerConflicts, PlayerDocuments, ReleasePlayers, ReleasedPlayers,
    ResolveConflicts, SavedDocuments,
};
use backend_protocol::registration::{Heartbeat, HeartbeatReply, RegisterServer, ServerLease};
use backend_protocol::relay::HostRoom;
use backend_protocol::rooms::{JoinByCode, JoinTicket, Regions, RequestTicket, Room, RoomPage, RoomQuery};
use backend_protocol::session::{
    AnonymousLogin, DeviceLogin, Logout, PasswordLogin, Refresh, Register, Session,
};
use backend_protocol::validation::{Validate, Validated};
use backend_token::Algorithm;

use self::accounts::AccountBackend;
use self::matchmaking::MatchmakingBackend;
use self::room_creation::RoomCreationBackend;
use self::worlds::WorldBackend;
use super::batch::Batch;
use super::transport::ReplyBody;
use crate::error::{ClientError, Fault};
use crate::platform::secret::ServerKey;

pub use super::Reply;

/// Longest id of an event that is sent back, in bytes.
pub(crate) const MAX_EVENT_ID: usize = 128;

/// The issuer's public keys as it publishes them (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKeys {
    /// The document as it came; `None`: unchanged since the entity tag that was sent.
    pub document: Option<Vec<u8>>,
    /// Its entity tag.
    pub etag: Option<String>,
    /// How long the issuer says that it is fresh.
    pub fresh_for: Option<Duration>,
}

/// A page of rooms with its entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedPage {
    /// `None`: unchanged since the entity tag that was sent.
    pub page: Option<RoomPage>,
    /// Its entity tag.
    pub etag: Option<String>,
}

/// A backend. Every call ends within the configured total deadline, retries included.
#[async_trait]
#[allow(
    missing_docs,
    reason = "each method is the route of the same name, documented in backend_protocol::routes"
)]
pub trait Backend: Send + Sync {
    /// Tells backends apart, in characters that fit a file name.
    fn name(&self) -> String;
    async fn login_anonymous(&self, body: &AnonymousLogin) -> Reply<Session>;
    async fn login_device(&self, body: &DeviceLogin) -> Reply<Session>;
    async fn login_password(&self, body: &PasswordLogin) -> Reply<Session>;
    async fn register_account(&self, body: &Register) -> Reply<Session>;
    async fn refresh(&self, body: &Refresh) -> Reply<Session>;
    async fn logout(&self, body: &Logout) -> Reply<()>;
    /// The public keys tokens are verified with, unless they are still those of entity tag `known`.
    async fn key_set(&self, known: Option<&str>) -> Reply<PublishedKeys>;
    /// Seconds by which this machine's clock is ahead of the backend's, as far as its replies tell; negative: behind. 0 within
    /// what tokens are forgiven. For messages: nothing is accepted because of it.
    fn clock_difference(&self) -> i64 {
        0
    }
    /// The algorithms its keys may be for.
    fn algorithms(&self) -> &'static [Algorithm] {
        &[Algorithm::EdDSA]
    }
    async fn validate(&self, key: &ServerKey, body: &Validate) -> Reply<Validated>;
    async fn register_server(&self, key: &ServerKey, body: &RegisterServer) -> Reply<ServerLease>;
    async fn heartbeat(&self, key: &ServerKey, server_id: &str, body: &Heartbeat) -> Reply<HeartbeatReply>;
    async fn deregister_server(&self, key: &ServerKey, server_id: &str) -> Reply<()>;
    async fn rooms(&self, access_token: &str, query: &RoomQuery) -> Reply<RoomPage>;
    /// One page of rooms, unless it is still that of entity tag `known`.
    async fn rooms_unless(
        &self,
        access_token: &str,
        query: &RoomQuery,
        _known: Option<&str>,
    ) -> Reply<TaggedPage> {
        Ok(TaggedPage { page: Some(self.rooms(access_token, query).await?), etag: None })
    }
    /// The events of a followed list, from the one after `last_event_id` on.
    async fn room_events(
        &self,
        _access_token: &str,
        _query: &RoomQuery,
        _last_event_id: Option<&str>,
    ) -> Reply<Box<dyn ReplyBody>> {
        Err(ClientError::new(Fault::BadReply, "this backend sends no events"))
    }
    /// Its regions, each with a place that answers pings.
    async fn regions(&self, _access_token: &str) -> Reply<Regions> {
        Ok(Regions::default())
    }
    async fn room(&self, access_token: &str, room_id: &str) -> Reply<Room>;
    async fn ticket(&self, access_token: &str, room_id: &str, body: &RequestTicket) -> Reply<JoinTicket>;
    async fn ticket_by_code(&self, access_token: &str, body: &JoinByCode) -> Reply<JoinTicket>;
    /// A room at the backend's relay, hosted by the player.
    async fn host_relay_room(&self, _access_token: &str, _body: &HostRoom) -> Reply<JoinTicket> {
        Err(ClientError::new(Fault::NotConfigured, "this backend has no relay"))
    }
    async fn load_players(&self, key: &ServerKey, body: &LoadPlayers) -> Reply<LoadedPlayers>;
    async fn save_documents(&self, key: &ServerKey, body: &Batch) -> Reply<SavedDocuments>;
    async fn release_players(&self, key: &ServerKey, body: &ReleasePlayers) -> Reply<ReleasedPlayers>;
    async fn player_conflicts(&self, key: &ServerKey, player_id: &str) -> Reply<PlayerConflicts>;
    async fn resolve_conflicts(&self, key: &ServerKey, body: &ResolveConflicts) -> Reply<()>;
    async fn own_documents(&self, access_token: &str) -> Reply<PlayerDocuments>;
    /// The same backend as one with accounts of its own; `None` if it has none.
    fn accounts(self: Arc<Self>) -> Option<Arc<dyn AccountBackend>> {
        None
    }
    /// The same backend as one that creates rooms; `None` if it creates none.
    fn room_creation(self: Arc<Self>) -> Option<Arc<dyn RoomCreationBackend>> {
        None
    }
    /// The same backend as one with matchmaking; `None` if it has none.
    fn matchmaking(self: Arc<Self>) -> Option<Arc<dyn MatchmakingBackend>> {
        None
    }
    /// The same backend as one that keeps worlds; `None` if it keeps none.
    fn worlds(self: Arc<Self>) -> Option<Arc<dyn WorldBackend>> {
        None
    }
}
