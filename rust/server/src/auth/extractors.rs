//! The caller of a handler, authenticated: a player, a game server, the operator's tool.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use backend_protocol::Code;
use backend_protocol::validation::{Claims, TokenKind};

use super::audit::Event;
use super::authorization::{AuthSnapshot, Lookup};
use super::{admin_keys, server_keys};
use crate::digest::sha256;
use crate::http::{ApiError, ApiResult};
use crate::key_format::SERVER_KEY_PREFIX;
use crate::state::AppState;

fn bearer(parts: &Parts) -> ApiResult<&str> {
    let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| ApiError::new(Code::Unauthorized, "send Authorization: Bearer …"))
}

/// A player with a valid access token.
pub struct PlayerAuth(pub Arc<Claims>);

impl FromRequestParts<AppState> for PlayerAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let token = bearer(parts)?;
        if token.starts_with(SERVER_KEY_PREFIX) {
            return Err(ApiError::new(
                Code::Unauthorized,
                "this needs a player's access token, not a server key",
            ));
        }
        let claims = match state.tokens.cached_claims(token) {
            Some(claims) => claims,
            // Verified before the player it names is looked up.
            None => {
                let now = state.authorization.load(&state.database, Lookup::default()).await?.now;
                match state.tokens.verify(token, None, now)? {
                    (TokenKind::Access, claims) => claims,
                    (TokenKind::Join, _) => return Err(Code::TokenInvalid.into()),
                }
            }
        };
        state.rate_limits.count_player_request(&claims.sub)?;
        state.authorization.authorize_player(&state.database, &claims).await?;
        Ok(Self(claims))
    }
}

/// A game server with a valid key.
pub struct ServerAuth {
    /// SHA-256 of the first key of this key's line: the same before and after a rotation.
    pub key_hash: String,
    /// The key itself, for who looks it up again.
    pub key: UnverifiedKey,
}

impl FromRequestParts<AppState> for ServerAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = UnverifiedKey::from_request_parts(parts, state).await?;
        let snapshot = key.look_up(state).await?;
        key.verify(state, &snapshot).await
    }
}

/// A well-formed server key that was not looked up yet, for handlers that look more up at the same time.
#[derive(Clone)]
pub struct UnverifiedKey {
    /// SHA-256 of the key itself.
    pub key_hash: String,
}

impl FromRequestParts<AppState> for UnverifiedKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = bearer(parts)?;
        let key_hash = server_keys::hash_of(key);
        state.rate_limits.count_key(key_hash.as_deref().ok())?;
        Ok(Self { key_hash: key_hash.map_err(audited)? })
    }
}

impl UnverifiedKey {
    /// Looks the key up.
    pub async fn look_up(&self, state: &AppState) -> ApiResult<AuthSnapshot> {
        let lookup = Lookup { key_hash: Some(&self.key_hash), ..Lookup::default() };
        state.authorization.load(&state.database, lookup).await
    }

    /// Returns the server if the key is valid in `snapshot`.
    pub async fn verify(&self, state: &AppState, snapshot: &AuthSnapshot) -> ApiResult<ServerAuth> {
        match verify_server_key(state, &self.key_hash, snapshot).await {
            Ok(key_hash) => {
                state.rate_limits.key_is_valid(&self.key_hash);
                Ok(ServerAuth { key_hash, key: self.clone() })
            }
            Err(error) => {
                state.rate_limits.key_is_invalid(&self.key_hash);
                Err(audited(error))
            }
        }
    }
}

/// Accepts a key and returns the hash of the first key of its line. `snapshot` was read after the request
/// came, so that a revoked key is refused from the next request on, by every replica.
async fn verify_server_key(state: &AppState, key_hash: &str, snapshot: &AuthSnapshot) -> ApiResult<String> {
    let now = snapshot.now;
    let row = snapshot.key.as_ref().ok_or_else(|| server_keys::invalid_key(server_keys::FOREIGN))?;
    if row.revoked_at.is_some() || row.expires_at.is_some_and(|end| end <= now) {
        return Err(server_keys::invalid_key("the server key was revoked, or replaced by a newer one"));
    }
    let config = &state.config;
    if row.game.as_ref() != Some(&config.game) || row.environment.as_ref() != Some(&config.environment) {
        return Err(server_keys::invalid_key("the server key is for another game or environment"));
    }
    if row.last_used_at.is_none_or(|at| at < now - server_keys::LAST_USED_INTERVAL_MS)
        && state.key_uses.is_due(key_hash, now)
    {
        server_keys::records::record_use(&state.database, key_hash).await;
    }
    Ok(row.owner.clone())
}

fn audited(error: ApiError) -> ApiError {
    if error.0.code == Code::ServerKeyInvalid {
        Event::new("server_key").refused(&error.0.detail);
    }
    error
}

/// An operator's tool with a valid admin key.
pub struct AdminAuth {
    pub key_id: String,
}

impl FromRequestParts<AppState> for AdminAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = bearer(parts)?;
        let key_hash = sha256(key.as_bytes());
        state.rate_limits.count_key(Some(&key_hash))?;
        let key_id = match admin_keys::verify(&state.database, key).await {
            Err(error) if error.0.code == Code::AdminKeyInvalid => {
                state.rate_limits.key_is_invalid(&key_hash);
                Event::new("admin_key").refused(&error.0.detail);
                return Err(error);
            }
            verified => verified?,
        };
        state.rate_limits.key_is_valid(&key_hash);
        Ok(Self { key_id })
    }
}

/// A player or a game server.
pub struct PlayerOrServer;

impl FromRequestParts<AppState> for PlayerOrServer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        if bearer(parts)?.starts_with(SERVER_KEY_PREFIX) {
            let key = UnverifiedKey::from_request_parts(parts, state).await?;
            let snapshot = key.look_up(state).await?;
            key.verify(state, &snapshot).await.map(|_| Self)
        } else {
            PlayerAuth::from_request_parts(parts, state).await.map(|_| Self)
        }
    }
}

/// A player or a game server.
pub enum Caller {
    /// By an access token.
    Player(PlayerAuth),
    /// By a server key.
    Server(ServerAuth),
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        if bearer(parts)?.starts_with(SERVER_KEY_PREFIX) {
            ServerAuth::from_request_parts(parts, state).await.map(Self::Server)
        } else {
            PlayerAuth::from_request_parts(parts, state).await.map(Self::Player)
        }
    }
}
