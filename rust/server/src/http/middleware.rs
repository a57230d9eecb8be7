//! What surrounds every request: its id, whose address it came from, whether it may come in, what is counted of it, and the
//! headers of its reply. A service around the whole router: a layer would be put around each route, where it costs every
//! request several allocations.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use backend_protocol::REQUEST_ID;
use metrics::{Counter, Histogram};
use tower::Service;
use uuid::{Builder, Uuid};

use super::context::{CURRENT, RequestContext};
use super::{body_min_rate, client_ip, rate_limit, security_headers};
use crate::state::AppState;

/// Routes with what is counted of each.
pub type Counted = matchit::Router<Arc<Counts>>;

/// The router in its envelope. Cheap to clone.
#[derive(Clone)]
pub struct Envelope(Arc<Enveloped>);

struct Enveloped {
    state: AppState,
    router: Router,
    counted: Counted,
    /// Paths that lead nowhere.
    unmatched: Arc<Counts>,
}

impl Envelope {
    /// `counted` has the paths of `router`.
    pub fn new(state: AppState, router: Router, counted: Counted) -> Self {
        Self(Arc::new(Enveloped { state, router, counted, unmatched: Counts::of("unmatched") }))
    }
}

impl Service<Request> for Envelope {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let enveloped = Arc::clone(&self.0);
        Box::pin(async move { enveloped.answer(request).await })
    }
}

impl Enveloped {
    async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        let begun = Instant::now();
        let id = id_of(request.headers());
        let context =
            RequestContext { request_id: id.clone(), address: client_ip::of(&request, &self.state) };
        let route = self.counted.at(request.uri().path()).map_or(&self.unmatched, |found| found.value);
        let method = request.method().clone();
        let mut router = self.router.clone();
        let answer = async {
            let response = match rate_limit::count_request(&self.state, &request) {
                Ok(()) => router.call(body_min_rate::watched(&self.state, request)).await?,
                Err(error) => error.into_response(),
            };
            tracing::debug!(
                %method,
                route = route.name,
                status = response.status().as_u16(),
                elapsed_us = begun.elapsed().as_micros(),
                "answered"
            );
            Ok::<_, Infallible>(response)
        };
        let mut response = CURRENT.scope(context, answer).await?;
        route.count(response.status(), begun);
        security_headers::insert(response.headers_mut());
        response.headers_mut().insert(HeaderName::from_static(REQUEST_ID), id);
        Ok(response)
    }
}

/// The caller's id when it is well formed, a new one otherwise.
fn id_of(headers: &HeaderMap) -> HeaderValue {
    if let Some(value) = headers.get(REQUEST_ID)
        && let Ok(id) = value.to_str()
        && backend_protocol::limits::identifier("id", id, 64).is_ok()
    {
        return value.clone();
    }
    let mut text = vec![0; 32];
    new_id().simple().encode_lower(&mut text);
    // Err: not of 32 digits.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("none"))
}

/// A UUID of version 7 from this process's own generator: the system need not be asked each time.
fn new_id() -> Uuid {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// What is counted of a route.
pub struct Counts {
    name: &'static str,
    /// Made with the first request.
    seconds: OnceLock<Histogram>,
    by_status: RwLock<Vec<(StatusCode, Counter)>>,
}

impl Counts {
    /// Of the route, not the path: ids in it would make a series for each.
    pub fn of(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, seconds: OnceLock::new(), by_status: RwLock::default() })
    }

    fn count(&self, status: StatusCode, begun: Instant) {
        let made = || metrics::histogram!("backend_request_seconds", "route" => self.name);
        self.seconds.get_or_init(made).record(begun.elapsed().as_secs_f64());
        let known = self.by_status.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(known, _)| *known == status) {
            counter.increment(1);
            return;
        }
        drop(known);
        let counter = metrics::counter!(
            "backend_requests_total", "route" => self.name, "status" => status.as_u16().to_string()
        );
        counter.increment(1);
        self.by_status.write().unwrap_or_else(PoisonError::into_inner).push((status, counter));
    }
}
