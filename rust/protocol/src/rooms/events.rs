//! A followed room list on the wire: server-sent events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Room;

/// Name of an event that begins the list anew: rooms that it and those after it do not name are not on the list any more.
pub const EVENT_RESET: &str = "reset";
/// Name of an event that changes the list.
pub const EVENT_CHANGE: &str = "change";
/// Most rooms on a list that is followed. Whoever wants to see more reads pages.
pub const MAX_FOLLOWED_ROOMS: usize = 10_000;
/// Longest data of an event that a follower has to accept, in bytes.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Longest time without a byte on a stream of events, in seconds.
pub const EVENT_HEARTBEAT_SECONDS: u64 = 15;

/// Data of an event: what differs from the list before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoomChanges {
    /// Rooms that are new on the list, or look different, as they are now.
    #[serde(default)]
    pub rooms: Vec<Room>,
    /// Ids of rooms that have left the list. The follower may know nothing of one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// The next event belongs to this one: only with it is the list one that the backend has had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}
