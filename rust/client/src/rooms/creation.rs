//! Rooms on demand and quick play: a request that is repeated until there is a ticket, or cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backend_protocol::rooms::{CreateRoom, JoinTicket, QuickPlay, RoomCreation};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::Rooms;
use crate::api::backend::room_creation::RoomCreationBackend;
use crate::api::retry;
use crate::error::{ClientError, Fault};
use crate::platform::rng;
use crate::session::Session;

/// Longest pause before a request is repeated, whatever a reply asks for: well below the time after which the backend gives it up.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A reply that took so long was waited for at the backend: the next request follows soon.
const LONG_POLL_TIME: Duration = Duration::from_secs(1);

/// A request for a room. Cheap to clone; clones are the same request.
#[derive(Clone)]
pub struct RoomRequest(Arc<Inner>);

struct Inner {
    backend: Arc<dyn RoomCreationBackend>,
    session: Session,
    rooms: Rooms,
    request_id: String,
    wanted: Wanted,
    /// What is sent for seats, the same in each repetition: with the nearest region, if that is wanted.
    resolved: OnceCell<QuickPlay>,
    /// Whether the backend may have received it.
    began: AtomicBool,
    /// Whether the backend is known to wait for it no more.
    has_ended: AtomicBool,
}

enum Wanted {
    Room(CreateRoom),
    Seats(Box<QuickPlay>),
}

impl Rooms {
    /// A request for a room on a server of its own. The `request_id` of `wanted` is chosen here.
    pub fn create(&self, wanted: CreateRoom) -> Result<RoomRequest, ClientError> {
        self.request(|request_id| Wanted::Room(CreateRoom { request_id, ..wanted }))
    }

    /// A request for free seats in a room, or a new one. The `request_id` of `wanted` is chosen here.
    pub fn quick_play(&self, wanted: QuickPlay) -> Result<RoomRequest, ClientError> {
        self.request(|request_id| Wanted::Seats(Box::new(QuickPlay { request_id, ..wanted })))
    }

    fn request(&self, wanted: impl FnOnce(String) -> Wanted) -> Result<RoomRequest, ClientError> {
        let backend = Arc::clone(&self.backend)
            .room_creation()
            .ok_or_else(|| ClientError::new(Fault::NotConfigured, "this backend creates no rooms"))?;
        let request_id = rng::id().to_string();
        Ok(RoomRequest(Arc::new(Inner {
            backend,
            session: self.session.clone(),
            rooms: self.clone(),
            request_id: request_id.clone(),
            wanted: wanted(request_id),
            resolved: OnceCell::new(),
            began: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
        })))
    }
}

impl RoomRequest {
    /// Repeats the request until there is a ticket, at most for `timeout`. If this fails or is dropped, [`Self::cancel`] is to
    /// follow.
    pub async fn run(&self, timeout: Duration) -> Result<JoinTicket, ClientError> {
        self.0.began.store(true, Ordering::Relaxed);
        let Ok(outcome) = tokio::time::timeout(timeout, self.until_ready()).await else {
            let seconds = timeout.as_secs();
            return Err(ClientError::new(Fault::Timeout, format!("no room was ready within {seconds} s")));
        };
        // What has failed may be at the backend all the same.
        self.0.has_ended.fetch_or(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }

    /// Whether [`Self::cancel`] has something to do.
    pub fn is_cancellable(&self) -> bool {
        self.0.began.load(Ordering::Relaxed) && !self.0.has_ended.load(Ordering::Relaxed)
    }

    /// Cancels the request: the backend stops the server that it may have started for it.
    pub async fn cancel(&self) -> Result<(), ClientError> {
        if !self.is_cancellable() {
            return Ok(());
        }
        let (backend, request_id) = (&self.0.backend, &self.0.request_id);
        let call = |token: String| async move { backend.cancel_room_request(&token, request_id).await };
        self.0.session.authorized(call).await?;
        self.0.has_ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn until_ready(&self) -> Result<JoinTicket, ClientError> {
        let mut attempt = 0;
        loop {
            let sent = Instant::now();
            let asked = match self.send().await {
                Ok(RoomCreation { ticket: Some(ticket), .. }) => return Ok(ticket),
                Ok(_) => {
                    if sent.elapsed() >= LONG_POLL_TIME {
                        attempt = 0;
                    }
                    None
                }
                // The request is known by its id: nothing is lost while the backend restarts.
                Err(error) if error.retryable => error.retry_after,
                Err(error) => return Err(error),
            };
            sleep(retry::pause_at_most(asked, attempt, MAX_PAUSE)).await;
            attempt += 1;
        }
    }

    async fn send(&self) -> Result<RoomCreation, ClientError> {
        let Inner { backend, session, rooms, wanted, resolved, .. } = &*self.0;
        match wanted {
            Wanted::Room(wanted) => {
                session.authorized(|token| async move { backend.create_room(&token, wanted).await }).await
            }
            Wanted::Seats(wanted) => {
                let resolve = || async {
                    Ok::<_, ClientError>(QuickPlay {
                        query: rooms.resolved(&wanted.query).await?,
                        ..(**wanted).clone()
                    })
                };
                let wanted = resolved.get_or_try_init(resolve).await?;
                session.authorized(|token| async move { backend.quick_play(&token, wanted).await }).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
