//! The caller of a handler, authenticated: a player, a game server, the operator's tool.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use backend_protocol::Code;
use backend_protocol::validation::{Claims, TokenKind};

use super::audit::Event;
use super::authorization::{Question, Standing};
use super::{admin_keys, server_keys};
use crate::accounts;
use crate::digest::sha256;
use crate::http::rate_limit;
use crate::http::{Outcome, Refusal};
use crate::state::AppState;

fn bearer(parts: &Parts) -> Outcome<&str> {
    let value = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| Refusal::new(Code::Unauthorized, "send Authorization: Bearer …"))
}

/// A player with a valid access token, and what was found about him.
pub struct PlayerAuth(pub Arc<Claims>, pub Standing);

impl FromRequestParts<AppState> for PlayerAuth {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Outcome<Self> {
        let token = bearer(parts)?;
        if token.starts_with(server_keys::PREFIX) {
            return Err(Refusal::new(
                Code::Unauthorized,
                "this needs a player's access token, not a server key",
            ));
        }
        let claims = match state.tokens.known(token) {
            Some(claims) => claims,
            // Verified before anything is asked about whom it names.
            None => {
                let now = state.standings.of(&state.database, Question::default()).await?.now;
                match state.tokens.read(token, None, now)? {
                    (TokenKind::Access, claims) => claims,
                    (TokenKind::Join, _) => return Err(Code::TokenInvalid.into()),
                }
            }
        };
        rate_limit::player(state, &claims.sub)?;
        let standing = accounts::in_good_standing(state, &claims).await?;
        Ok(Self(claims, standing))
    }
}

/// A game server with a valid key.
pub struct ServerAuth {
    /// SHA-256 of the first key of this key's line: the same before and after a rotation.
    pub key_hash: String,
}

impl FromRequestParts<AppState> for ServerAuth {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Outcome<Self> {
        let shown = ShownKey::from_request_parts(parts, state).await?;
        let standing = shown.ask(state).await?;
        shown.judge(state, &standing).await
    }
}

/// A well-formed server key, of which nobody has said yet that it is good. For who asks for more at the same time.
pub struct ShownKey {
    /// SHA-256 of the key itself.
    pub key_hash: String,
}

impl FromRequestParts<AppState> for ShownKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Outcome<Self> {
        let key = bearer(parts)?;
        let key_hash = server_keys::hash_of(key);
        rate_limit::before_key(state, key_hash.as_deref().ok())?;
        Ok(Self { key_hash: key_hash.map_err(audited)? })
    }
}

impl ShownKey {
    /// What the database says of it now.
    pub async fn ask(&self, state: &AppState) -> Outcome<Standing> {
        let question = Question { key_hash: Some(&self.key_hash), ..Question::default() };
        state.standings.of(&state.database, question).await
    }

    /// The server, if the key is good by `standing`.
    pub async fn judge(&self, state: &AppState, standing: &Standing) -> Outcome<ServerAuth> {
        match server_keys::judge(state, &self.key_hash, standing).await {
            Ok(key_hash) => {
                rate_limit::key_was_good(state, &self.key_hash);
                Ok(ServerAuth { key_hash })
            }
            Err(refusal) => {
                rate_limit::key_was_wrong(state, &self.key_hash);
                Err(audited(refusal))
            }
        }
    }
}

fn audited(refusal: Refusal) -> Refusal {
    if refusal.0.code == Code::ServerKeyInvalid {
        Event::new("server_key").refused(&refusal.0.detail);
    }
    refusal
}

/// The operator's tool, with a valid admin key.
pub struct AdminAuth {
    pub key_id: String,
}

impl FromRequestParts<AppState> for AdminAuth {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Outcome<Self> {
        let key = bearer(parts)?;
        let key_hash = sha256(key.as_bytes());
        rate_limit::before_key(state, Some(&key_hash))?;
        let key_id = match admin_keys::verify(&state.database, key).await {
            Err(refusal) if refusal.0.code == Code::AdminKeyInvalid => {
                rate_limit::key_was_wrong(state, &key_hash);
                Event::new("admin_key").refused(&refusal.0.detail);
                return Err(refusal);
            }
            verified => verified?,
        };
        rate_limit::key_was_good(state, &key_hash);
        Ok(Self { key_id })
    }
}

/// Either of the two, whoever may look at rooms, and what was found about it.
pub struct AnyAuth(pub Standing);

impl FromRequestParts<AppState> for AnyAuth {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Outcome<Self> {
        if bearer(parts)?.starts_with(server_keys::PREFIX) {
            let shown = ShownKey::from_request_parts(parts, state).await?;
            let standing = shown.ask(state).await?;
            shown.judge(state, &standing).await.map(|_| Self(standing))
        } else {
            PlayerAuth::from_request_parts(parts, state).await.map(|player| Self(player.1))
        }
    }
}
