//! Rooms on demand and quick play: a request that is repeated until there is a ticket, or given up.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::rooms::{CreateRoom, JoinTicket, QuickPlay, RoomCreation};

use super::Rooms;
use crate::api::room_creation::RoomCreationBackend;
use crate::error::{ClientError, Fault};
use crate::platform::rng;
use crate::session::Session;

/// Pause before a request is repeated whose reply came without a wait.
const PAUSE: Duration = Duration::from_millis(100);

impl Rooms {
    /// Creates a room on a server of its own and returns a ticket for it. Dropping the future gives the room up. The `request_id`
    /// of `request` is chosen here.
    pub async fn create(&self, request: &CreateRoom, timeout: Duration) -> Result<JoinTicket, ClientError> {
        let (backend, waiting) = self.begin()?;
        let request = CreateRoom { request_id: waiting.request_id.clone(), ..request.clone() };
        let poll = || async {
            let (backend, request) = (&backend, &request);
            self.session.authorized(|token| async move { backend.create_room(&token, request).await }).await
        };
        until_ready(waiting, timeout, poll).await
    }

    /// Finds a room with free seats, or creates one, and returns a ticket for it. Dropping the future gives the request up. The
    /// `request_id` of `request` is chosen here.
    pub async fn quick_play(
        &self,
        request: &QuickPlay,
        timeout: Duration,
    ) -> Result<JoinTicket, ClientError> {
        let (backend, waiting) = self.begin()?;
        let request = QuickPlay { request_id: waiting.request_id.clone(), ..request.clone() };
        let poll = || async {
            let (backend, request) = (&backend, &request);
            self.session.authorized(|token| async move { backend.quick_play(&token, request).await }).await
        };
        until_ready(waiting, timeout, poll).await
    }

    fn begin(&self) -> Result<(Arc<dyn RoomCreationBackend>, Waiting), ClientError> {
        let backend = Arc::clone(&self.backend)
            .room_creation()
            .ok_or_else(|| ClientError::new(Fault::NotConfigured, "this backend creates no rooms"))?;
        let waiting = Waiting {
            backend: Arc::clone(&backend),
            session: self.session.clone(),
            request_id: rng::id().to_string(),
            is_over: false,
        };
        Ok((backend, waiting))
    }
}

async fn until_ready<F: Future<Output = Result<RoomCreation, ClientError>>>(
    mut waiting: Waiting,
    timeout: Duration,
    poll: impl Fn() -> F,
) -> Result<JoinTicket, ClientError> {
    let repeated = async {
        loop {
            match poll().await {
                Ok(RoomCreation { ticket: Some(ticket), .. }) => return Ok(ticket),
                Ok(_) => tokio::time::sleep(PAUSE).await,
                // The request is known by its id: nothing is lost while the backend restarts.
                Err(error) if error.retryable => {
                    tokio::time::sleep(error.retry_after.unwrap_or(PAUSE).max(PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    let Ok(outcome) = tokio::time::timeout(timeout, repeated).await else {
        let seconds = timeout.as_secs();
        return Err(ClientError::new(Fault::Timeout, format!("no room was ready within {seconds} s")));
    };
    // What has failed is over at the backend as well; anything else may not be.
    waiting.is_over = outcome.is_ok();
    outcome
}

/// A request that is given up when this is dropped before it is over.
struct Waiting {
    backend: Arc<dyn RoomCreationBackend>,
    session: Session,
    request_id: String,
    is_over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Without a runtime the process ends; the backend gives the request up by itself when it is not repeated.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (backend, session, request_id) =
            (Arc::clone(&self.backend), self.session.clone(), std::mem::take(&mut self.request_id));
        runtime.spawn(async move {
            let (backend, request_id) = (&backend, &request_id);
            let given_up = session
                .authorized(|token| async move { backend.cancel_room_request(&token, request_id).await });
            if let Err(error) = given_up.await {
                tracing::debug!(code = error.code(), "a request for a room ends by itself: {error}");
            }
        });
    }
}
