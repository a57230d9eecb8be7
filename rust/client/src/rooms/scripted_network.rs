//! A network that answers as a test says, under tokio's paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backend_protocol::{Code, Problem, problem, routes};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Rooms;
use crate::api::http::HttpBackend;
use crate::api::transport::{HttpReply, HttpRequest, ReplyBody, StreamedReply, Transport, TransportError};
use crate::config::Config;
use crate::platform::clock::SystemClock;
use crate::platform::storage::MemoryStorage;
use crate::session::Session;

/// A part of a stream.
#[derive(Clone)]
pub enum Part {
    /// Bytes.
    Text(String),
    /// Nothing for so long.
    Pause(Duration),
    /// The connection breaks.
    Break,
    /// The stream ends.
    End,
}

/// What the network does with a request.
pub enum Answer {
    /// It brings a reply.
    Reply(HttpReply),
    /// It brings the head of a reply, then the parts of its body, then nothing more.
    Stream(Vec<Part>),
    /// It refuses the connection.
    Refused,
    /// It brings nothing.
    Nothing,
    /// It does something after this time.
    After(Duration, Box<Answer>),
}

/// A request that was sent.
#[derive(Clone)]
pub struct Sent {
    /// Time since the beginning.
    pub at: Duration,
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// How many requests to the same path were sent before.
    pub nth: usize,
}

impl Sent {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Script = dyn Fn(&Sent) -> Answer + Send + Sync;

pub struct ScriptedNetwork {
    script: Box<Script>,
    begun: Instant,
    sent: Mutex<Vec<Sent>>,
}

impl ScriptedNetwork {
    /// The rooms of a logged-in player behind such a network. The login is not part of the script.
    pub async fn with_rooms(script: impl Fn(&Sent) -> Answer + Send + Sync + 'static) -> (Rooms, Arc<Self>) {
        let (script, sent) = (Box::new(script), Mutex::default());
        let network = Arc::new(Self { script, begun: Instant::now(), sent });
        let config = Config { base_url: "http://127.0.0.1:1".into(), ..Config::default() };
        let clock = Arc::new(SystemClock);
        let backend = HttpBackend::new(config, network.clone(), clock.clone()).expect("configured");
        let backend = Arc::new(backend);
        let storage = Arc::new(MemoryStorage::default());
        let session = Session::new(backend.clone(), storage, clock, "session", Arc::new(|_| {}));
        session.login_anonymous(None).await.expect("logged in");
        (Rooms::new(backend, session), network)
    }

    /// Requests to `path`, the first one first.
    pub fn sent_to(&self, path: &str) -> Vec<Sent> {
        let sent = self.sent.lock().expect("not poisoned");
        sent.iter().filter(|sent| sent.path == path).cloned().collect()
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn answer(&self, request: HttpRequest) -> Result<Answer, TransportError> {
        let path = request.url.path().to_owned();
        let sent = Sent {
            at: self.elapsed(),
            nth: self.sent_to(&path).len(),
            path,
            method: request.method,
            query: request.url.query().unwrap_or_default().to_owned(),
            headers: request.headers,
            body: request.body.unwrap_or_default(),
        };
        self.sent.lock().expect("not poisoned").push(sent.clone());
        let mut answer = if sent.path == routes::AUTH_ANONYMOUS { login() } else { (self.script)(&sent) };
        while let Answer::After(time, later) = answer {
            sleep(time).await;
            answer = *later;
        }
        match answer {
            Answer::Refused => Err(TransportError::Connect("refused".into())),
            Answer::Nothing => within(request.timeout, std::future::pending()).await,
            answer => Ok(answer),
        }
    }
}

async fn within<T>(
    limit: Option<Duration>,
    future: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.unwrap_or(Err(TransportError::Timeout)),
        None => future.await,
    }
}

#[async_trait]
impl Transport for ScriptedNetwork {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        match self.answer(request).await? {
            Answer::Reply(reply) => Ok(reply),
            _ => Err(TransportError::Broken("a stream where a reply was expected".into())),
        }
    }

    async fn open(&self, request: HttpRequest) -> Result<StreamedReply, TransportError> {
        let (status, headers, parts) = match self.answer(request).await? {
            Answer::Reply(HttpReply { status, headers, body }) => {
                let body = String::from_utf8(body).expect("text");
                (status, headers, vec![Part::Text(body), Part::End])
            }
            Answer::Stream(parts) => (200, of_type("text/event-stream"), parts),
            _ => return Err(TransportError::Broken("reset".into())),
        };
        Ok(StreamedReply { status, headers, body: Box::new(ScriptedBody(parts.into_iter())) })
    }
}

struct ScriptedBody(std::vec::IntoIter<Part>);

#[async_trait]
impl ReplyBody for ScriptedBody {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            // A part that is not waited for to the end is still to come.
            match self.0.as_slice().first().cloned() {
                Some(Part::Text(text)) => {
                    self.0.next();
                    return Ok(Some(text.into_bytes()));
                }
                Some(Part::Pause(time)) => {
                    sleep(time).await;
                    self.0.next();
                }
                Some(Part::Break) => return Err(TransportError::Broken("reset".into())),
                Some(Part::End) => return Ok(None),
                None => std::future::pending().await,
            }
        }
    }
}

fn of_type(media_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))])
}

fn login() -> Answer {
    json(&serde_json::json!({
        "player_id": "ada", "display_name": "Ada", "access_token": "token", "expires_in": 10_000_000,
        "refresh_token": "refresh", "refresh_expires_in": 10_000_000, "created": true,
    }))
}

/// A reply with a body.
pub fn json(body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("serializes");
    Answer::Reply(HttpReply { status: 200, headers: of_type("application/json"), body })
}

/// A reply of the backend that refuses.
pub fn refusal(code: Code) -> Answer {
    let problem = Problem::new(code, "refused");
    let body = serde_json::to_vec(&problem).expect("serializes");
    Answer::Reply(HttpReply { status: problem.status, headers: of_type(problem::MEDIA_TYPE), body })
}

/// A page of a proxy.
pub fn proxy_page(status: u16) -> Answer {
    let body = b"<p>proxy</p>".to_vec();
    Answer::Reply(HttpReply { status, headers: of_type("text/html"), body })
}

/// A page of a proxy that asks for a pause.
pub fn proxy_page_asking(status: u16, retry_after: &'static str) -> Answer {
    let Answer::Reply(mut reply) = proxy_page(status) else { unreachable!() };
    reply.headers.insert(RETRY_AFTER, HeaderValue::from_static(retry_after));
    Answer::Reply(reply)
}
