//! The events that wait for one follower.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::mpsc::Receiver;

/// What a follower is sent: where it begins, then what comes.
pub struct EventStream {
    pub first: Arc<[Bytes]>,
    pub later: Receiver<Bytes>,
}
