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
use crate::http::rate_limit;
use crate::http::{ApiError, ApiResult};
use crate::state::AppState;

fn bearer(parts: &Parts) -> ApiResult<&str> {
    let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| ApiError::new(Code::Unauthorized, "send Authorization: Bearer …"))
}

/// A player with a valid access token, and what was found about him.
pub struct PlayerAuth(pub Arc<Claims>, pub AuthSnapshot);

impl FromRequestParts<AppState> for PlayerAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let token = bearer(parts)?;
        if token.starts_with(server_keys::PREFIX) {
            return Err(ApiError::new(
                Code::Unauthorized,
                "this needs a player's access token, not a server key",
            ));
        }
        let claims = match state.tokens.cached_claims(token) {
            Some(claims) => claims,
            // Verified before anything is asked about whom it names.
            None => {
                let now = state.authorization.load(&state.database, Lookup::default()).await?.now;
                match state.tokens.verify(token, None, now)? {
                    (TokenKind::Access, claims) => claims,
                    (TokenKind::Join, _) => return Err(Code::TokenInvalid.into()),
                }
            }
        };
        rate_limit::player(state, &claims.sub)?;
        let snapshot = state.authorization.authorize_player(&state.database, &claims).await?;
        Ok(Self(claims, snapshot))
    }
}

/// A game server with a valid key.
pub struct ServerAuth {
    /// SHA-256 of the first key of this key's line: the same before and after a rotation.
    pub key_hash: String,
}

impl FromRequestParts<AppState> for ServerAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = UnverifiedKey::from_request_parts(parts, state).await?;
        let snapshot = key.look_up(state).await?;
        key.verify(state, &snapshot).await
    }
}

/// A well-formed server key, of which nobody has said yet that it is good. For who asks for more at the same time.
pub struct UnverifiedKey {
    /// SHA-256 of the key itself.
    pub key_hash: String,
}

impl FromRequestParts<AppState> for UnverifiedKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = bearer(parts)?;
        let key_hash = server_keys::hash_of(key);
        rate_limit::before_key(state, key_hash.as_deref().ok())?;
        Ok(Self { key_hash: key_hash.map_err(audited)? })
    }
}

impl UnverifiedKey {
    /// What the database says of it now.
    pub async fn look_up(&self, state: &AppState) -> ApiResult<AuthSnapshot> {
        let lookup = Lookup { key_hash: Some(&self.key_hash), ..Lookup::default() };
        state.authorization.load(&state.database, lookup).await
    }

    /// The server, if the key is good by `snapshot`.
    pub async fn verify(&self, state: &AppState, snapshot: &AuthSnapshot) -> ApiResult<ServerAuth> {
        match server_keys::verify(state, &self.key_hash, snapshot).await {
            Ok(key_hash) => {
                rate_limit::key_was_good(state, &self.key_hash);
                Ok(ServerAuth { key_hash })
            }
            Err(error) => {
                rate_limit::key_was_wrong(state, &self.key_hash);
                Err(audited(error))
            }
        }
    }
}

fn audited(error: ApiError) -> ApiError {
    if error.0.code == Code::ServerKeyInvalid {
        Event::new("server_key").refused(&error.0.detail);
    }
    error
}

/// The operator's tool, with a valid admin key.
pub struct AdminAuth {
    pub key_id: String,
}

impl FromRequestParts<AppState> for AdminAuth {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        let key = bearer(parts)?;
        let key_hash = sha256(key.as_bytes());
        rate_limit::before_key(state, Some(&key_hash))?;
        let key_id = match admin_keys::verify(&state.database, key).await {
            Err(error) if error.0.code == Code::AdminKeyInvalid => {
                rate_limit::key_was_wrong(state, &key_hash);
                Event::new("admin_key").refused(&error.0.detail);
                return Err(error);
            }
            verified => verified?,
        };
        rate_limit::key_was_good(state, &key_hash);
        Ok(Self { key_id })
    }
}

/// Either of the two, whoever may look at rooms, and what was found about it.
pub struct PlayerOrServer(pub AuthSnapshot);

impl FromRequestParts<AppState> for PlayerOrServer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> ApiResult<Self> {
        if bearer(parts)?.starts_with(server_keys::PREFIX) {
            let key = UnverifiedKey::from_request_parts(parts, state).await?;
            let snapshot = key.look_up(state).await?;
            key.verify(state, &snapshot).await.map(|_| Self(snapshot))
        } else {
            PlayerAuth::from_request_parts(parts, state).await.map(|player| Self(player.1))
        }
    }
}
