//! A follower of a room list over a real connection. It keeps the list as the events say, and checks each of them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::harness::{Answer, Backend, text};

/// Events without data in a row, one in 15 s, while something is expected that was done already.
const MAX_HEARTBEATS: u32 = 4;

/// What is followed: a backend, or several behind a proxy.
pub trait Target {
    fn request(&self, method: Method, path: &str) -> RequestBuilder;

    /// A server key.
    fn key(&self) -> &str;

    /// The beginning of a reply.
    async fn open(&self, request: impl Fn() -> RequestBuilder) -> Response;

    /// A whole reply to a request with the server key.
    async fn read(&self, path: &str) -> Answer;
}

impl Target for Backend {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Self::request(self, method, path)
    }

    fn key(&self) -> &str {
        &self.key
    }

    async fn open(&self, request: impl Fn() -> RequestBuilder) -> Response {
        request().send().await.expect("a reply")
    }

    async fn read(&self, path: &str) -> Answer {
        self.get(path, &self.key).await
    }
}

pub struct Follower {
    response: Response,
    buffer: Vec<u8>,
    pub last_event_id: String,
    /// The rooms of the list by their ids.
    pub rooms: BTreeMap<String, Value>,
    /// Ids that a reset that is still coming has not named.
    stale: Option<HashSet<String>>,
    /// Events without data since the last one that had some.
    heartbeats: u32,
    /// Names of the events so far.
    pub events: Vec<String>,
    /// Everything that has come, as text.
    pub raw: String,
}

/// Sends a request to follow.
pub async fn open(backend: &impl Target, query: &str, token: &str, last_event_id: Option<&str>) -> Response {
    let request = || {
        let request = backend.request(Method::GET, &format!("/v1/rooms/events{query}")).bearer_auth(token);
        match last_event_id {
            Some(id) => request.header("last-event-id", id),
            None => request,
        }
    };
    backend.open(request).await
}

/// A request to follow that is refused.
pub async fn refusal(backend: &Backend, query: &str) -> Answer {
    backend.get(&format!("/v1/rooms/events{query}"), &backend.key).await
}

impl Follower {
    pub async fn new(backend: &impl Target, query: &str) -> Self {
        Self::begin(backend, query, None, BTreeMap::new()).await
    }

    async fn begin(
        backend: &impl Target,
        query: &str,
        last_event_id: Option<&str>,
        rooms: BTreeMap<String, Value>,
    ) -> Self {
        let response = open(backend, query, backend.key(), last_event_id).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let last_event_id = last_event_id.unwrap_or_default().to_owned();
        let (buffer, raw) = (Vec::new(), String::new());
        let (stale, heartbeats, events) = (None, 0, Vec::new());
        let mut follower = Self { response, buffer, last_event_id, rooms, stale, heartbeats, events, raw };
        // The first event comes at once, also when there is nothing to say.
        while !follower.step().await.expect("a stream") {}
        follower
    }

    /// Breaks the stream, and goes on at `backend`, which may be another replica.
    pub async fn resume(self, backend: &impl Target, query: &str) -> Self {
        let Self { response, last_event_id, rooms, .. } = self;
        drop(response);
        Self::begin(backend, query, Some(&last_event_id), rooms).await
    }

    /// The follower as if `id` was the last event it got.
    pub fn at(mut self, id: &str) -> Self {
        id.clone_into(&mut self.last_event_id);
        self
    }

