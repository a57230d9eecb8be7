//! The node classes, one file each.

mod autosave_timer;
pub mod backend_matchmaker;
pub mod backend_peer_auth;
pub mod backend_player_store;
mod backend_relay;
mod backend_rooms;
pub mod backend_server_registration;
pub mod backend_session;
pub mod backend_shutdown;
pub mod backend_token_validator;
pub mod backend_world_store;
mod calls;
mod configuration_warnings;
