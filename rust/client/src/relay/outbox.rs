//! What is sent: a stream for each channel, datagrams for what need not arrive.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backend_protocol::relay::{CloseReason, Control, Data, Delivery, MAX_CHANNELS, MAX_MESSAGE};
use quinn::{Connection, SendStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::bytes::Bytes;

use super::TransferMode;

/// Bytes that wait to be sent. Beyond that the connection is closed: what has to arrive could not.
const MAX_QUEUED: usize = 8 * 1024 * 1024;
/// Frames that are handed to a stream at a time.
const MAX_BATCH: usize = 64;

/// Why a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The message is too long.
    #[error("a message has at most {MAX_MESSAGE} bytes")]
    TooLong,
    /// There is no such channel.
    #[error("channels are 0 to {}", MAX_CHANNELS - 1)]
    Channel,
    /// The connection is over.
    #[error("not connected")]
    Closed,
}

/// Sends to the relay. Any thread.
pub struct Outbox {
    connection: Connection,
    runtime: Handle,
    queues: Mutex<Option<Queues>>,
    queued: Arc<AtomicUsize>,
}

struct Queues {
    by_channel: HashMap<u8, UnboundedSender<Bytes>>,
    next_sequence: HashMap<u8, u16>,
}

impl Outbox {
    /// `stream` is that of channel 0, on which the ticket was sent.
    pub fn new(connection: Connection, stream: SendStream) -> Self {
        let (runtime, queued) = (Handle::current(), Arc::new(AtomicUsize::new(0)));
        let (queue, frames) = unbounded_channel();
        runtime.spawn(write(stream, frames, Arc::clone(&queued)));
        let queues = Queues { by_channel: HashMap::from([(0, queue)]), next_sequence: HashMap::new() };
        Self { connection, runtime, queues: Mutex::new(Some(queues)), queued }
    }

    /// Sends a message to `target`: 0 for all others, negative for all others but one.
    pub fn send(
        &self,
        mode: TransferMode,
        channel: u8,
        target: i32,
        payload: &[u8],
    ) -> Result<(), SendError> {
        if payload.len() > MAX_MESSAGE {
            return Err(SendError::TooLong);
        }
        if channel >= MAX_CHANNELS {
            return Err(SendError::Channel);
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queues = queues.as_mut().ok_or(SendError::Closed)?;
        let delivery = match mode {
            TransferMode::Reliable => Delivery::Reliable,
            TransferMode::Unreliable => Delivery::Unreliable,
            TransferMode::UnreliableOrdered => {
                let next = queues.next_sequence.entry(channel).or_default();
                *next = next.wrapping_add(1);
                Delivery::Ordered(*next)
            }
        };
        let data = Data { delivery, channel, peer: target, payload };
        let most = self.connection.max_datagram_size();
        if mode != TransferMode::Reliable && most.is_some_and(|most| data.encoded_len() <= most) {
            let mut frame = Vec::new();
            data.write(&mut frame);
            // Older ones that still wait are dropped for it.
            return self.connection.send_datagram(frame.into()).map_err(|_| SendError::Closed);
        }
        self.queue(queues, channel, data.with_length().into())
    }

    /// Sends something to the relay itself.
    pub fn send_control(&self, control: &Control<'_>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = queues.as_mut() {
            // Nobody to tell: the connection is over.
            let _sent = self.queue(queues, 0, control.with_length().into());
        }
    }

    /// Sends what waits, and nothing more. False: that was done before.
    pub fn finish(&self) -> bool {
        self.send_control(&Control::Leave);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    fn queue(&self, queues: &mut Queues, channel: u8, frame: Bytes) -> Result<(), SendError> {
        if self.queued.fetch_add(frame.len(), Ordering::Relaxed) + frame.len() > MAX_QUEUED {
            let reason = CloseReason::TooSlow;
            self.connection.close(u32::from(reason.number()).into(), reason.as_str().as_bytes());
            return Err(SendError::Closed);
        }
        let queue = queues.by_channel.entry(channel).or_insert_with(|| {
            let (queue, frames) = unbounded_channel();
            let (connection, queued) = (self.connection.clone(), Arc::clone(&self.queued));
            self.runtime.spawn(async move {
                if let Ok(stream) = connection.open_uni().await {
                    write(stream, frames, queued).await;
                }
            });
            queue
        });
        queue.send(frame).map_err(|_| SendError::Closed)
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
    // Fails when the relay has closed it.
    let _finished = stream.finish();
}