    /// Reads an event. True: the list is one that the backend has had. None: the stream has ended.
    pub async fn step(&mut self) -> Option<bool> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("text");
                self.raw.push_str(&block);
                return Some(self.take(&block));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    fn take(&mut self, block: &str) -> bool {
        let field = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let value = lines.next().map(str::to_owned);
            assert!(lines.next().is_none(), "{name} twice in {block}");
            value
        };
        let (id, data) = (field("id"), field("data"));
        self.heartbeats = if data.is_some() { 0 } else { self.heartbeats + 1 };
        if let Some(data) = data {
            let name = field("event").expect("a name");
            let data: Value = serde_json::from_str(&data).expect("JSON");
            if name == "reset" {
                self.stale = Some(self.rooms.keys().cloned().collect());
            } else {
                assert_eq!(name, "change");
            }
            self.events.push(name);
            let mut named = HashSet::new();
            for room in data["rooms"].as_array().expect("rooms") {
                let room_id = text(&room["room_id"]);
                assert!(named.insert(room_id.clone()), "twice in one event: {data}");
                if let Some(stale) = &mut self.stale {
                    stale.remove(&room_id);
                }
                self.rooms.insert(room_id, room.clone());
            }
            for room_id in data["removed"].as_array().into_iter().flatten() {
                let room_id = text(room_id);
                assert!(named.insert(room_id.clone()), "twice in one event: {data}");
                self.rooms.remove(&room_id);
            }
            let more = data["more"] == true;
            assert_eq!(more, id.is_none(), "the last part, and no other, has the id: {block}");
        }
        let Some(id) = id else { return false };
        self.last_event_id = id;
        for room_id in self.stale.take().into_iter().flatten() {
            self.rooms.remove(&room_id);
        }
        true
    }

    /// Reads events until the list is as expected. A stream that only shows again and again that it is alive has missed something.
    pub async fn until(&mut self, what: &str, is_met: impl Fn(&BTreeMap<String, Value>) -> bool) {
        self.heartbeats = 0;
        while !is_met(&self.rooms) {
            let shown = format!("{:?}", self.names());
            assert!(self.heartbeats < MAX_HEARTBEATS, "{what}: nothing comes any more after\n{}", self.raw);
            assert!(self.step().await.is_some(), "{what}: the stream ended with {shown}");
        }
    }

    /// Reads events until this is the list. Whoever knows the change of number `last`, and all before it, has it.
    pub async fn until_list(&mut self, expected: &BTreeMap<String, Value>, last: i64) {
        while self.rooms != *expected {
            let number = self.last_event_id.split('.').nth(1).and_then(|number| number.parse::<i64>().ok());
            let missed = || format!("{}\nafter\n{}", difference(&self.rooms, expected), self.raw);
            assert!(number.expect("a number") <= last, "change {last} is known: {}", missed());
            let shown = missed();
            assert!(self.step().await.is_some(), "the stream ended: {shown}");
        }
    }

    /// Reads events until the rooms have these names.
    pub async fn until_names(&mut self, expected: &[&str]) {
        self.until("names", |rooms| names(rooms) == expected).await;
    }

    pub fn names(&self) -> Vec<String> {
        names(&self.rooms)
    }
}

/// What a list shows, and what it should.
fn difference(shown: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) -> String {
    let ids: BTreeSet<&String> = shown.keys().chain(expected.keys()).collect();
    let differ = ids.into_iter().filter(|id| shown.get(*id) != expected.get(*id));
    let text = |room: Option<&Value>| room.map_or_else(|| "not listed".into(), Value::to_string);
    let lines = differ.map(|id| {
        format!("\n{id}\n  shown: {}\n  expected: {}", text(shown.get(id)), text(expected.get(id)))
    });
    lines.collect()
}

fn names(rooms: &BTreeMap<String, Value>) -> Vec<String> {
    let mut names: Vec<String> = rooms.values().map(|room| text(&room["name"])).collect();
    names.sort_unstable();
    names
}

/// The whole list as pages give it, by the ids of the rooms.
pub async fn listed(backend: &impl Target, query: &str) -> BTreeMap<String, Value> {
    let (mut rooms, mut cursor) = (BTreeMap::new(), String::new());
    let separator = if query.is_empty() { '?' } else { '&' };
    loop {
        let path = format!("/v1/rooms{query}{separator}limit=200{cursor}");
        let page = backend.read(&path).await.expect(200);
        for room in page["rooms"].as_array().expect("rooms") {
            rooms.insert(text(&room["room_id"]), room.clone());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rooms,
        }
    }
}
