//! A player in a room: what waits for them, and how it is sent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use backend_protocol::relay::{CloseReason, Control, HOST_PEER};
use backend_protocol::validation::Claims;
use quinn::{Connection, SendStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, Rate};
use super::endpoint::code;

/// Bytes that wait for a player who reads too slowly. Beyond that they are disconnected.
const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// Frames that are handed to a stream at a time.
const MAX_BATCH: usize = 64;

const MESSAGES: Rate = Rate { per_second: 2_000.0, burst: 8_000.0 };
const BYTES: Rate = Rate { per_second: 1024.0 * 1024.0, burst: 4.0 * 1024.0 * 1024.0 };

/// A player in a room.
pub struct Member {
    pub peer: u32,
    pub player_id: String,
    pub display_name: String,
    /// When the ticket was issued, in seconds since 1970.
    pub issued_at: u64,
    /// What the player may send.
    pub budget: Budget,
    connection: Connection,
    /// The queue of each channel; none any more once it is over.
    queues: Mutex<Option<HashMap<u8, UnboundedSender<Bytes>>>>,
    queued: Arc<AtomicUsize>,
    reason: OnceLock<CloseReason>,
    ended: CancellationToken,
}

impl Member {
    /// A player whose channel 0 and frames about the room go over `stream`.
    pub fn new(peer: u32, claims: &Claims, connection: Connection, stream: SendStream) -> Self {
        let queued = Arc::new(AtomicUsize::new(0));
        let (queue, frames) = unbounded_channel();
        tokio::spawn(write(stream, frames, Arc::clone(&queued)));
        Self {
            peer,
            player_id: claims.sub.clone(),
            display_name: claims.name.clone(),
            issued_at: claims.iat,
            budget: Budget::new(MESSAGES, BYTES, Instant::now()),
            connection,
            queues: Mutex::new(Some(HashMap::from([(0, queue)]))),
            queued,
            reason: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    pub const fn is_host(&self) -> bool {
        self.peer == HOST_PEER
    }

    /// Sends something about the room.
    pub fn send_control(&self, control: &Control<'_>) {
        self.send_stream(0, control.with_length().into());
    }

    /// Sends a frame with its length by the stream of its channel.
    pub fn send_stream(&self, channel: u8, frame: Bytes) {
        if self.queued.fetch_add(frame.len(), Ordering::Relaxed) + frame.len() > MAX_QUEUED {
            // Nothing that waits for them would help.
            self.close(CloseReason::TooSlow);
            return;
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queues) = queues.as_mut() else { return };
        let queue = queues.entry(channel).or_insert_with(|| {
            let (queue, frames) = unbounded_channel();
            let (connection, queued) = (self.connection.clone(), Arc::clone(&self.queued));
            tokio::spawn(async move {
                if let Ok(stream) = connection.open_uni().await {
                    write(stream, frames, queued).await;
                }
            });
            queue
        });
        // Fails when the connection is gone.
        let _sent = queue.send(frame);
    }

    /// Whether a frame of so many bytes fits into a datagram to this player.
    pub fn takes_datagram(&self, length: usize) -> bool {
        self.connection.max_datagram_size().is_some_and(|most| length <= most)
    }

    /// Sends a frame by a datagram, for which older ones that still wait are dropped.
    pub fn send_datagram(&self, frame: Bytes) {
        let _sent = self.connection.send_datagram(frame);
    }

    /// Sends what waits, then says why it is over.
    pub fn end(&self, reason: CloseReason) {
        self.send_control(&Control::Ended { reason: reason.number() });
        // The streams end when their queues are empty.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.reason.get_or_init(|| reason);
        self.ended.cancel();
    }

    /// Closes the connection at once.
    pub fn close(&self, reason: CloseReason) {
        let reason = *self.reason.get_or_init(|| reason);
        self.connection.close(code(reason), reason.as_str().as_bytes());
        self.ended.cancel();
    }

    /// Waits until [`Self::end`] or [`Self::close`]. Returns why.
    pub async fn ended(&self) -> CloseReason {
        self.ended.cancelled().await;
        self.reason.get().copied().unwrap_or(CloseReason::ConnectionLost)
    }
}

/// Writes frames until there is no queue any more.
async fn write(mut stream: SendStream, mut frames: UnboundedReceiver<Bytes>, queued: Arc<AtomicUsize>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while frames.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let length = batch.iter().map(Bytes::len).sum();
        if stream.write_all_chunks(&mut batch).await.is_err() {
            return;
        }
        batch.clear();
        queued.fetch_sub(length, Ordering::Relaxed);
    }
    // Fails when the player has closed it.
    let _finished = stream.finish();
}
