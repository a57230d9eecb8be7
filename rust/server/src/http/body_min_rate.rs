//! A minimum rate for request bodies: a slow sender would otherwise hold memory and a request for ever. tower-http's timeout of
//! bodies restarts with every byte, which a sender can exploit.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The rate after the first seconds: 8 KiB/s is a bad telephone line.
const BYTES_PER_SECOND: u64 = 8 * 1024;

/// The body came more slowly than it may.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub struct TooSlow;

/// Whether `error`, from reading a body, is [`TooSlow`].
pub fn is_too_slow(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<TooSlow>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Puts the limit around the request's body, if it has one.
pub fn limited(request: Request, grace: Duration) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    request.map(|body| Body::new(MinRateBody::new(body, grace)))
}

struct MinRateBody {
    body: Body,
    grace: Duration,
    /// Counted from the first read: until then the sender waits for the backend.
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl MinRateBody {
    fn new(body: Body, grace: Duration) -> Self {
        Self { body, grace, deadline: None, timer: None }
    }
}

impl HttpBody for MinRateBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let deadline = this.deadline.get_or_insert_with(|| Instant::now() + this.grace);
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                *deadline += Duration::from_micros(bytes * 1_000_000 / BYTES_PER_SECOND);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|result| result.map_err(BoxError::from))),
            Poll::Pending => {
                let deadline = *deadline;
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                timer.as_mut().poll(context).map(|()| Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
