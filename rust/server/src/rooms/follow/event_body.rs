//! The body of a reply that is a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Sleep, sleep_until};

use super::admission::Place;
use super::event_stream::EventStream;

/// The events of one follower. Written here rather than with axum's `Sse`, which copies each event for each follower.
pub struct EventBody {
    first: Option<Box<dyn Iterator<Item = Bytes> + Send>>,
    later: Receiver<Bytes>,
    ends_at: Pin<Box<Sleep>>,
    /// Given back with the body.
    _place: Place,
}

impl EventBody {
    pub fn new(stream: EventStream, place: Place, ends_at: Instant) -> Self {
        let EventStream { first, later } = stream;
        Self { first: Some(first), later, ends_at: Box::pin(sleep_until(ends_at)), _place: place }
    }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(event) = self.first.as_mut().and_then(Iterator::next) {
            return Poll::Ready(Some(Ok(Frame::data(event))));
        }
        // The rooms of a long list.
        self.first = None;
        if self.ends_at.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.later.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
