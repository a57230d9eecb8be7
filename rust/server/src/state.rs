//! What every handler can reach.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::accounts::mail::queue::MailQueue;
use crate::allocation::Allocation;
use crate::auth::authorization::AuthorizationLoader;
use crate::auth::identity_providers::IdentityProviders;
use crate::auth::password_hash::PasswordHashes;
use crate::auth::server_keys::KeyUses;
use crate::auth::tokens::Tokens;
use crate::config::{Config, EmailAccounts};
use crate::database::Database;
use crate::http::rate_limit::RateLimits;
use crate::matchmaking::settings::Matchmaking;
use crate::player_store::epochs::Epochs;
use crate::relay::Relay;
use crate::rooms::loaders::RoomLoaders;
use crate::served_time::Served;
use crate::world_store::objects::Objects;

/// Shared by all requests. Cheap to clone.
#[derive(Clone)]
pub struct AppState(pub Arc<Shared>);

pub struct Shared {
    pub config: Config,
    pub database: Database,
    pub tokens: Tokens,
    pub epochs: Epochs,
    pub passwords: PasswordHashes,
    pub rate_limits: RateLimits,
    pub authorization: AuthorizationLoader,
    pub rooms: RoomLoaders,
    pub key_uses: KeyUses,
    pub identity_providers: IdentityProviders,
    pub mail: MailQueue,
    pub matchmaking: Matchmaking,
    pub allocation: Allocation,
    pub email_accounts: EmailAccounts,
    /// Through which players host rooms, if there is one.
    pub relay: Option<Relay>,
    /// The store of worlds' chunks.
    pub objects: Arc<Objects>,
    /// When the database was last reached.
    pub served: Served,
    /// Cancelled when the process stops: it is not ready any more, and connections end after the requests in progress.
    pub stopping: CancellationToken,
}

impl Shared {
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
