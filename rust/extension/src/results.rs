//! The classes that a call returns: requests, results, errors.

pub mod backend_error;
pub mod backend_flush_result;
pub mod backend_match;
pub mod backend_player;
pub mod backend_region_pings;
pub mod backend_relay_peer;
pub mod backend_relay_result;
pub mod backend_request;
pub mod backend_result;
pub mod backend_room;
pub mod backend_room_follow;
pub mod backend_room_ping;
pub mod backend_save_conflict;
pub mod backend_world_chunk;
mod doc_url;
pub mod result_class;
