//! Errors on the wire: RFC 9457 problem documents with a stable code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal;)+) => {
        /// What went wrong, as a word that never changes its meaning. Scripts and metrics match on it; people
        /// read `detail`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
            /// A code of a newer backend, unknown here.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every code the backend can send.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ Self::Unknown => "unknown" }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ Self::Unknown => 500 }
            }
        }
    };
}

codes! {
    /// The body is not JSON, or not UTF-8.
    MalformedJson = "malformed_json", 400;
    /// A field is missing, unknown, of the wrong type or out of its limits; `field` names it.
    InvalidField = "invalid_field", 422;
    /// The cursor is not one this list handed out for this query.
    InvalidCursor = "invalid_cursor", 400;
    /// The body is longer than the route reads.
    BodyTooLarge = "body_too_large", 413;
    /// The body came too slowly.
    RequestTimeout = "request_timeout", 408;
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// No such path.
    NotFound = "not_found", 404;
    /// The path does not take this method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// No credential, or one of the wrong kind.
    Unauthorized = "unauthorized", 401;
    /// The e-mail address or the password is wrong (the same for both).
    InvalidCredentials = "invalid_credentials", 401;
    /// The account may not log in.
    Banned = "banned", 403;
    /// The code from the mail is wrong, used, or past its time; ask for another.
    MailCodeInvalid = "mail_code_invalid", 403;
    /// This way to log in belongs to another account already, or the account has one of its kind.
    AlreadyLinked = "already_linked", 409;
    /// The e-mail address already has an account.
    AccountExists = "account_exists", 409;
    /// The token does not verify.
    TokenInvalid = "token_invalid", 401;
    /// The token was valid and has expired.
    TokenExpired = "token_expired", 401;
    /// The join ticket was used before.
    TicketUsed = "ticket_used", 409;
    /// The refresh token is unknown, expired or logged out. The player must log in again.
    RefreshTokenInvalid = "refresh_token_invalid", 401;
    /// An old refresh token came back; its whole family is revoked (RFC 9700 §4.14.2).
    RefreshTokenReused = "refresh_token_reused", 401;
    /// The server key is unknown or revoked.
    ServerKeyInvalid = "server_key_invalid", 401;
    /// The admin key is unknown or revoked.
    AdminKeyInvalid = "admin_key_invalid", 401;
    /// The backend does not know this server (any more): register again.
    ServerUnknown = "server_unknown", 404;
    /// No such room, or it is gone.
    RoomNotFound = "room_not_found", 404;
    /// More rooms meet the query than a followed list has; narrow it, or read the list page by page.
    TooManyRooms = "too_many_rooms", 422;
    /// The room has no place left.
    RoomFull = "room_full", 409;
    /// The room is draining and accepts no players.
    RoomDraining = "room_draining", 409;
    /// The room has a password, and this is not it, or none was sent.
    WrongRoomPassword = "wrong_room_password", 403;
    /// No room has this invite code (any more).
    InviteCodeUnknown = "invite_code_unknown", 404;
    /// Rooms are not created here, or not for this player.
    RoomCreationRefused = "room_creation_refused", 403;
    /// The player has as many rooms as one player may have.
    RoomLimitReached = "room_limit_reached", 409;
    /// The room's server could not be started, or ended before the room was ready; `detail` says why.
    RoomStartFailed = "room_start_failed", 409;
    /// Nobody waits any more for the room that this server was started for: it should exit.
    AllocationEnded = "allocation_ended", 409;
    /// The party has no seat left in this room: claimed, expired, or never reserved.
    PartyCodeUnknown = "party_code_unknown", 404;
    /// Another server holds the player now.
    LeaseLost = "lease_lost", 409;
    /// The database is older than what the backend has confirmed, because it went back to a backup: the server sends again
    /// what is missing, then repeats the call.
    RolledBack = "rolled_back", 409;
    /// The epoch was not given to this server's key: what was saved under it is refused.
    EpochUnknown = "epoch_unknown", 409;
    /// The sequence is further above the last one than servers count.
    SequenceOutOfBounds = "sequence_out_of_bounds", 422;
    /// The player has as many documents as one player may have, and this would be one more.
    TooManyDocuments = "too_many_documents", 422;
    /// The player has as many unresolved conflicts as are kept, and this save, whose lease the database does not know, would
    /// have to displace one.
    TooManyConflicts = "too_many_conflicts", 409;
    /// No matchmaker of this name.
    MatchmakerNotFound = "matchmaker_not_found", 404;
    /// No such matchmaking ticket, or one of other players.
    MatchmakingTicketNotFound = "matchmaking_ticket_not_found", 404;
    /// The player waits with another matchmaking ticket; cancel it first.
    AlreadyInMatchmaking = "already_in_matchmaking", 409;
    /// The matchmaking ticket is past the status in which this is possible.
    MatchmakingTicketClosed = "matchmaking_ticket_closed", 409;
    /// Another server still holds the player and was requested to release it; try again.
    PlayerHeld = "player_held", 409;
    /// No such player.
    PlayerNotFound = "player_not_found", 404;
    /// Another server still holds the world; try again.
    WorldHeld = "world_held", 409;
    /// No chunk of this name.
    ChunkNotFound = "chunk_not_found", 404;
    /// A commit names an object that is not stored (any more): send it, then commit again.
    ObjectMissing = "object_missing", 409;
    /// The bytes sent are not those of the object they were sent as.
    ObjectInvalid = "object_invalid", 422;
    /// The same idempotency key came with another body, or the session that it began was refreshed or ended since.
    IdempotencyKeyReused = "idempotency_key_reused", 422;
    /// Too many requests; wait `retry_after` seconds.
    RateLimited = "rate_limited", 429;
    /// The backend is starting, stopping or without its database; try again.
    Unavailable = "unavailable", 503;
    /// A defect of the backend; `request_id` finds it in the log.
    Internal = "internal", 500;
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:backend:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What happened this time, for a person. Never holds a secret.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// The id under which the backend logged the request.
    pub request_id: String,
    /// The field at fault, with [`Code::InvalidField`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds to wait before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem with the code's own status and title.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:backend:problem:{}", code.as_str()),
            title: code.as_str().replace('_', " "),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: String::new(),
            field: None,
            retry_after: None,
        }
    }
}

impl From<crate::FieldError> for Problem {
    fn from(error: crate::FieldError) -> Self {
        let mut problem = Self::new(Code::InvalidField, error.to_string());
        problem.field = Some(error.field);
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_itself() {
        for code in Code::ALL {
            let json = serde_json::to_string(code).expect("serialises");
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<Code>(&json).expect("parses"), *code);
        }
    }

    #[test]
    fn a_code_from_the_future_is_unknown_rather_than_an_error() {
        assert_eq!(serde_json::from_str::<Code>("\"invented_in_2031\"").expect("parses"), Code::Unknown);
    }
}
