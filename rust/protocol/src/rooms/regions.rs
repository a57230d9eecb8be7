//! Regions that players can measure their distance to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// In the query of a client: the region that answers it soonest. No region has this name.
pub const NEAREST_REGION: &str = "nearest";

/// A region and a place in it that answers pings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Name, as rooms have it.
    pub region: String,
    /// Host name or IP address.
    pub address: String,
    /// UDP port that answers queries, as that of a game server does.
    pub query_port: u16,
}

/// The regions of the backend, in the order of its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Regions {
    /// May be empty.
    pub regions: Vec<Region>,
}
