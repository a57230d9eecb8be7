//! Following a room list: events of the backend while they arrive, and otherwise pages that are read again.

mod event_parser;
mod followed_rooms;
mod polling;

use std::collections::HashSet;
use std::time::Duration;

use backend_protocol::Code;
use backend_protocol::rooms::{
    EVENT_HEARTBEAT_SECONDS, EVENT_RESET, MAX_FOLLOWED_ROOMS, RoomChanges, RoomQuery,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::event_parser::{EventParser, ServerSentEvent};
use self::polling::Polled;
use super::Rooms;
use crate::api::retry;
use crate::api::transport::ReplyBody;
use crate::error::{Cause, ClientError, Fault};

pub use self::followed_rooms::{FollowState, FollowedRooms, RoomUpdate};

/// Longest wait for the head of a reply. A connection of the pool may be dead, or a proxy keeps the reply back.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams in a row that were not opened within that time, although nothing was refused, after which the list is polled.
const MAX_UNOPENED: u32 = 2;
/// The backend sends its first event at once: what takes longer is kept back somewhere.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time from the beginning of a stream to the first event with an id, which completes the list.
const FIRST_ID_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream without a byte for so long is broken, whatever the connection looks like.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(EVENT_HEARTBEAT_SECONDS * 5 / 2);
/// A stream that lasted so long was none that a proxy ends again and again.
const MIN_STABLE_TIME: Duration = Duration::from_secs(20);
/// Streams in a row that were opened and ended before that, after which the list is polled.
const MAX_BROKEN: u32 = 4;
/// Most rooms on the list. While a whole list arrives, the rooms from before are still on it.
const MAX_ROOMS: usize = 2 * MAX_FOLLOWED_ROOMS;
/// While the list is polled because no events arrive, a stream is tried this often.
const STREAM_RETRY_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The same when the backend had no place, or failed: it is expected to have one soon.
const PLACE_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Longest pause before the backend is tried again, whatever a reply asks for.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Why a stream, or the polling of the list, ended.
enum Ended {
    /// It will not get better by itself.
    Failed(ClientError),
    /// The backend was not reached, which shows nothing about streams. With the time that was asked for.
    Unreached(Option<Duration>),
    /// A stream that was opened broke.
    Broken,
    /// A stream that was opened came to its end, as each does when its time is over.
    Closed,
    /// Events do not arrive here, or not now: when to try again.
    Blocked(Duration),
}

impl Rooms {
    /// Follows the list of `query` until the future is dropped, or fails in a way that does not pass. `rooms` has the list;
    /// `limit` and `cursor` of the query do not count.
    pub async fn follow(&self, query: &RoomQuery, rooms: &FollowedRooms) {
        let _guard = FailOnPanic(rooms);
        let query = match self.until_resolved(query).await {
            Ok(query) => RoomQuery { limit: None, cursor: None, ..query },
            Err(error) => return rooms.enter(FollowState::Failed(error)),
        };
        let mut follower = Follower {
            rooms: self,
            query,
            list: rooms,
            last_event_id: None,
            stale: None,
            polled: Polled::default(),
            attempt: 0,
            unopened: 0,
        };
        let error = follower.run().await;
        tracing::debug!(code = error.code(), "a room list is not followed any more");
        rooms.enter(FollowState::Failed(error));
    }
}

impl Rooms {
    /// The query with the nearest region, if it wants that. A backend that is away for a while is tried again.
    async fn until_resolved(&self, query: &RoomQuery) -> Result<RoomQuery, ClientError> {
        let mut attempt = 0;
        loop {
            match self.resolved(query).await {
                Err(error) if error.retryable => {
                    sleep(retry::pause_at_most(error.retry_after, attempt, MAX_PAUSE)).await;
                    attempt += 1;
                }
                resolved => return resolved,
            }
        }
    }
}

/// Ends the list if the follower panics.
struct FailOnPanic<'a>(&'a FollowedRooms);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = ClientError::new(Fault::Internal, "a worker failed; see the log");
            self.0.enter(FollowState::Failed(error));
        }
    }
}

