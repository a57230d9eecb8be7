//! A container engine that has no containers: it speaks Docker's API on a socket of its own, is strict about what it is asked, and runs
//! what a container would run as a process of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// The one image that there is.
pub const IMAGE: &str = "example/game:1";
/// Most bytes that a test's server prints.
const MAX_LOG: u64 = 1024 * 1024;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// What is asked is done, and half of the connections are cut instead of a reply.
    LosesReplies,
    /// Another program has this many of the next ports.
    PortsTaken(usize),
    /// Answers like something that is no engine.
    Garbage,
}

struct Container {
    body: Value,
    status: &'static str,
    exit_code: i32,
    group: Option<Pid>,
    printed: Vec<u8>,
}

struct Inner {
    manner: Manner,
    requests: u64,
    containers: BTreeMap<String, Container>,
    /// Bodies of all creations, and signals, in their order.
    created: Vec<Value>,
    signals: Vec<String>,
    /// What no engine would accept.
    wrong: Vec<String>,
}

/// A running engine. What runs in its containers ends with it.
pub struct Engine {
    pub socket: PathBuf,
    inner: Arc<Mutex<Inner>>,
    serving: JoinHandle<()>,
}

type Shared = Arc<Mutex<Inner>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    pub fn start(folder: &Path) -> Self {
        let socket = folder.join("engine.sock");
        let inner = Arc::new(Mutex::new(Inner {
            manner: Manner::Good,
            requests: 0,
            containers: BTreeMap::new(),
            created: Vec::new(),
            signals: Vec::new(),
            wrong: Vec::new(),
        }));
        let listener = UnixListener::bind(&socket).expect("bound");
        let serving = tokio::spawn(accept(listener, Arc::clone(&inner)));
        Self { socket, inner, serving }
    }

    pub fn behaves(&self, manner: Manner) {
        lock(&self.inner).manner = manner;
    }

    pub fn created(&self) -> Vec<Value> {
        lock(&self.inner).created.clone()
    }

    pub fn signals(&self) -> Vec<String> {
        lock(&self.inner).signals.clone()
    }

    pub fn containers(&self) -> usize {
        lock(&self.inner).containers.len()
    }

    /// Ends what runs in all containers, as a crash of the server does.
    pub fn end_all(&self) {
        end(&self.inner);
    }

    /// No request was one that an engine refuses.
    pub fn check(&self) {
        let wrong = lock(&self.inner).wrong.clone();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

fn end(shared: &Shared) {
    for container in lock(shared).containers.values() {
        if let Some(group) = container.group {
            // It may have ended by itself.
            let _ended = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.serving.abort();
        end(&self.inner);
    }
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({"message": message}))).into_response()
}

/// The connection is closed instead of a reply.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn accept(listener: UnixListener, shared: Shared) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Err: one that was cut, here or by the backend.
            let _ended = connection.await;
        });
    }
}

async fn answer(shared: Shared, request: Request<Incoming>) -> Result<Response, Cut> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(Body::new(body), 1024 * 1024).await.expect("a body");
    let (manner, is_lost) = {
        let mut inner = lock(&shared);
        inner.requests += 1;
        (inner.manner, loses(inner.requests))
    };
    if manner == Manner::Garbage {
        return Ok((StatusCode::OK, "<html>Hello</html>").into_response());
    }
    let url = reqwest::Url::parse(&format!("http://engine{}", head.uri)).expect("a URL");
    let query = url.query_pairs().into_owned().collect();
    let response = route(&shared, &head.method, url.path(), &query, &body);
    if manner == Manner::LosesReplies && is_lost { Err(Cut) } else { Ok(response) }
}

/// Half of the numbers, in no rhythm that requests could have as well: the bits are mixed as SplitMix64 does.
const fn loses(number: u64) -> bool {
    let mut bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (bits ^ (bits >> 31)) & 1 == 1
}

fn route(
    shared: &Shared,
    method: &Method,
    path: &str,
    query: &BTreeMap<String, String>,
    body: &Bytes,
) -> Response {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["containers", "create"]) => create(shared, query, body),
        ("POST", ["containers", name, "start"]) => start(shared, name),
        ("POST", ["containers", name, "kill"]) => kill(shared, name, &query["signal"]),
        ("GET", ["containers", "json"]) => list(shared, query),
        ("GET", ["containers", name, "json"]) => inspect(shared, name),
        ("GET", ["containers", name, "logs"]) => logs(shared, name, query),
        ("DELETE", ["containers", name]) => remove(shared, name),
        ("GET", ["images", name @ .., "json"]) if name.join("/") == IMAGE => {
            axum::Json(json!({})).into_response()
        }
        ("GET", ["images", name @ .., "json"]) => {
            refused(StatusCode::NOT_FOUND, &format!("No such image: {}", name.join("/")))
        }
        _ => {
            lock(shared).wrong.push(format!("{method} {path}"));
            refused(StatusCode::NOT_FOUND, "page not found")
        }
    }
}

