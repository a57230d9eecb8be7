//! The whole list, page by page: pages that have not changed are not sent again.

use std::time::Duration;

use backend_protocol::limits::MAX_PAGE;
use backend_protocol::rooms::{Room, RoomPage, RoomQuery};

use crate::error::{ClientError, Fault};
use crate::rooms::{Pages, Rooms};

/// Time between two readings of the list, for each page.
const INTERVAL: Duration = Duration::from_secs(1);
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The pages as they were read last.
#[derive(Default)]
pub struct Polled(Vec<KnownPage>);

struct KnownPage {
    cursor: Option<String>,
    etag: Option<String>,
    page: RoomPage,
}

impl Polled {
    /// Time until the list is read again.
    pub fn interval(&self) -> Duration {
        MIN_INTERVAL.max(INTERVAL * u32::try_from(self.0.len()).unwrap_or(u32::MAX))
    }

    /// Reads the list. `None`: no page has changed since the last time.
    pub async fn read(&mut self, rooms: &Rooms, query: &RoomQuery) -> Result<Option<Vec<Room>>, ClientError> {
        let mut query = RoomQuery { limit: Some(MAX_PAGE), cursor: None, ..query.clone() };
        let (mut pages, mut known, mut is_same) = (Pages::default(), Vec::new(), true);
        loop {
            let before = self.0.iter().position(|known| known.cursor == query.cursor);
            let before = before.map(|index| self.0.swap_remove(index));
            let etag = before.as_ref().and_then(|known| known.etag.as_deref());
            let tagged = {
                let (backend, query) = (&rooms.backend, &query);
                let read = |token: String| async move { backend.rooms_unless(&token, query, etag).await };
                rooms.session.authorized(read).await?
            };
            is_same &= tagged.page.is_none();
            let page = tagged.page.or_else(|| before.map(|known| known.page));
            let page = page.ok_or_else(|| {
                ClientError::new(
                    Fault::BadReply,
                    "the backend says that a page is unchanged which was not read yet",
                )
            })?;
            known.push(KnownPage { cursor: query.cursor.clone(), etag: tagged.etag, page: page.clone() });
            if !pages.take(page) {
                break;
            }
            query.cursor.clone_from(&pages.all.next_cursor);
        }
        // Fewer pages than before are a change as well.
        let is_same = is_same && self.0.is_empty();
        self.0 = known;
        Ok((!is_same).then_some(pages.all.rooms))
    }
}