struct Follower<'a> {
    rooms: &'a Rooms,
    query: RoomQuery,
    list: &'a FollowedRooms,
    last_event_id: Option<String>,
    /// While a whole list arrives: rooms that it has not named yet.
    stale: Option<HashSet<String>>,
    /// The pages of the list, if no event has changed it since.
    polled: Polled,
    /// Failures in a row, from which the next pause follows.
    attempt: u32,
    /// Streams in a row that were not opened in time.
    unopened: u32,
}

impl Follower<'_> {
    async fn run(&mut self) -> ClientError {
        let mut broken = 0;
        loop {
            let begun = Instant::now();
            let mut ended = self.stream().await;
            self.stale = None;
            if begun.elapsed() > MIN_STABLE_TIME {
                (self.attempt, broken) = (0, 0);
            }
            if matches!(ended, Ended::Broken | Ended::Closed) {
                broken += 1;
                if broken > MAX_BROKEN {
                    ended = Ended::Blocked(STREAM_RETRY_INTERVAL);
                }
            }
            if let Ended::Blocked(stream_retry) = ended {
                broken = 0;
                match self.poll_for(stream_retry).await {
                    Ok(()) => continue,
                    Err(other) => ended = other,
                }
            }
            let asked = match ended {
                Ended::Failed(error) => return error,
                // The next stream goes on at once: nobody needs to know.
                Ended::Closed => None,
                Ended::Unreached(asked) => {
                    self.enter_unless_loading(FollowState::Reconnecting);
                    asked
                }
                Ended::Broken | Ended::Blocked(_) => {
                    self.enter_unless_loading(FollowState::Reconnecting);
                    None
                }
            };
            self.pause(asked).await;
        }
    }

    async fn pause(&mut self, asked: Option<Duration>) {
        sleep(retry::pause_at_most(asked, self.attempt, MAX_PAUSE)).await;
        self.attempt += 1;
    }

    /// A list that has not arrived is loading, whatever keeps it.
    fn enter_unless_loading(&self, state: FollowState) {
        if self.list.state() != FollowState::Loading {
            self.list.enter(state);
        }
    }

    /// Reads events until the stream ends.
    async fn stream(&mut self) -> Ended {
        let opened = timeout(OPEN_TIMEOUT, self.open()).await;
        self.unopened = if opened.is_err() { self.unopened + 1 } else { 0 };
        let mut body = match opened {
            Err(_) if self.unopened <= MAX_UNOPENED => return Ended::Unreached(None),
            // The first time, it may have been an outage that is over by now.
            Err(_) if self.unopened == MAX_UNOPENED + 1 => return Ended::Blocked(PLACE_RETRY_INTERVAL),
            Err(_) => return Ended::Blocked(STREAM_RETRY_INTERVAL),
            Ok(Err(error)) => return ended_by(error),
            Ok(Ok(body)) => body,
        };
        let first_id_until = Instant::now() + FIRST_ID_TIMEOUT;
        let (mut parser, mut events) = (EventParser::default(), Vec::new());
        let (mut has_begun, mut has_id) = (false, false);
        loop {
            let now = Instant::now();
            let until = if has_id {
                now + LIVENESS_TIMEOUT
            } else if has_begun {
                first_id_until
            } else {
                now + FIRST_BYTE_TIMEOUT
            };
            let chunk = match timeout_at(until, body.chunk()).await {
                Err(_) if !has_id => return Ended::Blocked(STREAM_RETRY_INTERVAL),
                Err(_) | Ok(Err(_)) => return Ended::Broken,
                Ok(Ok(None)) => return Ended::Closed,
                Ok(Ok(Some(chunk))) => chunk,
            };
            has_begun |= !chunk.is_empty();
            if let Err(error) = parser.feed(&chunk, &mut events) {
                tracing::warn!("a followed room list: {error}; the list is polled instead");
                return Ended::Blocked(STREAM_RETRY_INTERVAL);
            }
            for event in events.drain(..) {
                has_id |= event.id.is_some();
                if let Err(error) = self.take(event) {
                    // The parser's words may quote the body: only its position is told.
                    let (line, column) = (error.line(), error.column());
                    tracing::warn!(
                        "an event of a followed room list does not parse at line {line}, column {column}; the list is polled instead"
                    );
                    return Ended::Blocked(STREAM_RETRY_INTERVAL);
                }
            }
            if self.list.len() > MAX_ROOMS {
                tracing::warn!(
                    "a followed room list has more than {MAX_FOLLOWED_ROOMS} rooms, which the backend should not send; the list is polled instead"
                );
                return Ended::Blocked(STREAM_RETRY_INTERVAL);
            }
            // What arrives without a pause does not run into the time limit above.
            if !has_id && Instant::now() >= first_id_until {
                return Ended::Blocked(STREAM_RETRY_INTERVAL);
            }
        }
    }

    async fn open(&self) -> Result<Box<dyn ReplyBody>, ClientError> {
        let Rooms { backend, session, .. } = self.rooms;
        let (query, id) = (&self.query, self.last_event_id.as_deref());
        session.authorized(|token| async move { backend.room_events(&token, query, id).await }).await
    }

    fn take(&mut self, event: ServerSentEvent) -> Result<(), serde_json::Error> {
        if !event.data.is_empty() {
            let RoomChanges { rooms, removed, more: _ } = serde_json::from_str(&event.data)?;
            self.polled = Polled::default();
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

    /// Reads the list again and again, for at least as long as given, or until the backend is not reached. Each reading is
    /// followed by its pause: however soon streams are tried again, the list is not read more often.
    async fn poll_for(&mut self, duration: Duration) -> Result<(), Ended> {
        let until = Instant::now() + duration;
        loop {
            let (asked, ended) = match self.polled.read(self.rooms, &self.query).await {
                Ok(changed) => {
                    self.attempt = 0;
                    if let Some(rooms) = changed {
                        self.list.replace_all(rooms);
                        // The list is not that of the event any more: it may lack rooms that have not changed since.
                        self.last_event_id = None;
                    }
                    self.list.enter(FollowState::Polling);
                    sleep(retry::jittered(self.polled.interval())).await;
                    if Instant::now() >= until {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => (error.retry_after, ended_by(error)),
            };
            if !matches!(ended, Ended::Blocked(_)) {
                // That no stream was opened may have had the same reason.
                self.unopened = 0;
                return Err(ended);
            }
            self.enter_unless_loading(FollowState::Reconnecting);
            self.pause(asked).await;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }
}

/// What an error means to a follower.
fn ended_by(error: ClientError) -> Ended {
    match error.cause {
        Cause::Client(Fault::Network | Fault::Timeout) => Ended::Unreached(None),
        // A proxy without its backend.
        Cause::Client(Fault::BadReply) if error.retryable => Ended::Unreached(error.retry_after),
        Cause::Backend(Code::RateLimited | Code::Unavailable | Code::Internal) => Ended::Blocked(
            error.retry_after.map_or(PLACE_RETRY_INTERVAL, |asked| asked.max(PLACE_RETRY_INTERVAL)),
        ),
        // What is not the backend, or a backend that does not know the route, or not for so many rooms.
        Cause::Client(Fault::BadReply | Fault::ReplyTooLarge)
        | Cause::Backend(Code::NotFound | Code::RoomNotFound | Code::TooManyRooms | Code::Unknown) => {
            Ended::Blocked(STREAM_RETRY_INTERVAL)
        }
        Cause::Client(_) | Cause::Backend(_) => Ended::Failed(error),
    }
}

#[cfg(test)]
mod tests;
