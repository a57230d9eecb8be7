//! The password of a room, in a type that does not print it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{self, FieldError};

/// Longest password of a room, in characters.
pub const MAX_ROOM_PASSWORD: usize = 64;

/// A room's password. Empty: none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct RoomPassword(pub String);

impl RoomPassword {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most 64 characters, without control characters.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        limits::opaque(field, &self.0, 0, MAX_ROOM_PASSWORD)
    }
}

impl fmt::Debug for RoomPassword {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_empty() { "RoomPassword(none)" } else { "RoomPassword(…)" })
    }
}
