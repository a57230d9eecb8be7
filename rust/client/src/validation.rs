//! Who is this player: tokens and tickets judged on the game server.

pub mod jwks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use backend_protocol::validation::{Claims, TokenKind, Validate, access_audience};
use backend_protocol::{Code, Problem};
use backend_token::{Leeway, Rejection, Unverified, Validation};

use crate::api::backend::Backend;
use crate::api::clock_difference::described as described_difference;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::secret::ServerKey;
use crate::platform::storage::Storage;
use crate::registration::Registration;
use crate::registration::revocations::Revocations;
use crate::validation::jwks::KeyCache;

/// Most tickets remembered as used while the backend is away.
pub const MAX_REMEMBERED: usize = 10_000;

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Verify here, then consume tickets at the backend; when it does not answer, what was verified counts.
    #[default]
    LocalFirst,
    /// Verify here and never ask. Tickets are single-use on this server only.
    LocalOnly,
    /// Let the backend decide everything.
    RemoteOnly,
}

/// A verified player.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Player {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// What the player showed.
    pub kind: TokenKind,
    /// When the backend issued it, in seconds since 1970.
    pub issued_at: u64,
    /// Id of the join ticket, for [`Registration::ticket_used`]; none for an access token.
    pub ticket_id: Option<String>,
}

/// What a validator needs to know.
#[derive(Clone)]
pub struct ValidatorConfig {
    /// `iss` that tokens must carry.
    pub issuer: String,
    /// The game whose access tokens are accepted.
    pub game: String,
    /// Whom to ask.
    pub policy: Policy,
    /// Needed to ask the backend.
    pub server_key: Option<ServerKey>,
}

/// Validates players' tokens. Cheap to clone.
#[derive(Clone)]
pub struct TokenValidator(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    config: ValidatorConfig,
    /// `aud` of the game's access tokens.
    game_audience: String,
    keys: KeyCache,
    /// `jti` of used tickets → the second from which on they are refused anyway.
    used: Mutex<HashMap<String, u64>>,
    /// What ended before its time, as heard by the registration that is followed.
    revocations: Mutex<Option<Arc<Revocations>>>,
}

impl TokenValidator {
    /// A validator with an empty key cache.
    pub fn new(
        backend: Arc<dyn Backend>,
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        config: ValidatorConfig,
    ) -> Self {
        let key = config.server_key.as_ref();
        let keys = KeyCache::new(&config.issuer, Arc::clone(&backend), storage, Arc::clone(&clock), key);
        Self(Arc::new(Inner {
            backend,
            clock,
            game_audience: access_audience(&config.game),
            config,
            keys,
            used: Mutex::default(),
            revocations: Mutex::default(),
        }))
    }

    /// Gets the public keys before the first player comes.
    pub async fn prepare(&self) -> Result<(), ClientError> {
        self.0.keys.prepare().await
    }

    /// Drops keys as soon as the backend withdraws them, and refuses tokens that it revoked, which it says in its replies to
    /// heartbeats. Following the same registration again changes nothing. Call on a tokio runtime.
    pub fn follow(&self, registration: &Registration) {
        self.0.keys.follow(registration.active_kids());
        *lock(&self.0.revocations) = Some(Arc::clone(registration.revocations()));
    }

    /// The player `token` belongs to. `server_id` is this server's, which a join ticket must be for; a server's
    /// ticket is used up by this call.
    pub async fn validate(&self, token: &str, server_id: Option<&str>) -> Result<Player, ClientError> {
        backend_protocol::limits::token("token", token)?;
        if self.0.config.policy == Policy::RemoteOnly {
            return self.ask(token, server_id).await;
        }
        let unverified = Unverified::parse(token).map_err(|rejection| refused(rejection, 0))?;
        let kind = unverified.kind();
        let Claims { sub, name, iat, jti, exp, .. } = self.verify(&unverified, server_id).await?;
        let ticket_id = (kind == TokenKind::Join).then(|| jti.clone());
        let verified = Player { player_id: sub, display_name: name, kind, issued_at: iat, ticket_id };
        self.unrevoked(&verified)?;
        if kind == TokenKind::Access {
            return Ok(verified);
        }
        // Noted before the backend is asked: two copies arriving at once must not both be first.
        self.use_up(jti, exp)?;
        if self.0.config.policy == Policy::LocalOnly {
            return Ok(verified);
        }
        match self.ask(token, server_id).await {
            Ok(player) if player.player_id == verified.player_id => {
                Ok(Player { ticket_id: verified.ticket_id, ..player })
            }
            Ok(_) => {
                Err(ClientError::new(Fault::BadReply, "the backend named another player than the ticket"))
            }
            Err(error) if error.is_unanswered() => {
                tracing::warn!(code = error.code(), "ticket verified here; the backend did not answer");
                Ok(verified)
            }
            Err(error) => Err(error),
        }
    }

