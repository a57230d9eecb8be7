//! The resource classes, one file each.

pub mod backend_config;
pub mod backend_match_options;
pub mod backend_match_rules;
pub mod backend_room_options;
pub mod backend_room_query;
pub mod visibility;
