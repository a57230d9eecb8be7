//! Every reply a backend can send: understood or refused, for each call.
//!
//! The first bytes choose call, status and headers; the rest is the body.
#![no_main]

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use backend_client::api::backend::Backend;
use backend_client::api::batch::{Batch, BatchItem};
use backend_client::api::http::HttpBackend;
use backend_client::api::transport::{HttpReply, HttpRequest, Transport, TransportError};
use backend_client::document::RawJson;
use backend_client::platform::clock::Clock;
use backend_client::protocol::rooms::{RequestTicket, RoomQuery};
use backend_client::{ClientError, Config, ServerKey};
use libfuzzer_sys::fuzz_target;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::de::DeserializeOwned;

const STATUSES: [u16; 12] = [200, 201, 204, 304, 400, 401, 404, 409, 413, 429, 500, 503];

/// Answers with what it was given.
#[derive(Default)]
struct Echo(Mutex<Option<HttpReply>>);

#[async_trait]
impl Transport for Echo {
    async fn send(&self, _request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.0.lock().expect("not poisoned").clone().ok_or(TransportError::Timeout)
    }
}

/// No time passes.
struct Still;

impl Clock for Still {
    fn unix_seconds(&self) -> u64 {
        4_000_000_000
    }

    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(pending())
    }
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    echo: Arc<Echo>,
    backend: HttpBackend,
    key: ServerKey,
}

impl Bench {
    fn new() -> Self {
        let echo = Arc::new(Echo::default());
        let config = Config { base_url: "http://127.0.0.1:1".into(), retry_attempts: 0, ..Config::default() };
        let backend = HttpBackend::new(config, echo.clone(), Arc::new(Still)).expect("a backend");
        let key = ServerKey::parse("gsk_live_0123456789abcdef0123456789abcdef").expect("a key");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, echo, backend, key }
    }

    fn ask(&self, call: u8) -> Result<(), ClientError> {
        let (backend, key) = (&self.backend, &self.key);
        self.runtime.block_on(async {
            match call % 16 {
                0 => backend.login_anonymous(&body(r#"{"display_name":"Ada"}"#)).await.map(drop),
                1 => backend.refresh(&body(r#"{"refresh_token":"grt_x"}"#)).await.map(drop),
                2 => backend.key_set(Some("\"tag\"")).await.map(drop),
                3 => backend.validate(key, &body(r#"{"token":"x"}"#)).await.map(drop),
                4 => backend.register_server(key, &body(ENTRY)).await.map(drop),
                5 => backend.heartbeat(key, "server", &body(BEAT)).await.map(drop),
                6 => backend.deregister_server(key, "server").await,
                7 => backend.rooms("x", &RoomQuery::default()).await.map(drop),
                8 => backend.room("x", "room").await.map(drop),
                9 => backend.ticket("x", "room", &RequestTicket::default()).await.map(drop),
                10 => backend
                    .load_players(key, &body(r#"{"server_id":"s","player_ids":["a"]}"#))
                    .await
                    .map(drop),
                11 => backend.save_documents(key, &save()).await.map(drop),
                12 => backend.player_conflicts(key, "ada").await.map(drop),
                13 => backend.own_documents("x").await.map(drop),
                14 => {
                    backend.resolve_conflicts(key, &body(r#"{"server_id":"s","conflict_ids":["c"]}"#)).await
                }
                _ => backend.release_players(key, &body(r#"{"server_id":"s"}"#)).await.map(drop),
            }
        })
    }
}

const ENTRY: &str = r#"{"instance_id":"i","name":"n","address":"a","port":1,"max_players":1}"#;
const BEAT: &str = r#"{"sequence":1,"status":"ready","players":0}"#;
/// One empty document to save.
fn save() -> Batch {
    let item = BatchItem {
        player_id: "a".into(),
        key: "k".into(),
        epoch: 1,
        sequence: 1,
        value: RawJson::parse("{}".to_owned()).expect("an object"),
        loaded_version: None,
    };
    Batch { server_id: "s".to_owned(), items: vec![item] }
}

fn body<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("a body")
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(|data: &[u8]| {
    let [call, status, headers, body @ ..] = data else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let mut map = HeaderMap::new();
    let media = if headers & 1 == 0 { "application/json" } else { "application/problem+json; charset=utf-8" };
    map.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    // The beginning of the body is as good a header as any.
    if let Ok(value) = HeaderValue::from_bytes(&body[..body.len().min(usize::from(headers >> 3))]) {
        for (bit, name) in [(2, RETRY_AFTER), (4, CACHE_CONTROL)] {
            if headers & bit != 0 {
                map.insert(name, value.clone());
            }
        }
        map.insert(ETAG, value);
    }
    BENCH.with_borrow(|bench| {
        *bench.echo.0.lock().expect("not poisoned") =
            Some(HttpReply { status, headers: map, body: body.to_vec() });
        if let Err(error) = bench.ask(*call) {
            assert!(!error.code().is_empty() && !error.message.is_empty());
            assert!(error.retry_after.is_none_or(|pause| pause <= Duration::from_secs(u32::MAX.into())));
        } else {
            assert!(status < 400);
        }
    });
});
