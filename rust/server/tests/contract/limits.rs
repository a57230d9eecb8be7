//! How often, how much and how slowly a client may ask.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, Backend, on_both_databases, text};

/// The tests are a proxy: they say who is behind it.
fn behind_proxy(config: &mut backend_server::Config) {
    config.trusted_proxies = vec!["127.0.0.1/32".parse().expect("network")];
}

async fn post_from(backend: &Backend, address: &str, path: &str, body: &Value) -> Answer {
    let request = backend.request(Method::POST, path).header("x-forwarded-for", address).json(body);
    backend.send(request).await
}

fn limited(answer: &Answer) {
    answer.refused(429, "rate_limited");
    let seconds: u32 = answer.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert_eq!(answer.body["retry_after"], seconds);
    assert!(seconds >= 1);
}

on_both_databases! {
    async fn an_address_has_its_own_limit(backend, |config| { behind_proxy(config); config.requests_per_minute = 4; }) {
        let ask = |address: &'static str| {
            let request = backend.request(Method::GET, "/.well-known/jwks.json").header("x-forwarded-for", address);
            backend.send(request)
        };
        for _ in 0..2 {
            ask("203.0.113.1").await.expect(200);
        }
        limited(&ask("203.0.113.1").await);
        ask("203.0.113.2").await.expect(200);
        // A forged list does not help: the proxy's own word is the last one.
        limited(&ask("198.51.100.7, 203.0.113.1").await);
        // A subscriber of IPv6 has many addresses.
        for last in ["2001:db8::1", "2001:db8::2"] {
            ask(last).await.expect(200);
        }
        limited(&ask("2001:db8::3").await);
        // This machine, and whoever has a server key, is not counted.
        for _ in 0..5 {
            backend.get("/v1/rooms", &backend.key).await.expect(200);
        }
    }

    async fn new_accounts_and_logins_are_limited(backend, |config| { behind_proxy(config); config.new_accounts_per_minute = 2; config.logins_per_minute = 6; }) {
        post_from(backend, "203.0.113.1", "/v1/auth/anonymous", &json!({})).await.expect(200);
        limited(&post_from(backend, "203.0.113.1", "/v1/auth/anonymous", &json!({})).await);
        // What is there already may log in.
        let device = json!({"device_id": "0123456789abcdef"});
        post_from(backend, "203.0.113.2", "/v1/auth/device", &device).await.expect(200);
        post_from(backend, "203.0.113.2", "/v1/auth/device", &device).await.expect(200);
        post_from(backend, "203.0.113.2", "/v1/auth/device", &device).await.expect(200);
        limited(&post_from(backend, "203.0.113.2", "/v1/auth/device", &device).await);
    }

    async fn a_player_is_limited_wherever_he_is(backend, |config| { behind_proxy(config); config.player_requests_per_minute = 2; }) {
        let token = text(&backend.guest("Ada").await["access_token"]);
        let ask = |address: &'static str| {
            let request = backend.request(Method::GET, "/v1/players/me/documents").bearer_auth(&token);
            backend.send(request.header("x-forwarded-for", address))
        };
        ask("203.0.113.1").await.expect(200);
        limited(&ask("203.0.113.2").await);
    }

    async fn the_seats_that_an_address_reserves_are_limited(backend, |config| { behind_proxy(config); }) {
        let pond = backend.server("Pond", json!({"max_players": 100})).await;
        let full = backend.server("Lake", json!({"max_players": 1, "players": 1})).await;
        let reserve = async |address: &str, room_id: &str| {
            let token = text(&backend.guest("Ada").await["access_token"]);
            let request = backend.request(Method::POST, &format!("/v1/rooms/{room_id}/ticket")).bearer_auth(token);
            backend.send(request.header("x-forwarded-for", address).json(&json!({"seats": 16}))).await
        };
        for _ in 0..5 {
            // Nothing was reserved: counts nowhere.
            reserve("203.0.113.1", &full).await.refused(409, "room_full");
        }
        for _ in 0..4 {
            reserve("203.0.113.1", &pond).await.expect(200);
        }
        limited(&reserve("203.0.113.1", &pond).await);
        reserve("203.0.113.2", &pond).await.expect(200);
    }

    async fn guesses_of_many_players_at_one_address_are_limited(backend, |config| { behind_proxy(config); }) {
        let entry = json!({"instance_id": "pond", "name": "Pond", "address": "127.0.0.1", "port": 7777, "max_players": 2,
            "visibility": "private", "password": "frog"});
        let server = backend.serve("/v1/servers", &entry).await.expect(201);
        let wrong = if server["invite_code"] == "222-222" { "333-333" } else { "222-222" };
        let guess = async |address: &str, body: Value| {
            let token = text(&backend.guest("Ada").await["access_token"]);
            let request = backend.request(Method::POST, "/v1/rooms/by-code/ticket").bearer_auth(token);
            backend.send(request.header("x-forwarded-for", address).json(&body)).await
        };
        for _ in 0..60 {
            guess("203.0.113.1", json!({"invite_code": wrong})).await.refused(404, "invite_code_unknown");
        }
        limited(&guess("203.0.113.1", json!({"invite_code": wrong})).await);
        for _ in 0..20 {
            let body = json!({"invite_code": server["invite_code"], "password": "toad"});
            guess("203.0.113.2", body).await.refused(403, "wrong_room_password");
        }
        let right = json!({"invite_code": server["invite_code"], "password": "frog"});
        limited(&guess("203.0.113.2", right.clone()).await);
        guess("203.0.113.3", right).await.expect(200);
    }

    async fn wrong_keys_are_limited_and_good_ones_are_not(backend, |config| { behind_proxy(config); config.logins_per_minute = 4; }) {
        let unknown = backend_server::server_keys::generate("live").expect("key");
        let ask = |key: String| {
            let request = backend.request(Method::GET, "/v1/rooms").bearer_auth(key);
            backend.send(request.header("x-forwarded-for", "203.0.113.1"))
        };
        for _ in 0..5 {
            ask(backend.key.clone()).await.expect(200);
        }
        for _ in 0..2 {
            ask(unknown.clone()).await.refused(401, "server_key_invalid");
        }
        limited(&ask(unknown).await);
    }

    /// What only looks like a key must not change what is counted.
    async fn an_unknown_key_does_not_lift_the_limit(backend, |config| { behind_proxy(config); config.requests_per_minute = 4; config.logins_per_minute = 0; }) {
        let well_formed = backend_server::server_keys::generate("live").expect("key");
        for (address, key) in [("203.0.113.1", "gsk_x"), ("203.0.113.2", "gak_x"), ("203.0.113.3", well_formed.as_str())] {
            let ask = || {
                let request = backend.request(Method::GET, "/.well-known/jwks.json").bearer_auth(key);
                backend.send(request.header("x-forwarded-for", address))
            };
            for _ in 0..2 {
                ask().await.expect(200);
            }
            limited(&ask().await);
        }
        // A good one is not counted, nor held up by others at its address.
        let serve = || {
            let request = backend.request(Method::GET, "/v1/rooms").bearer_auth(&backend.key);
            backend.send(request.header("x-forwarded-for", "203.0.113.4"))
        };
        for _ in 0..5 {
            serve().await.expect(200);
        }
        let stranger = || {
            let request = backend.request(Method::GET, "/.well-known/jwks.json");
            backend.send(request.header("x-forwarded-for", "203.0.113.4"))
        };
        while stranger().await.status == 200 {}
        for _ in 0..5 {
            serve().await.expect(200);
        }
    }

    async fn the_owner_gets_in_from_a_new_place_while_others_try(backend, |config| { behind_proxy(config); config.logins_per_minute = 0; }) {
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        post_from(backend, "203.0.113.1", "/v1/auth/register", &account).await.expect(201);
        let login = |password: &str| json!({"email": "ada@example.org", "password": password});
        // As many addresses as a network has.
        let mut refused = 0;
        for host in 0..70 {
            let answer = post_from(backend, &format!("198.51.100.{host}"), "/v1/auth/password", &login("incorrect")).await;
            refused += u32::from(answer.status == 429);
        }
        assert!(refused > 10, "{refused}");
        post_from(backend, "192.0.2.1", "/v1/auth/password", &login("correct horse")).await.expect(200);
    }

    async fn strangers_cannot_lock_an_account(backend, |config| { behind_proxy(config); config.logins_per_minute = 0; }) {
        let account = json!({"email": "ada@example.org", "password": "correct horse", "display_name": "Ada"});
        post_from(backend, "203.0.113.1", "/v1/auth/register", &account).await.expect(201);
        let right = json!({"email": "ada@example.org", "password": "correct horse"});
        let mut looked_at = Vec::new();
        for email in ["ada@example.org", "nobody@example.org"] {
            let wrong = json!({"email": email, "password": "incorrect"});
            let mut tries = 0;
            let mut answer = post_from(backend, "198.51.100.1", "/v1/auth/password", &wrong).await;
            while answer.status == 401 && tries < 100 {
                answer.refused(401, "invalid_credentials");
                tries += 1;
                answer = post_from(backend, "198.51.100.1", "/v1/auth/password", &wrong).await;
            }
            limited(&answer);
            looked_at.push(tries);
        }
        assert!(looked_at.iter().all(|tries| (10..20).contains(tries)), "with and without an account: {looked_at:?}");
        // Where the owner was before, the strangers' attempts do not count.
        post_from(backend, "203.0.113.1", "/v1/auth/password", &right).await.expect(200);
    }

    async fn pages_of_allowed_origins_may_call(backend, |config| config.allowed_origins = vec!["https://play.example.org".parse().expect("origin")]) {
        let preflight = |origin: &'static str| {
            let request = backend.request(Method::OPTIONS, "/v1/auth/anonymous").header("origin", origin);
            backend.send(request.header("access-control-request-method", "POST").header("access-control-request-headers", "content-type,idempotency-key"))
        };
        let good = preflight("https://play.example.org").await;
        assert_eq!(good.status, 200);
        assert_eq!(good.headers["access-control-allow-origin"], "https://play.example.org");
        assert!(good.headers["access-control-allow-headers"].to_str().expect("text").contains("idempotency-key"));
        assert!(!good.headers.contains_key("access-control-allow-credentials"));
        assert!(!preflight("https://evil.example.org").await.headers.contains_key("access-control-allow-origin"));
        // A refusal can be read by the page as well.
        let refused = backend.send(backend.request(Method::GET, "/v1/rooms").header("origin", "https://play.example.org")).await;
        refused.refused(401, "unauthorized");
        assert_eq!(refused.headers["access-control-allow-origin"], "https://play.example.org");
    }

    async fn replies_tell_browsers_what_they_are_not(backend) {
        let answer = backend.post("/v1/auth/anonymous", "", &json!({})).await;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert!(answer.headers["content-security-policy"].to_str().expect("text").contains("default-src 'none'"));
        let jwks = backend.get("/.well-known/jwks.json", "").await;
        assert!(jwks.headers["cache-control"].to_str().expect("text").contains("max-age"));
    }
}