fn create(shared: &Shared, query: &BTreeMap<String, String>, body: &Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return refused(StatusCode::BAD_REQUEST, "invalid JSON");
    };
    let name = query.get("name").cloned().unwrap_or_default();
    let mut inner = lock(shared);
    if body["Image"] != IMAGE {
        return refused(
            StatusCode::NOT_FOUND,
            &format!("No such image: {}", body["Image"].as_str().unwrap_or_default()),
        );
    }
    if inner.containers.contains_key(&name) {
        return refused(
            StatusCode::CONFLICT,
            &format!("Conflict. The container name \"/{name}\" is already in use"),
        );
    }
    inner.created.push(body.clone());
    let container = Container { body, status: "created", exit_code: 0, group: None, printed: Vec::new() };
    inner.containers.insert(name, container);
    (StatusCode::CREATED, axum::Json(json!({"Id": "0", "Warnings": []}))).into_response()
}

fn start(shared: &Shared, name: &str) -> Response {
    let mut inner = lock(shared);
    let Some(container) = inner.containers.get(name) else { return no_container(name) };
    if container.status == "running" {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let body = container.body.clone();
    if let Manner::PortsTaken(left) = inner.manner
        && left > 0
    {
        inner.manner = Manner::PortsTaken(left - 1);
        return refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "driver failed: Bind for 0.0.0.0:1 failed: port is already allocated",
        );
    }
    let words = |member: &str| -> Vec<String> {
        body[member]
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| word.as_str().expect("text").to_owned())
            .collect()
    };
    let command = words("Cmd");
    let mut process = Command::new(&command[0]);
    process
        .args(&command[1..])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(words("Env").iter().map(|pair| pair.split_once('=').expect("a pair")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = match process.spawn() {
        Ok(child) => child,
        Err(error) => {
            let text = format!("exec: \"{}\": executable file not found in $PATH: {error}", command[0]);
            return refused(StatusCode::BAD_REQUEST, &text);
        }
    };
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).expect("small")));
    let container = inner.containers.get_mut(name).expect("it is there");
    (container.status, container.group) = ("running", group);
    drop(inner);
    let (shared, name) = (Arc::clone(shared), name.to_owned());
    tokio::spawn(async move {
        let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let copy = |stream: u8, bytes: Vec<u8>| {
            let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
            [&[stream, 0, 0, 0][..], &length, &bytes].concat()
        };
        let (mut printed, mut errors) = (Vec::new(), Vec::new());
        let (mut out, mut err) = ((&mut out).take(MAX_LOG), (&mut err).take(MAX_LOG));
        // What a test's servers print is short.
        let _read = tokio::join!(out.read_to_end(&mut printed), err.read_to_end(&mut errors));
        let status = child.wait().await.expect("a status");
        let mut inner = lock(&shared);
        if let Some(container) = inner.containers.get_mut(&name) {
            use std::os::unix::process::ExitStatusExt;
            container.status = "exited";
            container.exit_code = status.code().unwrap_or(128 + status.signal().unwrap_or_default());
            container.printed = [copy(1, printed), copy(2, errors)].concat();
            container.group = None;
        }
    });
    StatusCode::NO_CONTENT.into_response()
}

fn kill(shared: &Shared, name: &str, signal: &str) -> Response {
    let mut inner = lock(shared);
    let Some(container) = inner.containers.get(name) else { return no_container(name) };
    let Some(group) = container.group else {
        return refused(StatusCode::CONFLICT, &format!("cannot kill container: {name}: is not running"));
    };
    let number = match signal {
        "SIGTERM" => Signal::TERM,
        "SIGKILL" => Signal::KILL,
        _ => return refused(StatusCode::BAD_REQUEST, "Invalid signal"),
    };
    kill_process_group(group, number).expect("signalled");
    inner.signals.push(signal.to_owned());
    StatusCode::NO_CONTENT.into_response()
}

fn remove(shared: &Shared, name: &str) -> Response {
    let mut inner = lock(shared);
    match inner.containers.get(name).map(|container| container.status) {
        None => no_container(name),
        Some("running") => refused(StatusCode::CONFLICT, "cannot remove a running container"),
        Some(_) => {
            inner.containers.remove(name);
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

fn list(shared: &Shared, query: &BTreeMap<String, String>) -> Response {
    let filters: Value = serde_json::from_str(&query["filters"]).expect("filters");
    let label = filters["label"][0].as_str().expect("a label").split_once('=').expect("a value");
    assert_eq!(query["all"], "true", "also those that have ended");
    let inner = lock(shared);
    let labelled = inner.containers.values().filter(|container| container.body["Labels"][label.0] == label.1);
    let listed: Vec<Value> =
        labelled.map(|container| json!({"Id": "0", "Labels": container.body["Labels"]})).collect();
    axum::Json(listed).into_response()
}

fn inspect(shared: &Shared, name: &str) -> Response {
    let inner = lock(shared);
    let Some(container) = inner.containers.get(name) else { return no_container(name) };
    let state = json!({"Status": container.status, "ExitCode": container.exit_code, "OOMKilled": false});
    axum::Json(json!({"Id": "0", "State": state})).into_response()
}

fn logs(shared: &Shared, name: &str, query: &BTreeMap<String, String>) -> Response {
    let inner = lock(shared);
    let Some(container) = inner.containers.get(name) else { return no_container(name) };
    assert_eq!((query["stdout"].as_str(), query["stderr"].as_str()), ("true", "true"));
    container.printed.clone().into_response()
}

fn no_container(name: &str) -> Response {
    refused(StatusCode::NOT_FOUND, &format!("No such container: {name}"))
}
