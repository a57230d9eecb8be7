//! Finding a room and getting into it.

mod creation;
mod filter;
pub mod follow;
pub mod lan_discovery;
pub mod ping;
pub mod regions;
#[cfg(test)]
mod scripted_network;

use std::collections::HashSet;
use std::sync::Arc;

use backend_protocol::limits::MAX_PAGE;
use backend_protocol::rooms::{JoinByCode, JoinTicket, RequestTicket, Room, RoomPage, RoomQuery};

use crate::api::backend::Backend;
use crate::error::ClientError;
use crate::session::Session;

use regions::RegionPings;

pub use creation::RoomRequest;
pub use filter::{select, sort_by_ping};

/// Most rooms that [`Rooms::list_all`] collects.
pub const MAX_ROOMS: usize = 10_000;

/// Room queries of a logged-in player. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    backend: Arc<dyn Backend>,
    session: Session,
    regions: RegionPings,
}

impl Rooms {
    /// Asks in the name of `session`.
    pub fn new(backend: Arc<dyn Backend>, session: Session) -> Self {
        Self { backend, session, regions: RegionPings::default() }
    }

    /// The same with what was measured of regions before.
    #[must_use]
    pub fn with_regions(self, regions: RegionPings) -> Self {
        Self { regions, ..self }
    }

    /// One page of rooms.
    pub async fn list(&self, query: &RoomQuery) -> Result<RoomPage, ClientError> {
        let query = &self.resolved(query).await?;
        self.session.authorized(|token| async move { self.backend.rooms(&token, query).await }).await
    }

    /// All rooms, page after page, at most [`MAX_ROOMS`]; then there is a cursor. `limit` and `cursor` of the query do not
    /// count. A room that moves from page to page meanwhile is in it once.
    pub async fn list_all(&self, query: &RoomQuery) -> Result<RoomPage, ClientError> {
        let mut query = RoomQuery { limit: Some(MAX_PAGE), cursor: None, ..self.resolved(query).await? };
        let mut pages = Pages::default();
        while pages.take(self.list(&query).await?) {
            query.cursor.clone_from(&pages.all.next_cursor);
        }
        Ok(pages.all)
    }

    /// One room.
    pub async fn get(&self, room_id: &str) -> Result<Room, ClientError> {
        self.session.authorized(|token| async move { self.backend.room(&token, room_id).await }).await
    }

    /// A ticket to join one room, good once and for a minute at most.
    pub async fn ticket(&self, room_id: &str, request: &RequestTicket) -> Result<JoinTicket, ClientError> {
        self.session
            .authorized(|token| async move { self.backend.ticket(&token, room_id, request).await })
            .await
    }

    /// A ticket to join the room with an invite code.
    pub async fn ticket_by_code(&self, request: &JoinByCode) -> Result<JoinTicket, ClientError> {
        self.session
            .authorized(|token| async move { self.backend.ticket_by_code(&token, request).await })
            .await
    }
}

/// Pages that become one.
#[derive(Default)]
struct Pages {
    all: RoomPage,
    known: HashSet<String>,
}

impl Pages {
    /// Whether there is more to fetch.
    fn take(&mut self, page: RoomPage) -> bool {
        let Self { all, known } = self;
        let before = all.rooms.len();
        all.rooms.extend(page.rooms.into_iter().filter(|room| known.insert(room.room_id.clone())));
        all.next_cursor = page.next_cursor;
        // A page without news that says that there is more could go on like that for ever.
        all.next_cursor.is_some() && all.rooms.len() > before && all.rooms.len() < MAX_ROOMS
    }
}

#[cfg(test)]
mod tests {
    use super::filter::tests::room;
    use super::*;

    fn page(ids: &[&str], next_cursor: Option<&str>) -> RoomPage {
        let rooms = ids.iter().map(|id| room(id, "Reed", 0, "2026-01-01T00:00:00Z")).collect();
        RoomPage { rooms, next_cursor: next_cursor.map(str::to_owned) }
    }

    fn ids(pages: &Pages) -> Vec<&str> {
        pages.all.rooms.iter().map(|room| room.room_id.as_str()).collect()
    }

    #[test]
    fn pages_are_fetched_until_none_is_left_and_a_room_is_in_them_once() {
        let mut pages = Pages::default();
        assert!(pages.take(page(&["a", "b"], Some("2"))));
        assert!(pages.take(page(&["b", "c"], Some("3"))));
        assert_eq!(pages.all.next_cursor.as_deref(), Some("3"));
        assert!(!pages.take(page(&["d"], None)));
        assert_eq!(ids(&pages), ["a", "b", "c", "d"]);
    }

    #[test]
    fn pages_without_news_and_lists_without_end_are_left() {
        let mut pages = Pages::default();
        assert!(pages.take(page(&["a"], Some("2"))));
        assert!(!pages.take(page(&["a"], Some("3"))), "nothing new");
        assert!(!pages.take(page(&[], Some("4"))), "nothing at all");
        let many: Vec<String> = (0..MAX_ROOMS).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(!Pages::default().take(page(&many, Some("2"))), "as many as there may be");
    }
}
