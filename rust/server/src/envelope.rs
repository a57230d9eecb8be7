//! What surrounds every request: its id, whose address it came from, whether it may come in, what is counted of it, and the
//! headers of its reply. One layer, for each one costs every request an allocation and a call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use backend_protocol::REQUEST_ID;
use metrics::{Counter, Histogram};
use uuid::{Builder, Uuid};

use crate::state::AppState;
use crate::{client_address, rate_limit, slow_body, web};

tokio::task_local! {
    static CURRENT: Asking;
}

/// Who asks.
struct Asking {
    request_id: String,
    address: Option<IpAddr>,
}

/// The id of the request being handled.
pub fn request_id() -> String {
    CURRENT.try_with(|asking| asking.request_id.clone()).unwrap_or_default()
}

/// The address of the client whose request is being handled.
pub fn address() -> Option<IpAddr> {
    CURRENT.try_with(|asking| asking.address).ok().flatten()
}

/// The layer.
pub async fn wrap(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let asking =
        Asking { request_id: id_of(request.headers()), address: client_address::of(&request, &state) };
    let id = HeaderValue::from_str(&asking.request_id).ok();
    let (route, method) = (Counts::of(&request), request.method().clone());
    let mut response = CURRENT
        .scope(asking, async {
            let response = match rate_limit::count_request(&state, &request) {
                Ok(()) => next.run(slow_body::watched(&state, request)).await,
                Err(refusal) => refusal.into_response(),
            };
            let (status, elapsed_us) = (response.status().as_u16(), begun.elapsed().as_micros());
            tracing::debug!(%method, route = route.name, status, elapsed_us, "answered");
            response
        })
        .await;
    route.count(response.status(), begun);
    web::secure(response.headers_mut());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The caller's id when it is well formed, a new one otherwise.
fn id_of(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| backend_protocol::limits::identifier("id", id, 64).is_ok()) {
        Some(id) => id.to_owned(),
        None => new_id().simple().to_string(),
    }
}

/// A UUID of version 7 from this process's own generator: the system need not be asked each time.
fn new_id() -> Uuid {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// What is counted of a route.
struct Counts {
    name: Box<str>,
    seconds: Histogram,
    by_status: RwLock<Vec<(StatusCode, Counter)>>,
}

impl Counts {
    /// Of the route, not the path: ids in it would make a series for each.
    fn of(request: &Request) -> Arc<Self> {
        static ALL: LazyLock<RwLock<HashMap<Box<str>, Arc<Counts>>>> = LazyLock::new(RwLock::default);
        let name = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        if let Some(known) = ALL.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let counts = Arc::new(Self {
            name: name.into(),
            seconds: metrics::histogram!("backend_request_seconds", "route" => name.to_owned()),
            by_status: RwLock::default(),
        });
        Arc::clone(ALL.write().unwrap_or_else(PoisonError::into_inner).entry(name.into()).or_insert(counts))
    }

    fn count(&self, status: StatusCode, begun: Instant) {
        self.seconds.record(begun.elapsed().as_secs_f64());
        let known = self.by_status.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(known, _)| *known == status) {
            counter.increment(1);
            return;
        }
        drop(known);
        let counter = metrics::counter!(
            "backend_requests_total", "route" => self.name.to_string(), "status" => status.as_u16().to_string()
        );
        counter.increment(1);
        self.by_status.write().unwrap_or_else(PoisonError::into_inner).push((status, counter));
    }
}
