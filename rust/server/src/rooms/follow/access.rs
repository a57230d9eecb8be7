//! Whether a follower may still read the list: a session that was ended, a ban and a revoked key end the stream.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::validation::Claims;

use crate::auth::extractors::{Caller, UnverifiedKey};
use crate::http::ApiResult;
use crate::state::AppState;

/// How often it is looked up. Look-ups of many followers at a time are one statement.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What a follower has shown.
pub enum Access {
    /// An access token with these claims.
    Token(Arc<Claims>),
    /// A server key.
    Key(UnverifiedKey),
}

impl Access {
    pub fn of(caller: Caller) -> Self {
        match caller {
            Caller::Player(player) => Self::Token(player.0),
            Caller::Server(server) => Self::Key(server.key),
        }
    }

    /// Completes when the follower may not read the list any more. While the database does not answer, it may.
    pub async fn lost(self, state: AppState) {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let Err(error) = self.check(&state).await else { continue };
            let is_final = [Code::Banned, Code::TokenInvalid, Code::TokenExpired, Code::ServerKeyInvalid]
                .contains(&error.0.code);
            if is_final {
                return;
            }
        }
    }

    async fn check(&self, state: &AppState) -> ApiResult<()> {
        match self {
            Self::Token(claims) => {
                state.authorization.authorize_player(&state.database, claims).await.map(drop)
            }
            Self::Key(key) => {
                let snapshot = key.look_up(state).await?;
                key.verify(state, &snapshot).await.map(drop)
            }
        }
    }
}
