//! Calls to the sidecar: JSON as the gateway of Agones' SDK server has it, plain HTTP on loopback.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::game_server::{GameServer, WatchMessage};
use crate::api::transport::{HttpRequest, HttpTransport, ReplyBody, Transport, TransportError};

/// A call has a whole answer within this time: the sidecar only queues what it is asked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest message of the watch. A list has at most 1,000 values.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Longest part of an answer that errors quote.
const MAX_QUOTED: usize = 200;

/// Why a call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SidecarError {
    /// No answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// This version does not have it.
    #[error("this version of the sidecar does not have {0}")]
    Unsupported(String),
    /// The answer is a refusal.
    #[error("{path} was refused with {status}: {message}")]
    Refused { path: String, status: u16, message: String },
    /// The answer is none of a sidecar.
    #[error("the answer to {0} is not of Agones' sidecar")]
    Garbage(String),
}

impl From<TransportError> for SidecarError {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// The sidecar of this pod.
pub struct Sidecar {
    port: u16,
    /// Opened when first needed: detection takes no time.
    transport: OnceLock<HttpTransport>,
}

impl Sidecar {
    /// The sidecar that listens on this port of loopback, or will.
    pub fn new(port: u16) -> Self {
        Self { port, transport: OnceLock::new() }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn ready(&self) -> Result<(), SidecarError> {
        self.change(Method::POST, "/ready", &json!({})).await
    }

    /// The body matters here: an empty one is refused.
    pub async fn health(&self) -> Result<(), SidecarError> {
        self.change(Method::POST, "/health", &json!({})).await
    }

    pub async fn allocate(&self) -> Result<(), SidecarError> {
        self.change(Method::POST, "/allocate", &json!({})).await
    }

    pub async fn shutdown(&self) -> Result<(), SidecarError> {
        self.change(Method::POST, "/shutdown", &json!({})).await
    }

    pub async fn set_label(&self, key: &str, value: &str) -> Result<(), SidecarError> {
        self.change(Method::PUT, "/metadata/label", &json!({ "key": key, "value": value })).await
    }

    pub async fn set_annotation(&self, key: &str, value: &str) -> Result<(), SidecarError> {
        self.change(Method::PUT, "/metadata/annotation", &json!({ "key": key, "value": value })).await
    }

    pub async fn set_counter(&self, name: &str, count: u32, capacity: u32) -> Result<(), SidecarError> {
        let body = json!({ "count": count.to_string(), "capacity": capacity.to_string() });
        self.change(Method::PATCH, &format!("/v1beta1/counters/{name}"), &body).await
    }

    /// Replaces the values, and the capacity if one is given.
    pub async fn set_list(
        &self,
        name: &str,
        capacity: Option<u32>,
        values: &[String],
    ) -> Result<(), SidecarError> {
        let mut body = json!({ "values": values });
        if let Some(capacity) = capacity {
            body["capacity"] = capacity.to_string().into();
        }
        self.change(Method::PATCH, &format!("/v1beta1/lists/{name}"), &body).await
    }

    /// The GameServer's changes from now on; the first message is its present state.
    pub async fn watch(&self) -> Result<Watch, SidecarError> {
        const PATH: &str = "/watch/gameserver";
        let request = self.request(Method::GET, PATH, None, None)?;
        let opening = self.transport()?.open(request);
        let reply = tokio::time::timeout(CALL_TIMEOUT, opening)
            .await
            .map_err(|_| SidecarError::from(TransportError::Timeout))??;
        match reply.status {
            200 => Ok(Watch { body: reply.body, received: Vec::new() }),
            status => Err(refusal(PATH, status, b"")),
        }
    }

    /// The GameServer now.
    pub async fn game_server(&self) -> Result<GameServer, SidecarError> {
        const PATH: &str = "/gameserver";
        let request = self.request(Method::GET, PATH, None, Some(CALL_TIMEOUT))?;
        let reply = self.transport()?.send(request).await?;
        if reply.status != 200 {
            return Err(refusal(PATH, reply.status, &reply.body));
        }
        serde_json::from_slice(&reply.body).map_err(|_| SidecarError::Garbage(PATH.to_owned()))
    }

    async fn change(&self, method: Method, path: &str, body: &Value) -> Result<(), SidecarError> {
        let request = self.request(method, path, Some(body), Some(CALL_TIMEOUT))?;
        let reply = self.transport()?.send(request).await?;
        if reply.status != 200 {
            return Err(refusal(path, reply.status, &reply.body));
        }
        match serde_json::from_slice(&reply.body) {
            Ok(Value::Object(_)) => Ok(()),
            _ => Err(SidecarError::Garbage(path.to_owned())),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        timeout: Option<Duration>,
    ) -> Result<HttpRequest, SidecarError> {
        let url = Url::parse(&format!("http://127.0.0.1:{}{path}", self.port))
            .map_err(|error| SidecarError::Unreachable(error.to_string()))?;
        let body = body.map(|body| body.to_string().into_bytes());
        Ok(HttpRequest { method, url, headers: HeaderMap::new(), body, timeout })
    }

    fn transport(&self) -> Result<&HttpTransport, SidecarError> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport);
        }
        let opened = HttpTransport::local().map_err(|error| SidecarError::Unreachable(error.to_string()))?;
        Ok(self.transport.get_or_init(|| opened))
    }
}

/// Paths that are not known are 404 or, in versions of the gateway that know the path by another method, 501. Everything else
/// that goes wrong in the sidecar is 500 with a message.
fn refusal(path: &str, status: u16, body: &[u8]) -> SidecarError {
    if matches!(status, 404 | 405 | 501) {
        return SidecarError::Unsupported(path.to_owned());
    }
    let message = serde_json::from_slice::<Value>(body).ok();
    let message = message.as_ref().and_then(|body| body["message"].as_str()).unwrap_or("no reason given");
    let message = message.chars().take(MAX_QUOTED).collect();
    SidecarError::Refused { path: path.to_owned(), status, message }
}

/// A stream of JSON objects, one per line.
pub struct Watch {
    body: Box<dyn ReplyBody>,
    received: Vec<u8>,
}

impl Watch {
    /// The next state; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<GameServer>, SidecarError> {
        let garbage = || SidecarError::Garbage("/watch/gameserver".to_owned());
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let message: WatchMessage = serde_json::from_slice(&line).map_err(|_| garbage())?;
                // An error of the sidecar has no result.
                return message.result.map(Some).ok_or_else(garbage);
            }
            if self.received.len() > MAX_MESSAGE_BYTES {
                return Err(garbage());
            }
            match self.body.chunk().await? {
                Some(chunk) => self.received.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
