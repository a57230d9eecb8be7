//! Which rooms meet a query, without a database.

use super::{AttributeFilter, Room, RoomQuery, ServerStatus};
use crate::limits::FieldError;

/// The conditions of a query, taken apart once for many rooms.
#[derive(Debug, Clone)]
pub struct RoomFilter {
    query: RoomQuery,
    attributes: Vec<AttributeFilter>,
    tags: Vec<String>,
    search: Option<String>,
    fold: fn(&str) -> String,
}

impl RoomFilter {
    /// The conditions of `query`. `fold` makes names alike that a search takes for the same.
    pub fn new(query: &RoomQuery, fold: fn(&str) -> String) -> Result<Self, FieldError> {
        Ok(Self {
            attributes: query.attribute_filters()?,
            tags: query.tag_list().map(str::to_owned).collect(),
            search: query.search.as_deref().map(fold),
            query: query.clone(),
            fold,
        })
    }

    /// Whether `room` meets all conditions.
    pub fn keeps(&self, room: &Room) -> bool {
        let Self { query, attributes, tags, search, fold } = self;
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&query.map, &room.map)
            && is(&query.mode, &room.mode)
            && is(&query.region, &room.region)
            && is(&query.version, &room.version)
            && (!query.not_full || room.free_seats() > 0)
            && (!query.not_empty || room.players > 0)
            && match room.status {
                ServerStatus::Ready => true,
                ServerStatus::Draining => query.include_draining,
                ServerStatus::Unhealthy => false,
            }
            && (!query.no_password || !room.has_password)
            && attributes.iter().all(|filter| filter.is_met(&room.attributes))
            && tags.iter().all(|tag| room.tags.contains(tag))
            && search.as_ref().is_none_or(|search| fold(&room.name).contains(search.as_str()))
    }
}
