//! What each service accepts and answers.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Cloud, CloudPeer, Machine, Manner, State};
use crate::http_message::Request;

/// Where a container of ECS has its metadata and its agent.
pub(super) const ECS_METADATA: &str = "/v4/0123-game";
pub(super) const ECS_AGENT: &str = "/api/0123-game";
const EC2_VALUES: &str = "/latest/meta-data/";
const GCP_VALUES: &str = "/computeMetadata/v1/instance/";
/// Longest life of a token and of a protection.
const MAX_TOKEN_SECONDS: u32 = 21_600;
const MAX_PROTECTION_MINUTES: u64 = 2_880;
const AZURE_VERSIONS: [(&str, &str); 3] =
    [("instance", "2021-02-01"), ("loadbalancer", "2020-10-01"), ("scheduledevents", "2020-07-01")];

/// Status, further headers and body.
pub(super) struct Answer(u16, String, String);

impl Answer {
    pub fn text(&self) -> String {
        let Self(status, headers, body) = self;
        format!("HTTP/1.1 {status} Answer\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

fn good(body: impl Into<String>) -> Answer {
    Answer(200, String::new(), body.into())
}

fn refusal(status: u16) -> Answer {
    Answer(status, String::new(), "no".to_owned())
}

fn violation(state: &mut State, request: &Request, status: u16, why: &str) -> Answer {
    state.violations.push(format!("{} {} {why}", request.method, request.path));
    refusal(status)
}

pub(super) fn answer(machine: &Machine, request: &Request, number: u64) -> Answer {
    let mut state = machine.state();
    // A proxy between a game and its machine would be one that somebody abuses.
    if request.header("x-forwarded-for").is_some() || request.header("authorization").is_some() {
        return violation(&mut state, request, 403, "was forwarded, or carries credentials");
    }
    if request.header("version") != Some("HTTP/1.1") || (request.method == "GET" && !request.body.is_empty())
    {
        return violation(&mut state, request, 400, "is not HTTP/1.1, or a GET with a body");
    }
    match state.cloud {
        Cloud::Ec2 => ec2(&mut state, request),
        Cloud::Ecs => ecs(&mut state, request),
        Cloud::Azure => azure(&mut state, request),
        Cloud::Gcp => {
            drop(state);
            gcp(machine, request, number)
        }
    }
}

fn ec2(state: &mut State, request: &Request) -> Answer {
    if request.path == "/latest/api/token" {
        let seconds = request.header("x-aws-ec2-metadata-token-ttl-seconds");
        let seconds = seconds.and_then(|text| text.parse::<u32>().ok());
        let is_good = seconds.is_some_and(|seconds| (1..=MAX_TOKEN_SECONDS).contains(&seconds));
        if request.method != "PUT" || !is_good || !request.body.is_empty() {
            return violation(state, request, 400, "is no request for a token");
        }
        let token = format!("token-{}==", state.given_tokens.len());
        state.tokens.push(token.clone());
        state.given_tokens.push(token.clone());
        return good(token);
    }
    let token = request.header("x-aws-ec2-metadata-token").unwrap_or_default().to_owned();
    if !state.tokens.contains(&token) {
        // One that was good is no mistake.
        return if state.given_tokens.contains(&token) {
            refusal(401)
        } else {
            violation(state, request, 401, "has no token")
        };
    }
    let Some(name) = request.path.strip_prefix(EC2_VALUES).filter(|_| request.method == "GET") else {
        return violation(state, request, 404, "is not known");
    };
    state.values.get(name).map_or_else(|| refusal(404), |(text, _)| good(text.clone()))
}

fn ecs(state: &mut State, request: &Request) -> Answer {
    if request.path == format!("{ECS_METADATA}/task") && request.method == "GET" {
        return state.values.get("task").map_or_else(|| refusal(404), |(text, _)| good(text.clone()));
    }
    if request.path != format!("{ECS_AGENT}/task-protection/v1/state") || request.method != "PUT" {
        return violation(state, request, 404, "is not known");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let known = ["ProtectionEnabled", "ExpiresInMinutes"];
    let has_unknown =
        body.as_object().is_none_or(|fields| fields.keys().any(|key| !known.contains(&key.as_str())));
    let minutes = body.get("ExpiresInMinutes").map(Value::as_u64);
    let has_minutes = minutes
        .is_none_or(|minutes| minutes.is_some_and(|minutes| (1..=MAX_PROTECTION_MINUTES).contains(&minutes)));
    let (Some(is_protected), true, false) = (body["ProtectionEnabled"].as_bool(), has_minutes, has_unknown)
    else {
        return violation(state, request, 400, "is no protection");
    };
    let arn = "arn:aws:ecs:eu-west-1:1:task/pond/0123";
    if state.is_protection_refused {
        let error = json!({ "requestID": "r", "error": { "Arn": arn, "Code": "AccessDeniedException", "Message": "no" } });
        return Answer(400, String::new(), error.to_string());
    }
    state.is_protected = is_protected;
    good(json!({ "protection": { "ProtectionEnabled": is_protected, "TaskArn": arn } }).to_string())
}

fn azure(state: &mut State, request: &Request) -> Answer {
    if request.header("metadata") != Some("true") {
        return violation(state, request, 400, "has no header Metadata: true");
    }
    let known = AZURE_VERSIONS
        .iter()
        .find(|(name, version)| request.path == format!("/metadata/{name}?api-version={version}"));
    let Some((name, _)) = known else {
        return violation(state, request, 400, "is not known, or not in this version");
    };
    match (request.method.as_str(), *name) {
        ("GET", name) => state.values.get(name).map_or_else(|| refusal(404), |(text, _)| good(text.clone())),
        ("POST", "scheduledevents") => approve(state, request),
        _ => violation(state, request, 405, "has another method"),
    }
}

fn approve(state: &mut State, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let (text, version) = state.values.get("scheduledevents").cloned().unwrap_or_default();
    let mut document: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let Some(requests) = body["StartRequests"].as_array() else {
        return violation(state, request, 400, "starts nothing");
    };
    for start in requests {
        let events = document["Events"].as_array_mut();
        let event = events.into_iter().flatten().find(|event| event["EventId"] == start["EventId"]);
        let Some(event) = event.filter(|event| event["EventStatus"] == "Scheduled") else {
            return violation(state, request, 400, "starts an event that is not scheduled");
        };
        if event["Resources"] != json!([CloudPeer::AZURE_NAME]) {
            return violation(state, request, 200, "starts an event of other machines");
        }
        event["EventStatus"] = "Started".into();
        event["NotBefore"] = "".into();
    }
    state.values.insert("scheduledevents".to_owned(), (document.to_string(), version + 1));
    good("")
}

fn gcp(machine: &Machine, request: &Request, number: u64) -> Answer {
    let mut state = machine.state();
    let headers = "Metadata-Flavor: Google\r\nServer: Metadata Server for VM\r\n".to_owned();
    if request.header("metadata-flavor") != Some("Google") {
        return violation(&mut state, request, 403, "has no header Metadata-Flavor: Google");
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let Some(name) = path.strip_prefix(GCP_VALUES).filter(|_| request.method == "GET") else {
        return violation(&mut state, request, 404, "is not known");
    };
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    let seconds = parameter("timeout_sec").and_then(|text| text.parse().ok()).unwrap_or(u64::from(u32::MAX));
    let known = parameter("last_etag").map(str::to_owned);
    if query.is_empty() {
    } else if parameter("wait_for_change") != Some("true") || known.is_none() {
        return violation(&mut state, request, 400, "waits without a version");
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        let Some((text, version)) = state.values.get(name).cloned() else {
            return Answer(404, headers, String::new());
        };
        let etag = format!("{version:016x}");
        let left = end.saturating_duration_since(Instant::now());
        if known.as_ref().is_none_or(|known| *known != etag) || left.is_zero() {
            return Answer(200, format!("{headers}ETag: {etag}\r\n"), text);
        }
        if state.service != number || state.manner != Manner::Good {
            return refusal(503);
        }
        state = machine.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
