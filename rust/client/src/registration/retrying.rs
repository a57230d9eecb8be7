//! Registering in the background after an attempt that failed, until it works or is stopped.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::heartbeats::run_heartbeats;
use super::{Event, Inner, Registration, lock};
use crate::api::retry;
use crate::error::ClientError;

/// Shortest time between two attempts.
const MIN_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two attempts, unless the backend asks for more.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// The first pause is up to 200 ms · 2⁴.
const FIRST_ATTEMPT: u32 = 4;

impl Registration {
    /// Tells, and tries again in the background unless the server is listed: then its heartbeats go on.
    pub(super) fn failed(&self, error: ClientError) -> ClientError {
        (self.0.on_event)(Event::RegistrationFailed(error.clone()));
        let mut heartbeat_task = lock(&self.0.heartbeat_task);
        let listed =
            self.server_id().is_some() && heartbeat_task.as_ref().is_some_and(|task| !task.is_finished());
        if error.retryable && !listed {
            let trying = tokio::spawn(register_and_beat(Arc::clone(&self.0), error.clone()));
            if let Some(before) = heartbeat_task.replace(trying) {
                before.abort();
            }
        }
        error
    }
}

/// Tries until the server is listed, then beats, until it is aborted. Each kind of failure is told once.
pub(super) async fn register_and_beat(server: Arc<Inner>, first: ClientError) {
    let mut told = HashSet::from([first.code()]);
    let mut asked = first.retry_after;
    for attempt in FIRST_ATTEMPT.. {
        let pause = asked.unwrap_or_else(|| retry::backoff_within(attempt, MAX_RETRY_INTERVAL));
        server.clock.sleep(pause.max(MIN_RETRY_INTERVAL)).await;
        match server.enlist().await {
            Ok(lease) => return run_heartbeats(server, lease).await,
            Err(error) => {
                asked = error.retry_after;
                let goes_on = error.retryable;
                if told.insert(error.code()) || !goes_on {
                    (server.on_event)(Event::RegistrationFailed(error));
                }
                if !goes_on {
                    return;
                }
            }
        }
    }
}