    fn unrevoked(&self, player: &Player) -> Result<(), ClientError> {
        match &*lock(&self.0.revocations) {
            Some(revocations) => revocations.check(&player.player_id, player.issued_at),
            None => Ok(()),
        }
    }

    async fn verify(
        &self,
        unverified: &Unverified<'_>,
        server_id: Option<&str>,
    ) -> Result<Claims, ClientError> {
        let kind = unverified.kind();
        let audience = match (kind, server_id) {
            (TokenKind::Access, _) => &self.0.game_audience,
            (TokenKind::Join, Some(id)) => id,
            (TokenKind::Join, None) => {
                return Err(ClientError::new(
                    Fault::NotRegistered,
                    "tickets are for registered servers only",
                ));
            }
        };
        let keys = self.0.keys.keys_for(unverified.kid()).await?;
        let now = self.0.clock.unix_seconds();
        let expected = Validation { kind, audience, now, leeway: Leeway::default() };
        let difference = self.0.backend.clock_difference();
        unverified.verify(&keys, &expected).map_err(|rejection| refused(rejection, difference))
    }

    /// The ticket `jti`, which expires at `exp`.
    fn use_up(&self, jti: String, exp: u64) -> Result<(), ClientError> {
        let now = self.0.clock.unix_seconds();
        let mut used = lock(&self.0.used);
        if used.len() >= MAX_REMEMBERED {
            used.retain(|_, until| *until > now);
        }
        if used.len() >= MAX_REMEMBERED {
            // Forgetting one would let it in twice; refusing a newcomer for a minute does not.
            return Err(Problem::new(Code::RateLimited, "too many tickets at once").into());
        }
        let until = exp.saturating_add(Leeway::default().seconds());
        match used.insert(jti, until) {
            None => Ok(()),
            Some(_) => Err(Problem::new(Code::TicketUsed, "the ticket was used before").into()),
        }
    }

    async fn ask(&self, token: &str, server_id: Option<&str>) -> Result<Player, ClientError> {
        let Some(key) = &self.0.config.server_key else {
            return Err(ClientError::new(
                Fault::NotConfigured,
                "no server key: set BACKEND_SERVER_KEY or BACKEND_SERVER_KEY_FILE",
            ));
        };
        let body = Validate { token: token.to_owned(), server_id: server_id.map(str::to_owned) };
        let validated = self.0.backend.validate(key, &body).await?;
        Ok(Player {
            player_id: validated.player_id,
            display_name: validated.display_name,
            kind: validated.kind,
            ticket_id: validated.ticket_id,
            // The backend has vouched for what the token says.
            issued_at: Unverified::parse(token)
                .ok()
                .and_then(|unverified| unverified.issued_at())
                .unwrap_or_default(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One kind of refusal for the peer, the reason for the log. Where time is the reason, it is told how far this machine's
/// clock is from the backend's.
fn refused(rejection: Rejection, clock_difference: i64) -> ClientError {
    tracing::info!(reason = %rejection, "token refused");
    let (code, detail) = match rejection {
        Rejection::Expired => (Code::TokenExpired, "the token is past its time"),
        _ => (Code::TokenInvalid, "the token does not verify"),
    };
    let by_the_clock =
        matches!(rejection, Rejection::Expired | Rejection::NotYetValid | Rejection::ClockNotSet);
    if !by_the_clock || clock_difference == 0 {
        return Problem::new(code, detail).into();
    }
    let difference = described_difference(clock_difference);
    Problem::new(code, format!("{detail}: the clock of this server is {difference} that of the backend"))
        .into()
}
