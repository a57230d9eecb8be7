//! Proving who a player is: tokens, tickets and the keys that sign them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};

/// `typ` header of a player's access token.
pub const ACCESS_TOKEN_TYPE: &str = "access+jwt";
/// `typ` header of a join ticket.
pub const JOIN_TICKET_TYPE: &str = "join+jwt";
/// Longest life of an access token that a verifier accepts, in seconds.
pub const MAX_ACCESS_TOKEN_SECONDS: u64 = 3_600;
/// Longest life of a join ticket, in seconds.
pub const MAX_JOIN_TICKET_SECONDS: u64 = 60;

/// The audience of access tokens of `game`. A join ticket's audience is the server's id.
pub fn access_audience(game: &str) -> String {
    format!("game:{game}")
}

/// Claims of both kinds of token (RFC 7519 §4.1). All but `sid` are required, and `aud` is one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The backend that issued it.
    pub iss: String,
    /// The player's id.
    pub sub: String,
    /// [`access_audience`], or the id of the one server a ticket is for.
    pub aud: String,
    /// Seconds since 1970 from which on it is not accepted.
    pub exp: u64,
    /// Seconds since 1970 at which it was issued.
    pub iat: u64,
    /// Unique id; a ticket's is used once.
    pub jti: String,
    /// The player's display name.
    pub name: String,
    /// The session it was issued in (OpenID Connect Front-Channel Logout §3). The backend refuses the token once that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// A token for the backend to validate. Validating a join ticket consumes it.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// Access token or join ticket.
    pub token: String,
    /// Id of the calling server. Required for a join ticket, which is valid for that server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
}

/// Which kind of token was validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A player's access token.
    Access,
    /// A join ticket, now used.
    Join,
}

/// The token is valid and belongs to this player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Validated {
    /// The account's id.
    pub player_id: String,
    /// Name shown to others.
    pub display_name: String,
    /// Which kind of token it was.
    pub kind: TokenKind,
    /// Seconds until the token expires.
    pub expires_in: u32,
    /// Id (`jti`) of the join ticket, for [`crate::registration::Heartbeat::used_tickets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_id: Option<String>,
}

/// The public keys (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jwks {
    /// Current and recently retired keys.
    pub keys: Vec<Jwk>,
}

/// One Ed25519 public key (RFC 8037 §2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The public key, base64url.
    pub x: String,
    /// Name of the key in token headers.
    pub kid: String,
    /// `EdDSA`.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
}

impl Check for Validate {
    fn check(&self) -> Result<(), FieldError> {
        limits::token("token", &self.token)?;
        match &self.server_id {
            Some(id) => limits::identifier("server_id", id, 64),
            None => Ok(()),
        }
    }
}
