//! Following a room list: events of the backend while they arrive, and otherwise pages that are read again.

mod event_parser;
mod followed_rooms;
mod polling;

use std::collections::HashSet;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::rooms::{EVENT_HEARTBEAT_SECONDS, EVENT_RESET, RoomChanges, RoomQuery};
use tokio::time::{Instant, sleep, timeout};

use self::event_parser::{EventParser, ServerSentEvent};
use self::polling::Polled;
use super::Rooms;
use crate::api::retry;
use crate::api::transport::ReplyBody;
use crate::error::{Cause, ClientError, Fault};

pub use self::followed_rooms::{FollowState, FollowedRooms, RoomUpdate};

/// The backend sends its first event at once: what takes longer is kept back somewhere.
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream without a byte for so long is broken, whatever the connection looks like.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(EVENT_HEARTBEAT_SECONDS * 5 / 2);
/// A stream that lasted so long was none that a proxy ends again and again.
const STABLE: Duration = Duration::from_secs(20);
/// Streams in a row that broke before that, after which the list is polled.
const MAX_BROKEN: u32 = 4;
/// While the list is polled because no events arrive, a stream is tried this often.
const STREAM_RETRY: Duration = Duration::from_secs(5 * 60);
/// The same when the backend had no place, which asks for a time of its own.
const PLACE_RETRY: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Why a stream ended.
enum Ended {
    /// It will not get better by itself.
    Failed(ClientError),
    /// The backend was not reached, or the connection broke.
    Broken,
    /// Events do not arrive here, or not now: when to try again.
    Blocked(Duration),
}

impl Rooms {
    /// Follows the list of `query` until the future is dropped, or fails in a way that does not pass. `rooms` has the list;
    /// `limit` and `cursor` of the query do not count.
    pub async fn follow(&self, query: &RoomQuery, rooms: &FollowedRooms) {
        let query = RoomQuery { limit: None, cursor: None, ..query.clone() };
        let mut follower = Follower {
            rooms: self,
            query,
            list: rooms,
            last_event_id: None,
            stale: None,
            polled: Polled::default(),
        };
        let error = follower.run().await;
        tracing::debug!(code = error.code(), "a room list is not followed any more");
        rooms.enter(FollowState::Failed(error));
    }
}

struct Follower<'a> {
    rooms: &'a Rooms,
    query: RoomQuery,
    list: &'a FollowedRooms,
    last_event_id: Option<String>,
    /// While a whole list arrives: rooms that it has not named yet.
    stale: Option<HashSet<String>>,
    polled: Polled,
}

