//! Timeouts of a connection: for the head of a request, between requests, and for the client to accept a reply.
//!
//! hyper has a timeout for the head of a request, but none before the first byte has shown whether it is HTTP/1 or HTTP/2, none
//! for idle connections that differs from it, and none for replies that the client does not read.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection without a request is kept this long, as a multiple of the timeout with a slow one: longer than the
/// heartbeats of servers are apart.
const IDLE_FACTOR: u32 = 9;

/// What a connection is doing: written by its requests, read by its stream.
pub struct Activity {
    begun: AtomicU64,
    serving: AtomicU64,
    http2: AtomicBool,
    /// Replies that are being taken; their requests are served until they are gone.
    replies: AtomicU64,
    /// When a part of a reply was last polled, in milliseconds of [`clock`].
    taken_at: AtomicU64,
    /// When the last request ended, or the connection began.
    idle_since: AtomicU64,
}

/// What [`clock`] counts from.
fn clock_start() -> Instant {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    *BEGIN.get_or_init(Instant::now)
}

/// Milliseconds since the first call.
fn clock() -> u64 {
    u64::try_from(clock_start().elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// One request, until its reply was taken.
pub struct RequestGuard(Arc<Activity>);

impl Default for Activity {
    fn default() -> Self {
        let now = clock();
        Self {
            begun: AtomicU64::default(),
            serving: AtomicU64::default(),
            http2: AtomicBool::default(),
            replies: AtomicU64::default(),
            taken_at: AtomicU64::new(now),
            idle_since: AtomicU64::new(now),
        }
    }
}

impl Activity {
    pub fn begin(self: &Arc<Self>, version: Version) -> RequestGuard {
        self.begun.fetch_add(1, Ordering::AcqRel);
        self.serving.fetch_add(1, Ordering::AcqRel);
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Release);
        }
        RequestGuard(Arc::clone(self))
    }

    /// Whether a request is in progress.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire) > 0
    }

    /// Orders connections without a request by how well they can be closed: one that never sent a request first, then the one
    /// that has been idle longest.
    pub fn idleness(&self) -> (bool, u64) {
        (self.begun.load(Ordering::Acquire) > 0, self.idle_since.load(Ordering::Acquire))
    }

    fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Acquire)
    }

    /// Since when there has been no request.
    fn idle_since(&self) -> Instant {
        clock_start() + Duration::from_millis(self.idle_since.load(Ordering::Acquire))
    }

    /// Whether all that is left in progress is replies that nobody has taken anything of for so long. In HTTP/2 a stream
    /// without a window keeps its connection from writing nothing else, and pings go on.
    fn is_stuck(&self, most: Duration) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        serving > 0
            && self.is_http2()
            && serving == self.replies.load(Ordering::Acquire)
            && u128::from(clock().saturating_sub(self.taken_at.load(Ordering::Acquire))) > most.as_millis()
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.idle_since.store(clock(), Ordering::Release);
        self.0.serving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that fails when the client exceeds a timeout.
pub struct TimeoutStream<S> {
    inner: S,
    activity: Arc<Activity>,
    timeout: Duration,
    /// Requests begun when the times below were last reset.
    seen: u64,
    /// Since when the head of a request has been coming; a new connection owes one.
    head: Option<Instant>,
    reading: Pin<Box<Sleep>>,
    /// Since when the client has accepted nothing.
    stuck: Option<Instant>,
    writing: Pin<Box<Sleep>>,
}

impl<S> TimeoutStream<S> {
    pub fn new(inner: S, timeout: Duration, activity: Arc<Activity>) -> Self {
        let now = Instant::now();
        let sleep = || Box::pin(sleep_until(now + timeout));
        let (reading, writing) = (sleep(), sleep());
        Self { inner, activity, timeout, seen: 0, head: Some(now), reading, stuck: None, writing }
    }

    fn check_read_timeout(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.activity.is_stuck(self.timeout * IDLE_FACTOR) {
            return Poll::Ready(too_slow());
        }
        if self.activity.is_serving() {
            // Bytes may be missing for other reasons than a slow head. There is no event when that ends, so it is checked again.
            while self.reading.as_mut().poll(context).is_ready() {
                let later = Instant::now() + self.timeout;
                self.reading.as_mut().reset(later);
            }
            return Poll::Pending;
        }
        let deadline = match self.head {
            Some(since) if !self.activity.is_http2() => since + self.timeout,
            // Requests count, not bytes: in HTTP/2 pings come at any time.
            _ => self.activity.idle_since() + self.timeout * IDLE_FACTOR,
        };
        due(&mut self.reading, deadline, context)
    }

    fn check_write_timeout<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let deadline = *self.stuck.get_or_insert_with(Instant::now) + self.timeout;
        due(&mut self.writing, deadline, context).map(Err)
    }
}

fn due(timer: &mut Pin<Box<Sleep>>, deadline: Instant, context: &mut Context<'_>) -> Poll<io::Error> {
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.as_mut().poll(context).map(|()| too_slow())
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let begun = this.activity.begun.load(Ordering::Acquire);
        if begun != this.seen {
            (this.seen, this.head) = (begun, None);
        }
        let before = into.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, into) {
            Poll::Pending => this.check_read_timeout(context).map(Err),
            ready @ Poll::Ready(_) => {
                if into.filled().len() > before && !this.activity.is_serving() && !this.activity.is_http2() {
                    this.head.get_or_insert_with(Instant::now);
                }
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.check_write_timeout(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, parts);
        this.check_write_timeout(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.check_write_timeout(flushed, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(context);
        this.check_write_timeout(shut, context)
    }
}

/// A reply's body; its request is served until this is gone.
pub struct TrackedBody {
    body: Body,
    serving: RequestGuard,
}

impl TrackedBody {
    pub fn new(body: Body, serving: RequestGuard) -> Self {
        serving.0.taken_at.store(clock(), Ordering::Release);
        serving.0.replies.fetch_add(1, Ordering::AcqRel);
        Self { body, serving }
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.serving.0.replies.fetch_sub(1, Ordering::AcqRel);
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.serving.0.taken_at.store(clock(), Ordering::Release);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
