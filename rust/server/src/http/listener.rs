//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, Connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::timeouts::{Activity, TimeoutStream, TrackedBody};

/// Largest head of a request, in bytes: an access token has at most 8 KiB.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_STREAMS: u32 = 128;
/// Wait after the system refused a connection, as it does when there are no file descriptors left.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long a connection may take to end that makes room for another.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts connections until `stop` is cancelled, then finishes the requests in progress.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limit: ConnectionLimit,
    timeout: Duration,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let builder = Arc::new(builder());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = async { limit.closing_settled().await; listener.accept().await } => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    limit.evict_idle();
                    tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let Some(mut permit) = limit.acquire(peer.ip().to_canonical()) else {
            metrics::counter!("backend_connections_refused_total").increment(1);
            continue;
        };
        let (builder, app, stop) = (Arc::clone(&builder), app.clone(), stop.clone());
        connections.spawn(async move {
            // Small replies must not wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection without TCP_NODELAY");
            }
            let activity = Arc::clone(permit.activity());
            let io = TokioIo::new(TimeoutStream::<TcpStream>::new(stream, timeout, Arc::clone(&activity)));
            let service =
                hyper::service::service_fn(move |request| respond(app.clone(), request, peer, &activity));
            let connection = builder.serve_connection(io, service).into_owned();
            drive(connection, &mut permit, &stop).await;
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves a connection until it ends by itself, or is to be closed and has no request in progress.
async fn drive<S>(
    connection: Connection<'static, TokioIo<TimeoutStream<TcpStream>>, S, TokioExecutor>,
    permit: &mut ConnectionPermit,
    stop: &CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<TrackedBody>, Error = Infallible> + 'static,
    S::Future: Send + 'static,
{
    let mut connection = std::pin::pin!(connection);
    let mut ending = false;
    let activity = Arc::clone(permit.activity());
    let mut closing = None;
    loop {
        let overdue = async {
            match closing {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended early");
                }
                return;
            }
            () = permit.close_requested(), if closing.is_none() => {
                closing = Some(Instant::now() + CLOSE_TIMEOUT);
                connection.as_mut().graceful_shutdown();
            }
            () = overdue => {
                if !activity.is_serving() {
                    return;
                }
                closing = Some(Instant::now() + CLOSE_TIMEOUT);
            }
            () = stop.cancelled(), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn respond(
    app: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<Response<TrackedBody>, Infallible>> + use<> {
    let serving = activity.begin(request.version());
    // HTTP/2 counts bytes alone.
    let has_too_many = request.version() != Version::HTTP_2 && request.headers().len() > MAX_HEADERS;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    async move {
        let response = if has_too_many { too_many_headers() } else { app.oneshot(request).await? };
        Ok(response.map(|body| TrackedBody::new(body, serving)))
    }
}

/// The reply that hyper sends to more than 100 headers. Configured with a smaller limit, hyper would allocate and fill memory for
/// each request.
fn too_many_headers() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `TimeoutStream` keeps the time, because it also covers what comes before HTTP.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    builder
}