impl Follower<'_> {
    async fn run(&mut self) -> ClientError {
        let (mut attempt, mut broken) = (0, 0);
        loop {
            let begun = Instant::now();
            let ended = self.stream().await;
            self.stale = None;
            if begun.elapsed() > STABLE {
                (attempt, broken) = (0, 0);
            }
            let retry_stream_in = match ended {
                Ended::Failed(error) => return error,
                Ended::Blocked(retry) => retry,
                Ended::Broken => {
                    broken += 1;
                    if broken <= MAX_BROKEN {
                        self.enter_unless_loading(FollowState::Reconnecting);
                        sleep(retry::backoff_within(attempt, MAX_PAUSE)).await;
                        attempt += 1;
                        continue;
                    }
                    STREAM_RETRY
                }
            };
            if let Err(error) = self.poll_for(retry_stream_in).await {
                return error;
            }
            (attempt, broken) = (0, 0);
        }
    }

    /// A list that has not arrived is loading, whatever keeps it.
    fn enter_unless_loading(&self, state: FollowState) {
        if self.list.state() != FollowState::Loading {
            self.list.enter(state);
        }
    }

    /// Reads events until the stream ends.
    async fn stream(&mut self) -> Ended {
        let opened = timeout(FIRST_EVENT_TIMEOUT, self.open()).await;
        let (mut body, mut events) = match opened {
            Err(_) => return Ended::Blocked(STREAM_RETRY),
            Ok(Err(error)) => return ended_by(error),
            Ok(Ok(body)) => (body, Vec::new()),
        };
        let (mut parser, mut is_first) = (EventParser::default(), true);
        loop {
            let limit = if is_first { FIRST_EVENT_TIMEOUT } else { LIVENESS_TIMEOUT };
            let chunk = match timeout(limit, body.chunk()).await {
                Err(_) if is_first => return Ended::Blocked(STREAM_RETRY),
                Err(_) | Ok(Err(_) | Ok(None)) => return Ended::Broken,
                Ok(Ok(Some(chunk))) => chunk,
            };
            is_first &= chunk.is_empty();
            if let Err(error) = parser.feed(&chunk, &mut events) {
                tracing::warn!("a followed room list: {error}; the list is polled instead");
                return Ended::Blocked(STREAM_RETRY);
            }
            for event in events.drain(..) {
                if let Err(error) = self.take(event) {
                    // The parser's words may quote the body: only its position is told.
                    let (line, column) = (error.line(), error.column());
                    tracing::warn!(
                        "an event of a followed room list does not parse at line {line}, column {column}; the list is polled instead"
                    );
                    return Ended::Blocked(STREAM_RETRY);
                }
            }
        }
    }

    async fn open(&self) -> Result<Box<dyn ReplyBody>, ClientError> {
        let Rooms { backend, session } = self.rooms;
        let (query, id) = (&self.query, self.last_event_id.as_deref());
        session.authorized(|token| async move { backend.room_events(&token, query, id).await }).await
    }

    fn take(&mut self, event: ServerSentEvent) -> Result<(), serde_json::Error> {
        if !event.data.is_empty() {
            let RoomChanges { rooms, removed, more: _ } = serde_json::from_str(&event.data)?;
            if event.name == EVENT_RESET {
                self.stale = Some(self.list.ids());
            }
            if let Some(stale) = &mut self.stale {
                for room in &rooms {
                    stale.remove(&room.room_id);
                }
            }
            self.list.apply(rooms, removed);
        }
        // The last part of what belongs together has the id: before, a break begins it anew.
        if let Some(id) = event.id {
            self.last_event_id = Some(id);
            self.list.apply(Vec::new(), self.stale.take().into_iter().flatten());
            self.list.enter(FollowState::Live);
        }
        Ok(())
    }

    /// Reads the list again and again, for about as long as given.
    async fn poll_for(&mut self, duration: Duration) -> Result<(), ClientError> {
        let until = Instant::now() + duration;
        // Events may have changed the list since it was polled.
        self.polled = Polled::default();
        let mut attempt = 0;
        loop {
            let pause = match self.polled.read(self.rooms, &self.query).await {
                Ok(changed) => {
                    attempt = 0;
                    if let Some(rooms) = changed {
                        self.list.replace_all(rooms);
                    }
                    self.list.enter(FollowState::Polling);
                    retry::jittered(self.polled.interval())
                }
                Err(error) => match ended_by(error) {
                    Ended::Failed(error) => return Err(error),
                    Ended::Broken | Ended::Blocked(_) => {
                        self.enter_unless_loading(FollowState::Reconnecting);
                        attempt += 1;
                        retry::backoff_within(attempt, MAX_PAUSE)
                    }
                },
            };
            if Instant::now() + pause >= until {
                return Ok(());
            }
            sleep(pause).await;
        }
    }
}

/// What an error means to a follower.
fn ended_by(error: ClientError) -> Ended {
    match error.cause {
        Cause::Client(Fault::Network | Fault::Timeout) => Ended::Broken,
        Cause::Backend(Code::RateLimited | Code::Unavailable) => {
            Ended::Blocked(error.retry_after.map_or(PLACE_RETRY, |asked| asked.max(PLACE_RETRY)))
        }
        // What is not the backend, or a backend that does not know the route, or not for so many rooms.
        Cause::Client(Fault::BadReply | Fault::ReplyTooLarge)
        | Cause::Backend(
            Code::NotFound | Code::RoomNotFound | Code::TooManyRooms | Code::Internal | Code::Unknown,
        ) => Ended::Blocked(STREAM_RETRY),
        Cause::Client(_) | Cause::Backend(_) => Ended::Failed(error),
    }
}
