//! Over real sockets: what a person reads when something else answers, or nothing does.

use std::sync::Arc;
use std::time::Duration;

use backend_protocol::rooms::RoomQuery;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::shown;
use crate::api::backend::Backend as _;
use crate::api::http::HttpBackend;
use crate::api::transport::HttpTransport;
use crate::config::{Config, TlsRoots};
use crate::error::ClientError;
use crate::platform::clock::SystemClock;

/// What it says when `base_url` leads there.
async fn refusal_of(base_url: String) -> ClientError {
    let config = Config {
        base_url,
        retry_attempts: 0,
        timeout: Duration::from_secs(60),
        allow_insecure_http: true,
        tls_roots: TlsRoots::Bundled,
        ..Config::default()
    };
    let transport = Arc::new(HttpTransport::new(&config).expect("transport"));
    let backend = HttpBackend::new(config, transport, Arc::new(SystemClock)).expect("configured");
    let query = RoomQuery { search: Some("secret".into()), ..RoomQuery::default() };
    let error = backend.rooms("token", &query).await.expect_err("no backend");
    assert!(!error.message.contains("secret"), "the query is shown: {}", error.message);
    error
}

/// A port of this machine where whoever connects gets `answer`.
async fn answering(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            // Something was said; the rest is not waited for.
            let _any = peer.read(&mut [0; 16 * 1024]).await;
            let _gone = peer.write_all(answer).await;
            let _gone = peer.shutdown().await;
        }
    });
    port
}

fn says(error: &ClientError, code: &str, words: &[&str]) {
    assert_eq!(error.code(), code, "{}", error.message);
    for word in words {
        assert!(error.message.contains(word), "\"{word}\" is not in: {}", error.message);
    }
}

const ALERT: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let error = refusal_of(format!("http://127.0.0.1:{port}/prefix")).await;
    says(
        &error,
        "network",
        &[&format!("http://127.0.0.1:{port}/prefix/v1/rooms: "), "nothing listens there"],
    );
}

#[tokio::test]
async fn a_host_that_has_no_address() {
    // No label has 64 characters: no resolver asks anybody.
    let error = refusal_of(format!("http://{}.example.org", "a".repeat(64))).await;
    says(&error, "network", &["example.org/v1/rooms: ", "check its name in base_url"]);
}

#[tokio::test]
async fn tls_where_none_is_spoken() {
    let port = answering(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let error = refusal_of(format!("https://127.0.0.1:{port}")).await;
    says(&error, "tls", &[&format!("https://127.0.0.1:{port}/v1/rooms: "), "begin base_url with http://"]);
    let closing = answering(b"").await;
    let error = refusal_of(format!("https://127.0.0.1:{closing}")).await;
    says(&error, "network", &["check that the port of base_url takes TLS"]);
}

#[tokio::test]
async fn no_tls_where_it_is_spoken() {
    let port = answering(ALERT).await;
    let error = refusal_of(format!("http://127.0.0.1:{port}")).await;
    says(
        &error,
        "network",
        &[&format!("http://127.0.0.1:{port}/v1/rooms: "), "begin base_url with https://"],
    );
    let polite = answering(
        b"HTTP/1.1 400 Bad Request\r\nserver: nginx\r\ncontent-type: text/html\r\ncontent-length: 93\r\n\r\n\
          <html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>   ",
    )
    .await;
    let error = refusal_of(format!("http://127.0.0.1:{polite}")).await;
    says(&error, "bad_reply", &["from \"nginx\"", "sent to HTTPS port", "begin base_url with https://"]);
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let url = reqwest::Url::parse("https://user:word@host:8/a/b?signature=secret#part").expect("a URL");
    assert_eq!(shown(&url), "https://host:8/a/b");
}