/// Everything the other end sends until it closes the connection. Waits for that as long as it takes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => {}
        // What we had not sent yet was thrown away.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn impatient() -> Backend {
    Backend::on_sqlite_with(|config| config.slow_client_seconds = 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_and_a_slow_head_are_closed() {
    let backend = impatient().await;
    for begin in ["", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: a"] {
        let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
        stream.write_all(begin.as_bytes()).await.expect("sent");
        assert!(!until_closed(&mut stream).await.contains("200"), "{begin:?}");
    }
    // Trickling does not help: the head as a whole has to be there.
    let (mut reading, mut writing) =
        TcpStream::connect(backend.address()).await.expect("connects").into_split();
    let trickle = tokio::spawn(async move {
        let head = "GET /healthz HTTP/1.1\r\n".to_owned() + &"x-slow: a\r\n".repeat(100_000);
        for byte in head.bytes() {
            if writing.write_all(&[byte]).await.is_err() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    });
    let mut rest = Vec::new();
    if let Err(error) = reading.read_to_end(&mut rest).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(trickle.await.expect("trickled"), "the connection was closed while the head was coming");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_body_is_refused() {
    let backend = impatient().await;
    let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
    let head = "POST /v1/auth/anonymous HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let reply = until_closed(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("request_timeout"), "{reply}");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_a_reply_loses_the_connection() {
    let backend = impatient().await;
    let stream = TcpStream::connect(backend.address()).await.expect("connects");
    let (reading, mut writing) = stream.into_split();
    // Ask and never read: sooner or later nothing more fits, and a write fails because the connection is gone.
    while writing.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {}
    drop(reading);
    backend.send(backend.request(Method::GET, "/healthz")).await.expect(200);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lives_between_requests() {
    let backend = impatient().await;
    let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut bytes = [0_u8; 4096];
    for _ in 0..2 {
        stream.write_all(request).await.expect("sent");
        let read = stream.read(&mut bytes).await.expect("a reply");
        assert!(bytes[..read].starts_with(b"HTTP/1.1 200"));
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(until_closed(&mut stream).await, "", "closed in the end, without a word");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_and_bodies_are_refused() {
    let backend = Backend::on_sqlite().await;
    for head in [
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "a".repeat(64 * 1024)),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: a\r\n".repeat(64)),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: a\r\n".repeat(100)),
    ] {
        let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
        // It may be refused before all of it is sent.
        let _sent = stream.write_all(head.as_bytes()).await;
        let reply = until_closed(&mut stream).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431"), "{reply}");
    }
    // As many headers as there may be.
    let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
    let many = "x-many: a\r\n".repeat(62);
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{many}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let reply = until_closed(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    // Refused by what it announces, before any of it is read.
    let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
    let head = "POST /v1/auth/anonymous HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let reply = until_closed(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    backend.stop().await;
}

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// A connection through which something was asked.
async fn used(backend: &Backend) -> TcpStream {
    let mut stream = TcpStream::connect(backend.address()).await.expect("connects");
    stream.write_all(HEALTHZ).await.expect("sent");
    assert!(stream.read(&mut [0_u8; 1024]).await.expect("a reply") > 0);
    stream
}

/// A connection with a request in progress: its body does not come.
async fn busy(backend: &Backend) -> TcpStream {
    let mut stream = used(backend).await;
    let head = "POST /v1/auth/anonymous HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    // It is asked for when the request is being handled.
    let mut bytes = [0_u8; 1024];
    let read = stream.read(&mut bytes).await.expect("a word");
    assert!(bytes[..read].starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&bytes[..read]));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_idle_connection_makes_room() {
    let backend = Backend::on_sqlite_with(|config| config.max_connections = 3).await;
    let mut first = used(&backend).await;
    let mut second = used(&backend).await;
    let mut silent = TcpStream::connect(backend.address()).await.expect("connects");
    // Who never asked for anything goes first, then who has been idle longest.
    let _third = used(&backend).await;
    assert_eq!(until_closed(&mut silent).await, "");
    let _fourth = used(&backend).await;
    assert_eq!(until_closed(&mut first).await, "");
    // One that is used meanwhile stays. The backend notes the end of a request after the client has its reply, and counts in
    // milliseconds: only what lies well apart is in order.
    tokio::time::sleep(Duration::from_millis(100)).await;
    second.write_all(HEALTHZ).await.expect("sent");
    assert!(second.read(&mut [0_u8; 1024]).await.expect("a reply") > 0);
    let _fifth = used(&backend).await;
    second.write_all(HEALTHZ).await.expect("sent");
    assert!(second.read(&mut [0_u8; 1024]).await.expect("a reply") > 0);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_in_progress_makes_room() {
    let backend = Backend::on_sqlite_with(|config| config.max_connections = 2).await;
    let mut held = [busy(&backend).await, busy(&backend).await];
    let mut third = TcpStream::connect(backend.address()).await.expect("connects");
    assert_eq!(until_closed(&mut third).await, "");
    for stream in &mut held {
        stream.write_all(b"{}").await.expect("still there");
    }
    drop(held);
    // The places are free again once the backend has noticed.
    loop {
        match backend.http.get(format!("http://{}/healthz", backend.address())).send().await {
            Ok(reply) if reply.status() == 200 => break,
            _ => tokio::task::yield_now().await,
        }
    }
    backend.stop().await;
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Asks for `/healthz` in HTTP/2 and then only pings, with these first settings. Gives whether there was a reply, once the
/// connection was closed.
async fn asked_once_then_pings(backend: &Backend, settings: &[u8]) -> bool {
    const PING: u8 = 6;
    let (mut reading, mut writing) =
        TcpStream::connect(backend.address()).await.expect("connects").into_split();
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(4, 0, 0, settings));
    // GET, http, :path and :authority in HPACK; the end of the head and of the stream.
    begin.extend(frame(1, 0x5, 1, b"\x82\x86\x04\x08/healthz\x41\x01x"));
    writing.write_all(&begin).await.expect("sent");
    let pings = tokio::spawn(async move {
        while writing.write_all(&frame(PING, 0, 0, b"12345678")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut received = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(120), reading.read_to_end(&mut received)).await;
    assert!(closed.is_ok(), "pings kept the connection for two minutes");
    pings.await.expect("pinged");
    received.windows(3).any(|window| window == b"ok\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_do_not_keep_a_connection() {
    let backend = impatient().await;
    assert!(asked_once_then_pings(&backend, &[]).await, "a reply");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_a_reply_that_nobody_takes() {
    let backend = impatient().await;
    // SETTINGS_INITIAL_WINDOW_SIZE 0: nothing of a body may be sent.
    assert!(!asked_once_then_pings(&backend, &[0, 4, 0, 0, 0, 0]).await);
    backend.stop().await;
}
