//! What the operator's tools may do, under an admin key.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, Check, FieldError};

/// Bans a player, or changes the ban. The player's sessions end, and game servers disconnect the player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BanPlayer {
    /// For the operator; not sent to the player. At most 256 characters.
    pub reason: String,
    /// Duration, 1 to 315,360,000 s (ten years). Permanent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// A ban that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ban {
    /// Since when, RFC 3339.
    pub since: String,
    /// End of the ban, RFC 3339. Permanent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// See [`BanPlayer::reason`].
    pub reason: String,
}

/// A player as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminPlayer {
    /// The account, as its owner sees it.
    pub account: crate::accounts::AccountDetails,
    /// RFC 3339.
    pub created_at: String,
    /// Sessions that are not over.
    pub sessions: u32,
    /// Absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<Ban>,
}

/// A server key as it may be shown: everything but the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRecord {
    /// What `rotate` and `revoke` name it by: `key_` + 12 characters.
    pub key_id: String,
    /// The game whose servers may use it; absent before a backend has started on this database.
    pub game: Option<String>,
    /// The environment it is for, such as `live` or `staging`.
    pub environment: Option<String>,
    /// Words of the operator.
    pub label: String,
    /// `active`, `expiring` (rotated, in its grace), `expired` or `revoked`.
    pub state: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339, to the minute.
    pub last_used_at: Option<String>,
    /// RFC 3339; set by a rotation.
    pub expires_at: Option<String>,
    /// RFC 3339.
    pub revoked_at: Option<String>,
}

/// All server keys, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyRecord>,
}

/// Makes a server key for the game and environment of the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// Words for the list, such as the fleet's name. At most 64 characters.
    #[serde(default)]
    pub label: String,
}

/// Makes a server key in place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// Seconds until the old key expires, at most 7,776,000 (90 days).
    pub grace_seconds: u32,
}

/// A key that was made just now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// Its id.
    pub key_id: String,
    /// The key itself, shown this once.
    pub key: String,
}

const TEN_YEARS: u32 = 315_360_000;
const MAX_GRACE: u32 = 90 * 24 * 3600;

impl Check for BanPlayer {
    fn check(&self) -> Result<(), FieldError> {
        limits::text("reason", &self.reason, 0, 256)?;
        match self.seconds {
            Some(seconds) if seconds == 0 || seconds > TEN_YEARS => {
                Err(FieldError::new("seconds", format!("must be 1 to {TEN_YEARS}")))
            }
            _ => Ok(()),
        }
    }
}

impl Check for CreateKey {
    fn check(&self) -> Result<(), FieldError> {
        limits::text("label", &self.label, 0, limits::MAX_LABEL)
    }
}

impl Check for RotateKey {
    fn check(&self) -> Result<(), FieldError> {
        if self.grace_seconds > MAX_GRACE {
            return Err(FieldError::new("grace_seconds", format!("must be at most {MAX_GRACE}")));
        }
        Ok(())
    }
}
