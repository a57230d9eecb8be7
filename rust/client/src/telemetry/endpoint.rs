//! Answers who collects metrics: plain HTTP/1.1, one request per connection.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::prometheus;
use crate::error::ClientError;

/// Most connections at a time. Collectors come one by one.
const MAX_CONNECTIONS: usize = 8;
/// Longest life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, such as for want of file descriptors.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// Makes the text of a scrape, on a worker.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// The address in `text`: `host:port` with an IP address, or a port alone, which is one of this machine's loopback.
pub fn parse_address(text: &str) -> Result<SocketAddr, ClientError> {
    let text = text.trim();
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        let rule = format!(
            "\"{text}\" is no address: write a port, such as 9464, for this machine only, or an IP address and a port, such as \
             0.0.0.0:9464 or [::]:9464. The server has no metrics endpoint"
        );
        ClientError::field("metrics_address", rule)
    })
}

/// Binds `address`. Needs no runtime.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ClientError> {
    let bound = || -> io::Result<std::net::TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bound().map_err(|error| {
        let rule = format!(
            "{address} cannot be used ({error}): set another port, or 0 for a free one. The server has no metrics endpoint"
        );
        ClientError::field("metrics_address", rule)
    })
}

/// Answers until it is dropped.
pub async fn serve(listener: std::net::TcpListener, render: Render) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the metrics endpoint does not start"),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for metrics was not accepted");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let render = Arc::clone(&render);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let response = respond(&request, &render);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let connection = http.keep_alive(false).serve_connection(TokioIo::new(stream), answer);
            match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics broke"),
                Err(_) => tracing::debug!("a connection for metrics took too long"),
            }
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, render: &Render) -> Response<String> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "The metrics are at /metrics.\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let mut response = Response::new(render());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn an_address_is_of_this_machine_unless_it_says_otherwise() {
        let parsed =
            |text| parse_address(text).map(|address| address.to_string()).map_err(|error| error.message);
        assert_eq!(parsed("9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(parsed(":9464").as_deref(), Ok("127.0.0.1:9464"));
        assert_eq!(parsed(" localhost:0 ").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(parsed("0.0.0.0:9464").as_deref(), Ok("0.0.0.0:9464"));
        assert_eq!(parsed("[::]:9464").as_deref(), Ok("[::]:9464"));
        for text in ["", "metrics", "1.2.3.4", "70000", "example.org:9464"] {
            assert!(parsed(text).is_err_and(|message| message.contains("0.0.0.0:9464")), "{text}");
        }
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("a reply and its end");
        reply
    }

    #[tokio::test]
    async fn it_answers_scrapes_and_nothing_else() {
        let listener = bind(parse_address("0").expect("an address")).expect("bound");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, Arc::new(|| "up 1\n".to_owned())));
        let scrape = exchange(address, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(scrape.starts_with("HTTP/1.1 200 OK\r\n") && scrape.ends_with("\r\n\r\nup 1\n"), "{scrape}");
        assert!(scrape.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{scrape}");
        let head = exchange(address, "HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let missing = exchange(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
        let post = exchange(address, "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
        let garbage = exchange(address, "\u{16}\u{3}\u{1}\r\n\r\n").await;
        assert!(garbage.starts_with("HTTP/1.1 400 ") || garbage.is_empty(), "{garbage}");
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = bind(parse_address("0").expect("an address")).expect("bound");
        let address = taken.local_addr().expect("bound");
        let error = bind(address).expect_err("in use");
        assert!(
            error.message.contains(&address.to_string()) && error.message.contains("another port"),
            "{error}"
        );
    }
}
