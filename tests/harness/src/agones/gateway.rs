//! The sidecar's side of one connection.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Call, Cluster, Manner, State};
use crate::http_message::{self, Request};

const READ_TIMEOUT: Duration = Duration::from_millis(50);
/// Longest label value, and longest name in a label's key.
const MAX_LABEL: usize = 63;
const MAX_LIST: i64 = 1_000;

/// What no sidecar answers. The last one is not even HTTP.
const GARBAGE: [&str; 3] = [
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 18\r\n\r\n<html>Hello</html>",
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n}{\"result\": [7]\n\r\n0\r\n\r\n",
    "SSH-2.0-Sidecar_1.0\r\n",
];

/// Status and body.
struct Answer(u16, Value);

pub(super) fn serve(mut stream: TcpStream, cluster: &Cluster, number: u64, port: u16) {
    let is_current = || cluster.state().sidecar == number;
    // Without its time-out, the thread would stay until the other side closes.
    if stream.set_read_timeout(Some(READ_TIMEOUT)).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut received = Vec::new();
    let mut garbage = 0;
    while let Ok(request) = http_message::read_request(&mut stream, &mut received, is_current) {
        let manner = cluster.state().manner;
        let served = match manner {
            Manner::Hangs => return hang(&stream, cluster, number),
            Manner::Garbage => {
                garbage += 1;
                let text = GARBAGE[(garbage + usize::from(request.path.len() as u8)) % GARBAGE.len()];
                // Each connection has one answer: what follows would be read as a part of it.
                let _gone = stream.write_all(text.as_bytes());
                return;
            }
            Manner::Good | Manner::Older => answer(&mut stream, cluster, &request, number, port, manner),
        };
        if served.is_err() {
            return;
        }
    }
}

/// Keeps the connection and says nothing, until the sidecar ends or behaves.
fn hang(stream: &TcpStream, cluster: &Cluster, number: u64) {
    let mut state = cluster.state();
    while state.sidecar == number && state.manner == Manner::Hangs {
        state = cluster.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
    drop(state);
    // Closed already, perhaps.
    let _gone = stream.shutdown(std::net::Shutdown::Both);
}

fn answer(
    stream: &mut TcpStream,
    cluster: &Cluster,
    request: &Request,
    number: u64,
    port: u16,
    manner: Manner,
) -> Result<()> {
    let what = format!("{} {}", request.method, request.path);
    let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let answer = {
        let mut state = cluster.state();
        check_head(&mut state, &what, request, port);
        let answer = execute(&mut state, &what, request, &body, manner);
        state.calls.push(Call { what: what.clone(), body });
        answer
    };
    cluster.changed.notify_all();
    if what == "GET /watch/gameserver" {
        return watch(stream, cluster, number);
    }
    let Answer(status, body) = answer;
    let text = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(text.as_bytes())?)
}

/// Shows the present state and then every change.
fn watch(stream: &mut TcpStream, cluster: &Cluster, number: u64) -> Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let mut state = cluster.state();
    let mut next = state.shown.len() - 1;
    state.watches += 1;
    cluster.changed.notify_all();
    let outcome = loop {
        if state.sidecar != number || !matches!(state.manner, Manner::Good | Manner::Older) {
            break Err(anyhow::anyhow!("the sidecar has ended"));
        }
        let Some(shown) = state.shown.get(next) else {
            state = cluster.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            continue;
        };
        let line = format!("{{\"result\":{shown}}}\n");
        next += 1;
        drop(state);
        let sent = stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
        state = cluster.state();
        if let Err(error) = sent {
            break Err(error.into());
        }
    };
    state.watches -= 1;
    // Closed already, perhaps.
    let _gone = stream.shutdown(std::net::Shutdown::Both);
    outcome
}

fn check_head(state: &mut State, what: &str, request: &Request, port: u16) {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let mut wrong = Vec::new();
    if header("version") != Some("HTTP/1.1") {
        wrong.push("is not HTTP/1.1".to_owned());
    }
    let host = header("host").unwrap_or_default();
    if host != format!("127.0.0.1:{port}") && host != format!("localhost:{port}") {
        wrong.push(format!("has the host {host:?}"));
    }
    if header("authorization").is_some() || header("cookie").is_some() {
        wrong.push("carries credentials".to_owned());
    }
    let has_body = !request.body.is_empty();
    if has_body && header("content-type").is_some_and(|kind| kind != "application/json") {
        wrong.push(format!("has a body of type {:?}", header("content-type")));
    }
    if has_body && request.method == "GET" {
        wrong.push("is a GET with a body".to_owned());
    }
    if request.path.contains(['?', '%', '#']) {
        wrong.push("has a path that is not plain".to_owned());
    }
    state.violations.extend(wrong.into_iter().map(|wrong| format!("{what} {wrong}")));
}

