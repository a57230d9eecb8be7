//! Where objects go, and what goes along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::api::transport::{Transport, TransportError};
use crate::config::Config;
use crate::platform::clock::SystemClock;
use crate::platform::secret::example_key as server_key;

/// Answers from a script, and keeps what it was sent.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<HttpReply>>,
    sent: Mutex<Vec<HttpRequest>>,
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.sent.lock().expect("not poisoned").push(request);
        let answer = self.answers.lock().expect("not poisoned").pop_front();
        answer.ok_or_else(|| TransportError::Broken("nothing in the script".into()))
    }
}

fn reply(status: u16, range: Option<&'static str>, body: &[u8]) -> HttpReply {
    let range = range.map(|range| (CONTENT_RANGE, HeaderValue::from_static(range)));
    HttpReply { status, headers: HeaderMap::from_iter(range), body: body.to_vec() }
}

fn backend(answers: Vec<HttpReply>) -> (HttpBackend, Arc<Scripted>) {
    let transport = Arc::new(Scripted { answers: Mutex::new(answers.into()), sent: Mutex::default() });
    let config = Config { base_url: "http://127.0.0.1:1/prefix".into(), ..Config::default() };
    (HttpBackend::new(config, transport.clone(), Arc::new(SystemClock)).expect("configured"), transport)
}

fn address(method: &str, url: &str) -> ObjectAddress {
    ObjectAddress { method: method.into(), url: url.into(), headers: [].into(), expires_in: 900 }
}

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn the_server_key_is_shown_to_the_backend_only() {
    let (own, sent) = backend(vec![reply(204, None, b""), reply(200, None, b"")]);
    own.send_object(&server_key(), "overworld", HASH, None, b"stored".to_vec()).await.expect("sent");
    let mut signed = address("PUT", "https://bucket.example.org/key?signature=s");
    signed.headers.insert("x-ms-blob-type".into(), "BlockBlob".into());
    own.send_object(&server_key(), "overworld", HASH, Some(&signed), b"stored".to_vec()).await.expect("sent");
    let sent = sent.sent.lock().expect("not poisoned");
    assert_eq!(sent[0].url.path(), format!("/prefix/v1/worlds/overworld/objects/{HASH}"));
    assert!(sent[0].headers[AUTHORIZATION].is_sensitive());
    assert_eq!(sent[1].url.as_str(), "https://bucket.example.org/key?signature=s");
    assert!(!sent[1].headers.contains_key(AUTHORIZATION));
    assert_eq!(sent[1].headers["x-ms-blob-type"], "BlockBlob");
    assert!(sent.iter().all(|request| request.headers[CONTENT_TYPE] == "application/zstd"));
}

#[tokio::test]
async fn addresses_that_are_not_safe_are_refused_unsent() {
    let (own, sent) = backend(vec![reply(200, None, b"")]);
    let mut with_credential = address("PUT", "https://bucket.example.org/key");
    with_credential.headers.insert("Authorization".into(), "Bearer x".into());
    for bad in [
        address("PUT", "http://bucket.example.org/key"),
        address("PUT", "http://127.0.0.1.example.org/key"),
        address("PUT", "ftp://127.0.0.1/key"),
        address("PUT", "file:///etc/passwd"),
        address("PUT", "nonsense"),
        address("GET", "https://bucket.example.org/key"),
        with_credential,
    ] {
        let refused = own.send_object(&server_key(), "overworld", HASH, Some(&bad), Vec::new()).await;
        assert_eq!(refused.err().map(|error| error.code()), Some("bad_reply"), "{bad:?}");
    }
    assert!(sent.sent.lock().expect("not poisoned").is_empty());
    let here = address("PUT", "http://127.0.0.1:9000/key");
    own.send_object(&server_key(), "overworld", HASH, Some(&here), Vec::new()).await.expect("sent");
}

#[tokio::test]
async fn a_part_is_what_the_reply_says_it_is() {
    let (own, sent) = backend(vec![
        reply(206, Some("bytes 3-6/10"), b"3456"),
        reply(200, None, b"0123456789"),
        reply(206, None, b"3456"),
        reply(206, Some("bytes 0-3/99999999999"), b"0123"),
        reply(403, None, b"<Error>expired</Error>"),
    ]);
    let address = address("GET", "https://bucket.example.org/key?signature=s");
    let key = server_key();
    let read = || own.receive_object(&key, "overworld", HASH, Some(&address), 3..7);
    let part = |start, bytes: &[u8]| ObjectPart { start, bytes: bytes.to_vec(), total: 10 };
    assert_eq!(read().await, Ok(part(3, b"3456")));
    assert_eq!(read().await, Ok(part(0, b"0123456789")));
    for code in ["bad_reply", "bad_reply"] {
        assert_eq!(read().await.err().map(|error| error.code()), Some(code));
    }
    let expired = read().await.expect_err("refused");
    assert_eq!((expired.retryable, expired.http_status), (true, Some(403)));
    let sent = sent.sent.lock().expect("not poisoned");
    assert_eq!(sent[0].headers[RANGE], "bytes=3-6");
}
