//! The connections requests come through: how many there may be, how large a request's head, how slow the other end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::{Builder, Connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

pub use super::connection_limit::allow_many_files;
use super::connection_limit::{Place, Places};
use super::timeouts::{Attended, Patient, Phase};
use crate::router::App;
use crate::state::AppState;

/// Largest head of a request, in bytes: an access token has at most 8 KiB.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_STREAMS: u32 = 128;
/// Wait after the system refused a connection, as it does when there are no file descriptors left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long a connection may take to end that makes room for another.
const CLOSING_WITHIN: Duration = Duration::from_secs(1);

/// Accepts connections until `stop` completes, then finishes the requests in progress.
pub async fn serve(listener: TcpListener, app: App, state: AppState, stop: impl Future<Output = ()>) {
    let places = Places::new(&state);
    let mut stop = std::pin::pin!(stop);
    // Each connection has a receiver: when there is none left, all have ended.
    let (stopping, _) = watch::channel(false);
    let builder = Arc::new(builder());
    let patience = Duration::from_secs(state.config.slow_client_seconds.into());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = async { places.settled().await; listener.accept().await } => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    places.make_room();
                    tokio::time::sleep(AFTER_REFUSAL).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let Some(place) = places.take(peer.ip().to_canonical()) else {
            metrics::counter!("backend_connections_refused_total").increment(1);
            continue;
        };
        let (builder, app, stopping) = (Arc::clone(&builder), app.clone(), stopping.subscribe());
        tokio::spawn(async move {
            // Small replies must not wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection without TCP_NODELAY");
            }
            let phase = Arc::clone(place.phase());
            let io = TokioIo::new(Patient::<TcpStream>::new(stream, patience, Arc::clone(&phase)));
            let service =
                hyper::service::service_fn(move |request| answer(app.clone(), request, peer, &phase));
            let connection = builder.serve_connection(io, service).into_owned();
            attend(connection, &place, stopping).await;
        });
    }
    drop(listener);
    stopping.send_replace(true);
    stopping.closed().await;
}

/// Serves a connection until it ends by itself, or is asked to and has nothing in progress.
async fn attend<S>(
    connection: Connection<'static, TokioIo<Patient<TcpStream>>, S, TokioExecutor>,
    place: &Place,
    mut stopping: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<Attended>, Error = Infallible> + 'static,
    S::Future: Send + 'static,
{
    let mut connection = std::pin::pin!(connection);
    let mut ending = false;
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
            () = place.asked_to_close(), if closing.is_none() => {
                closing = Some(Instant::now() + CLOSING_WITHIN);
                connection.as_mut().graceful_shutdown();
            }
            () = overdue => {
                if !place.phase().is_serving() {
                    return;
                }
                closing = Some(Instant::now() + CLOSING_WITHIN);
            }
            // Err: nobody is there any more who could say so, which says it.
            _ = stopping.wait_for(|stop| *stop), if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn answer(
    app: App,
    request: Request<Incoming>,
    peer: SocketAddr,
    phase: &Arc<Phase>,
) -> impl Future<Output = Result<Response<Attended>, Infallible>> + use<> {
    let serving = phase.begin(request.version());
    // HTTP/2 counts bytes alone.
    let has_too_many = request.version() != Version::HTTP_2 && request.headers().len() > MAX_HEADERS;
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    async move {
        let response = if has_too_many { too_many_headers() } else { app.oneshot(request).await? };
        Ok(response.map(|body| Attended::new(body, serving)))
    }
}

/// As hyper refuses more than it has room for, which is 100. Told of a smaller limit, it would ask for memory and fill it for
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
        // `Patient` keeps the time, because it also covers what comes before HTTP.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    builder
}