fn execute(state: &mut State, what: &str, request: &Request, body: &Value, manner: Manner) -> Answer {
    if request.method == "GET" && ["/gameserver", "/watch/gameserver"].contains(&request.path.as_str()) {
        return Answer(200, state.game_server.json(state.shown.len()));
    }
    if manner == Manner::Older && request.path.starts_with("/v1beta1/") {
        return Answer(404, json!({ "code": 5, "message": "Not Found", "details": [] }));
    }
    if what == "POST /health" {
        return if body == &json!({}) { done() } else { violation(state, what, 400, "needs the body {}") };
    }
    if state.calls.iter().any(|call| call.what == "POST /shutdown") && what != "POST /shutdown" {
        return violation(state, what, 200, "came after POST /shutdown");
    }
    let Some(fields) = body.as_object() else {
        return violation(state, what, 400, "has no JSON object as its body");
    };
    if what == "PUT /metadata/label" || what == "PUT /metadata/annotation" {
        return set_metadata(state, what, fields);
    }
    if let Some(name) = request.path.strip_prefix("/v1beta1/counters/").filter(|_| request.method == "PATCH")
    {
        return set_counter(state, what, name, fields);
    }
    if let Some(name) = request.path.strip_prefix("/v1beta1/lists/").filter(|_| request.method == "PATCH") {
        return set_list(state, what, name, fields);
    }
    if !fields.is_empty() {
        return violation(state, what, 400, "has fields in its body");
    }
    // Answered in any case, and then ignored.
    let is_stuck = state.game_server.is_leaving();
    match what {
        "POST /ready" => {
            if state.game_server.state == "Allocated" && state.game_server.allocated_outside {
                return violation(state, what, 200, "takes the server out of a session of somebody else");
            }
            if !is_stuck {
                for step in ["RequestReady", "Ready"] {
                    step.clone_into(&mut state.game_server.state);
                    state.show();
                }
            }
        }
        "POST /allocate" if !is_stuck => {
            state.allocate(false);
            state.show();
        }
        "POST /shutdown" if state.game_server.deletion_timestamp == 0 => {
            "Shutdown".clone_into(&mut state.game_server.state);
            state.show();
        }
        "POST /allocate" | "POST /shutdown" => {}
        _ => return violation(state, what, 404, "is no call of the sidecar"),
    }
    done()
}

fn set_metadata(state: &mut State, what: &str, fields: &Map<String, Value>) -> Answer {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(key), Some(value), 2) = (text("key"), text("value"), fields.len()) else {
        return violation(state, what, 400, "needs key and value, and nothing else");
    };
    if !is_label(&key) || key.is_empty() {
        return violation(state, what, 400, "has a key that is no name");
    }
    let key = format!("agones.dev/sdk-{key}");
    if what == "PUT /metadata/label" {
        if !is_label(&value) {
            return violation(state, what, 400, "has a value that is no label's");
        }
        state.game_server.labels.insert(key, value);
    } else {
        state.game_server.annotations.insert(key, value);
    }
    state.show();
    done()
}

fn set_counter(state: &mut State, what: &str, name: &str, fields: &Map<String, Value>) -> Answer {
    if fields.keys().any(|field| !["count", "capacity"].contains(&field.as_str())) {
        return violation(state, what, 400, "has other fields than count and capacity");
    }
    let (count, capacity) = (number(fields, "count"), number(fields, "capacity"));
    if [("count", count), ("capacity", capacity)]
        .iter()
        .any(|(name, it)| fields.contains_key(*name) && it.is_none())
    {
        return violation(state, what, 400, "has a number that is not written as a text");
    }
    let Some(known) = state.game_server.counters.get(name).copied() else {
        return violation(state, what, 500, "is about a counter that is not declared");
    };
    let (count, capacity) = (count.unwrap_or(known.0), capacity.unwrap_or(known.1));
    if !(0..=capacity).contains(&count) {
        return violation(state, what, 500, "is out of range");
    }
    state.game_server.counters.insert(name.to_owned(), (count, capacity));
    state.show();
    Answer(200, json!({ "name": name, "count": count.to_string(), "capacity": capacity.to_string() }))
}

fn set_list(state: &mut State, what: &str, name: &str, fields: &Map<String, Value>) -> Answer {
    if fields.keys().any(|field| !["values", "capacity"].contains(&field.as_str())) {
        return violation(state, what, 400, "has other fields than values and capacity");
    }
    let capacity = number(fields, "capacity");
    if fields.contains_key("capacity") && capacity.is_none() {
        return violation(state, what, 400, "has a number that is not written as a text");
    }
    let Some(known) = state.game_server.lists.get(name).cloned() else {
        return violation(state, what, 500, "is about a list that is not declared");
    };
    let texts = |values: &Value| -> Option<Vec<String>> {
        values.as_array()?.iter().map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let values = match fields.get("values") {
        None => known.1,
        Some(values) => match texts(values) {
            Some(values) => values,
            None => return violation(state, what, 400, "has values that are no texts"),
        },
    };
    let capacity = capacity.unwrap_or(known.0);
    let mut once = values.clone();
    once.sort_unstable();
    once.dedup();
    if fields.contains_key("capacity") && capacity > state.game_server.list_limit {
        // Nobody can know the limit: that is a refusal and no violation.
        return Answer(
            500,
            json!({ "code": 2, "message": "out of range. Capacity must be within range [0,1000]" }),
        );
    }
    if !(0..=MAX_LIST).contains(&capacity) || values.len() as i64 > capacity || once.len() != values.len() {
        return violation(state, what, 500, "is out of range, or names somebody twice");
    }
    state.game_server.lists.insert(name.to_owned(), (capacity, values));
    state.show();
    Answer(200, json!({ "name": "", "capacity": "0", "values": [] }))
}

/// A number of 64 bits, as proto3's JSON has it.
fn number(fields: &Map<String, Value>, name: &str) -> Option<i64> {
    fields.get(name)?.as_str()?.parse().ok()
}

/// What Kubernetes takes as the value of a label.
fn is_label(text: &str) -> bool {
    let is_inner = |one: char| one.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&one);
    let ends_well = |one: Option<char>| one.is_none_or(|one| one.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && text.chars().all(is_inner)
        && ends_well(text.chars().next())
        && ends_well(text.chars().last())
}

fn done() -> Answer {
    Answer(200, json!({}))
}

fn violation(state: &mut State, what: &str, status: u16, why: &str) -> Answer {
    state.violations.push(format!("{what} {why}"));
    Answer(status, json!({ "code": 2, "message": why, "details": [] }))
}
