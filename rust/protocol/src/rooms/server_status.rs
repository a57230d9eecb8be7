//! The status of the server that a room is on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerStatus {
    /// Takes players.
    #[default]
    Ready,
    /// Draining; accepts no players. Listed only on request.
    Draining,
    /// Alive, but its main loop does not turn. Not listed.
    Unhealthy,
}
