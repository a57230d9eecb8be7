//! The few calls of the engine's API that are needed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::logs::Demultiplexer;

/// Longest time of one call. A busy disk makes creation slow.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes that are read of a reply which is not a log.
const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No reply, or one that no engine gives.
    #[error("{0}")]
    Unreachable(String),
    #[error("the engine refuses with {status}: {message}")]
    Refused { status: u16, message: String },
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was not started yet.
    Created,
    Running,
    Ended,
}

/// A container, as far as it matters here.
#[derive(Debug)]
pub struct Container {
    pub state: State,
    exit_code: i64,
    was_out_of_memory: bool,
}

impl Container {
    /// How it ended.
    pub fn ending(&self) -> String {
        let code = self.exit_code;
        if self.was_out_of_memory {
            format!("it was ended for want of memory (docker.memory_mib), with exit code {code}")
        } else {
            format!("it ended with exit code {code}")
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: InspectedState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    oom_killed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// The engine behind a socket.
pub struct Engine {
    client: Client,
    socket: PathBuf,
    /// Its host is that of no machine: the socket is the way.
    base: Url,
}

impl Engine {
    pub fn new(socket: &Path) -> anyhow::Result<Self> {
        let client = Client::builder().unix_socket(socket.to_owned()).no_proxy().timeout(TIMEOUT).build();
        Ok(Self {
            client: client.context("no client for the container engine")?,
            socket: socket.to_owned(),
            base: Url::parse("http://localhost/")?,
        })
    }

    /// Creates a container, unless there is one of this name.
    pub async fn create(&self, name: &str, body: &Value) -> Result<(), EngineError> {
        let request = self.request(Method::POST, &["containers", "create"], &[("name", name)]).json(body);
        // 409: the name is taken, by what an earlier call has created.
        self.expect(request, &[201, 409]).await.map(drop)
    }

    /// Starts a container, unless it runs.
    pub async fn start(&self, name: &str) -> Result<(), EngineError> {
        self.expect(self.request(Method::POST, &["containers", name, "start"], &[]), &[204, 304])
            .await
            .map(drop)
    }

    /// Sends a signal. Returns whether the container was running.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<bool, EngineError> {
        let request = self.request(Method::POST, &["containers", name, "kill"], &[("signal", signal)]);
        Ok(self.expect(request, &[204, 404, 409]).await?.status() == 204)
    }

    /// Removes a container that does not run, with its anonymous volumes. One that is not there is fine.
    pub async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let request =
            self.request(Method::DELETE, &["containers", name], &[("v", "true"), ("force", "false")]);
        self.expect(request, &[200, 204, 404]).await.map(drop)
    }

    pub async fn inspect(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let reply =
            self.expect(self.request(Method::GET, &["containers", name, "json"], &[]), &[200, 404]).await?;
        if reply.status() == 404 {
            return Ok(None);
        }
        let Inspected { state } = self.json(reply).await?;
        let kind = match state.status.as_str() {
            // Podman's words for it are the last two.
            "created" | "configured" | "initialized" => State::Created,
            "exited" | "dead" | "stopped" => State::Ended,
            // Also `paused`, `restarting`, `removing` and `stopping`: it is still there.
            _ => State::Running,
        };
        Ok(Some(Container { state: kind, exit_code: state.exit_code, was_out_of_memory: state.oom_killed }))
    }

    /// Whether there is an image of this name.
    pub async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        // A name may have slashes, which belong to the path.
        let path: Vec<&str> = ["images"].into_iter().chain(image.split('/')).chain(["json"]).collect();
        Ok(self.expect(self.request(Method::GET, &path, &[]), &[200, 404]).await?.status() == 200)
    }

    /// The values that containers with `label` have of the label `wanted`.
    pub async fn labelled(&self, label: &str, wanted: &str) -> Result<Vec<String>, EngineError> {
        let filters = json!({"label": [label]}).to_string();
        let query = [("all", "true"), ("filters", filters.as_str())];
        let reply = self.expect(self.request(Method::GET, &["containers", "json"], &query), &[200]).await?;
        let listed: Vec<Listed> = self.json(reply).await?;
        Ok(listed.into_iter().filter_map(|one| one.labels?.remove(wanted)).collect())
    }

    /// The end of what a container has printed: of its last lines (a number, or `all`), at most so many bytes.
    pub async fn logs(&self, name: &str, lines: &str, most: u64) -> Result<Vec<u8>, EngineError> {
        let query = [("stdout", "true"), ("stderr", "true"), ("tail", lines)];
        let request = self.request(Method::GET, &["containers", name, "logs"], &query);
        let mut reply = self.expect(request, &[200]).await?;
        let mut printed = Demultiplexer::new(usize::try_from(most).unwrap_or(usize::MAX));
        while let Some(part) = reply.chunk().await.map_err(|error| self.unreachable(error))? {
            printed.push(&part);
        }
        Ok(printed.into_end())
    }

    /// Without a version in the path, the engine answers in its newest one. What is used here has been the same for ten years.
    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.client.request(method, url)
    }

    async fn expect(&self, request: RequestBuilder, statuses: &[u16]) -> Result<Response, EngineError> {
        let reply = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = reply.status().as_u16();
        if statuses.contains(&status) {
            return Ok(reply);
        }
        let body = self.body(reply).await?;
        let message = serde_json::from_slice::<Message>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).chars().take(500).collect(),
            |reply| reply.message,
        );
        Err(EngineError::Refused { status, message })
    }

    async fn json<T: for<'a> Deserialize<'a>>(&self, reply: Response) -> Result<T, EngineError> {
        let body = self.body(reply).await?;
        serde_json::from_slice(&body).map_err(|error| {
            EngineError::Unreachable(format!("{} is no container engine: {error}", self.socket.display()))
        })
    }

    async fn body(&self, mut reply: Response) -> Result<Vec<u8>, EngineError> {
        let mut body = Vec::new();
        while let Some(part) = reply.chunk().await.map_err(|error| self.unreachable(error))? {
            body.extend_from_slice(&part);
            if body.len() > MAX_REPLY_BYTES {
                return Err(self.unreachable("its reply is too long"));
            }
        }
        Ok(body)
    }

    fn unreachable(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
        let error = anyhow::Error::from_boxed(error.into());
        EngineError::Unreachable(format!(
            "the container engine does not answer at {} (docker.socket): {error:#}",
            self.socket.display()
        ))
    }
}
