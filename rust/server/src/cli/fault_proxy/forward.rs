//! What happens to one request.

use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, RETRY_AFTER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use axum::http::{HeaderValue, Request, Response, StatusCode, Uri};
use backend_protocol::{Code, Problem, problem};
use hyper::body::Incoming;
use rand::RngExt as _;
use reqwest::Url;
use tokio::sync::watch;

use super::faults::Faults;
use super::token_expiry::TokenExpiry;
use crate::cli::output;

/// Seconds that `429` asks to wait.
const RETRY_AFTER_SECONDS: u32 = 1;
/// Of one connection: a proxy has its own.
const OF_A_CONNECTION: [HeaderName; 5] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// No reply: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub struct Cut;

pub struct Forwarder {
    backend: Url,
    client: reqwest::Client,
    faults: watch::Receiver<Faults>,
    tokens: TokenExpiry,
}

impl Forwarder {
    pub fn new(backend: Url, faults: watch::Receiver<Faults>) -> anyhow::Result<Self> {
        // What comes is passed on as it is. A connection for each request: one that the backend has closed meanwhile would be a
        // fault that nobody has switched on.
        let client = reqwest::Client::builder()
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { backend, client, faults, tokens: TokenExpiry::default() })
    }

    /// The backend's reply, or what the faults make of it.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
        let latency = self.faults.borrow().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let faults = self.faults.borrow().clone();
        let name = format!("{} {}", request.method(), request.uri().path());
        let is_expired =
            bearer_token(request.headers()).is_some_and(|token| self.tokens.is_expired(token, &faults));
        let is_hit = faults.share >= 100 || rand::rng().random_range(0..100) < faults.share;
        if is_expired {
            return Ok(refuse(Code::TokenExpired, &name));
        }
        if let Some(code) = faults.error
            && is_hit
        {
            return Ok(refuse(code, &name));
        }
        let reply = self.forward(request).await;
        if faults.lost_replies && is_hit {
            report("reply lost", &name);
            return Err(Cut);
        }
        reply.map_err(|error| {
            // Without the URL, whose query may have secrets.
            tracing::warn!(
                error = format!("{:#}", anyhow::Error::from(error.without_url())),
                "{name} was not forwarded"
            );
            Cut
        })
    }

    async fn forward(&self, request: Request<Incoming>) -> reqwest::Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        remove_connection_headers(&mut head.headers);
        head.headers.remove(HOST);
        let request = self.client.request(head.method, self.url(&head.uri)).headers(head.headers);
        let reply = request.body(reqwest::Body::wrap(body)).send().await?;
        let (mut head, body) = Response::<reqwest::Body>::from(reply).into_parts();
        remove_connection_headers(&mut head.headers);
        Ok(Response::from_parts(head, Body::new(body)))
    }

    fn url(&self, uri: &Uri) -> Url {
        let mut url = self.backend.clone();
        url.set_path(uri.path());
        url.set_query(uri.query());
        url
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn remove_connection_headers(headers: &mut HeaderMap) {
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
}

/// A reply as the backend's own.
fn refuse(code: Code, name: &str) -> Response<Body> {
    report(code.as_str(), name);
    let mut problem = Problem::new(code, "a fault that the fault proxy was told to inject");
    if code == Code::RateLimited {
        problem.retry_after = Some(RETRY_AFTER_SECONDS);
    }
    let mut response = Response::new(Body::from(serde_json::to_vec(&problem).unwrap_or_default()));
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn report(fault: &str, name: &str) {
    let _closed = output::line(format_args!("{fault}: {name}"));
}
