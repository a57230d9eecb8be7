//! The body of a reply that is a stream of events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::admission::Place;
use super::event_stream::EventStream;

/// The events of one follower. Written here rather than with axum's `Sse`, which copies each event for each follower.
pub struct EventBody {
    unsent: Arc<Mutex<Option<Unsent>>>,
    /// Completes when the stream ends.
    ended: oneshot::Receiver<()>,
    /// Ends the stream, also of a follower that takes nothing.
    end: AbortHandle,
}

/// What is given back when the stream ends.
struct Unsent {
    /// The rooms of a long list are in it.
    first: Option<Box<dyn Iterator<Item = Bytes> + Send>>,
    later: Receiver<Bytes>,
    _place: Place,
}

impl EventBody {
    /// Ends at `ends_at`, or earlier when `is_lost` completes: the follower may not read the list any more.
    pub fn new(
        stream: EventStream,
        place: Place,
        ends_at: Instant,
        is_lost: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let EventStream { first, later } = stream;
        let unsent = Arc::new(Mutex::new(Some(Unsent { first: Some(first), later, _place: place })));
        let held = Arc::downgrade(&unsent);
        // Of a follower that takes nothing, the body is neither polled nor dropped: in HTTP/2, other streams keep its connection.
        let (ending, ended) = oneshot::channel();
        let end = tokio::spawn(async move {
            tokio::select! {
                () = sleep_until(ends_at) => {}
                () = is_lost => {}
            }
            if let Some(held) = held.upgrade() {
                lock(&held).take();
            }
            // Wakes who waits for the next event.
            drop(ending);
        });
        Self { unsent, ended, end: end.abort_handle() }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.end.abort();
    }
}

impl HttpBody for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self { unsent, ended, .. } = &mut *self;
        let mut unsent = lock(unsent);
        // Not after it has completed: then nothing is left to send.
        if unsent.is_some() && Pin::new(ended).poll(context).is_ready() {
            unsent.take();
        }
        let Some(Unsent { first: begin, later, .. }) = unsent.as_mut() else { return Poll::Ready(None) };
        if let Some(first) = begin {
            // Cut off: what comes after the list is lost already, and the follower begins anew.
            if later.is_closed() {
                unsent.take();
                return Poll::Ready(None);
            }
            if let Some(event) = first.next() {
                return Poll::Ready(Some(Ok(Frame::data(event))));
            }
            *begin = None;
        }
        later.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

fn lock(unsent: &Mutex<Option<Unsent>>) -> MutexGuard<'_, Option<Unsent>> {
    unsent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::config::Config;
    use crate::rooms::follow::Followers;

    const LATER: Duration = Duration::from_secs(3600);

    /// A stream that begins with a list without an end.
    fn body(followers: &Followers, lasts: Duration) -> (EventBody, Sender<Bytes>) {
        let (sender, later) = channel(1);
        let first = Box::new(std::iter::repeat(Bytes::from_static(b"room")));
        let place = followers.admit(&Config::default()).expect("a place");
        let is_lost = std::future::pending();
        (EventBody::new(EventStream { first, later }, place, Instant::now() + lasts, is_lost), sender)
    }

    fn next(body: &mut EventBody) -> Poll<bool> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        Pin::new(body).poll_frame(&mut context).map(|frame| frame.is_some_and(|frame| frame.is_ok()))
    }

    #[tokio::test]
    async fn a_stream_ends_in_time_however_slowly_its_list_is_taken() {
        let followers = Followers::default();
        let (mut body, _sender) = body(&followers, Duration::ZERO);
        while next(&mut body) == Poll::Ready(true) {
            tokio::task::yield_now().await;
        }
        assert_eq!(next(&mut body), Poll::Ready(false));
        assert!(!followers.is_followed(), "the place is given back");
    }

    #[tokio::test]
    async fn a_follower_that_was_cut_off_gets_no_more_of_the_list() {
        let followers = Followers::default();
        let (mut body, sender) = body(&followers, LATER);
        assert_eq!(next(&mut body), Poll::Ready(true));
        drop(sender);
        assert_eq!(next(&mut body), Poll::Ready(false));
        assert!(!followers.is_followed(), "the place is given back");
    }

    #[tokio::test]
    async fn who_takes_nothing_gives_the_place_back() {
        let followers = Followers::default();
        let (unpolled, _sender) = body(&followers, Duration::ZERO);
        let (polled, _other_sender) = body(&followers, LATER);
        drop(polled);
        while followers.is_followed() {
            tokio::task::yield_now().await;
        }
        drop(unpolled);
    }
}
