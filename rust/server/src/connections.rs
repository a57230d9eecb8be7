//! The connections requests come through: how many there may be, how large a request's head, how slow the other end.

mod patience;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::client_address::{is_trusted, subscriber};
use crate::router::App;
use crate::state::AppState;
use patience::{Attended, Patient, Phase};

/// Largest head of a request, in bytes: an access token has at most 8 KiB.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_STREAMS: u32 = 128;
/// Wait after the system refused a connection, as it does when there are no file descriptors left.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
const PING_EVERY: Duration = Duration::from_secs(20);

/// Accepts connections until `stop` completes, then finishes the requests in progress.
pub async fn serve(listener: TcpListener, app: App, state: AppState, stop: impl Future<Output = ()>) {
    let limits = Places::new(&state);
    let mut stop = std::pin::pin!(stop);
    let graceful = GracefulShutdown::new();
    let builder = Arc::new(builder());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let Some(place) = limits.take(peer.ip().to_canonical()) else {
            metrics::counter!("backend_connections_refused_total").increment(1);
            continue;
        };
        let (builder, app, watcher) = (Arc::clone(&builder), app.clone(), graceful.watcher());
        let patience = Duration::from_secs(state.config.slow_client_seconds.into());
        tokio::spawn(async move {
            let _place = place;
            // Small replies must not wait for the acknowledgement of the one before.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection without TCP_NODELAY");
            }
            let phase = Arc::new(Phase::default());
            let io = TokioIo::new(Patient::<TcpStream>::new(stream, patience, Arc::clone(&phase)));
            let service =
                hyper::service::service_fn(move |request| answer(app.clone(), request, peer, &phase));
            let connection = builder.serve_connection(io, service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn answer(
    app: App,
    request: Request<hyper::body::Incoming>,
    peer: SocketAddr,
    phase: &Arc<Phase>,
) -> impl Future<Output = Result<Response<Attended>, std::convert::Infallible>> + use<> {
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

/// Counts open connections, all of them and by address.
#[derive(Clone)]
struct Places(Arc<Open>);

struct Open {
    state: AppState,
    by_address: Mutex<(u32, HashMap<IpAddr, u32>)>,
}

struct Place {
    open: Arc<Open>,
    counted: Option<IpAddr>,
}

impl Places {
    fn new(state: &AppState) -> Self {
        Self(Arc::new(Open { state: state.clone(), by_address: Mutex::default() }))
    }

    fn take(&self, peer: IpAddr) -> Option<Place> {
        let config = &self.0.state.config;
        // A proxy speaks for many.
        let counted =
            (!peer.is_loopback() && !is_trusted(peer, &config.trusted_proxies)).then(|| subscriber(peer));
        let mut open = self.0.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if open.0 >= config.max_connections {
            return None;
        }
        if let Some(address) = counted {
            let here = open.1.entry(address).or_default();
            if *here >= config.max_connections_per_address {
                return None;
            }
            *here += 1;
        }
        open.0 += 1;
        Some(Place { open: Arc::clone(&self.0), counted })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        open.0 -= 1;
        if let Some(address) = self.counted
            && let Some(here) = open.1.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                open.1.remove(&address);
            }
        }
    }
}
