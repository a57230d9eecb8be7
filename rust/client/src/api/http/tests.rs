//! What is repeated, how long, and what is made of replies that are none.

use std::collections::VecDeque;
use std::sync::Mutex;

use proptest::prelude::*;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use backend_protocol::rooms::RequestTicket;

use super::*;
use crate::platform::clock::SystemClock;
use crate::platform::secret::example_key as server_key;

type Script = Result<HttpReply, TransportError>;

/// Answers from a script, and keeps what it was sent.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Script>>,
    sent: Mutex<Vec<HttpRequest>>,
}

#[async_trait]
impl Transport for Scripted {
    async fn send(&self, request: HttpRequest) -> Result<HttpReply, TransportError> {
        self.sent.lock().expect("not poisoned").push(request);
        let answer = self.answers.lock().expect("not poisoned").pop_front();
        match answer {
            Some(answer) => answer,
            // Nothing more in the script: never answers.
            None => std::future::pending().await,
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "an entry of a script")]
fn reply(status: u16, media_type: &'static str, body: &str) -> Script {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
    Ok(HttpReply { status, headers, body: body.as_bytes().to_vec() })
}

fn problem(code: backend_protocol::Code) -> Script {
    let problem = Problem::new(code, "said so");
    reply(problem.status, problem::MEDIA_TYPE, &serde_json::to_string(&problem).expect("serialises"))
}

fn backend(answers: Vec<Script>) -> (HttpBackend, Arc<Scripted>) {
    let transport = Arc::new(Scripted { answers: Mutex::new(answers.into()), sent: Mutex::default() });
    let config = Config { base_url: "http://127.0.0.1:1/prefix".into(), ..Config::default() };
    (HttpBackend::new(config, transport.clone(), Arc::new(SystemClock)).expect("configured"), transport)
}

fn broken() -> Script {
    Err(TransportError::Broken("reset".into()))
}

const ROOMS: &str = r#"{"rooms":[]}"#;

#[tokio::test(start_paused = true)]
async fn what_is_harmless_twice_is_repeated() {
    let (backend, sent) = backend(vec![
        broken(),
        problem(backend_protocol::Code::Unavailable),
        reply(200, "application/json", ROOMS),
    ]);
    backend.rooms("token", &RoomQuery::default()).await.expect("third time");
    let sent = sent.sent.lock().expect("not poisoned");
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].url.path(), "/prefix/v1/rooms");
    let ids: Vec<_> = sent.iter().map(|request| request.headers[transport::REQUEST_ID].clone()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one id for the whole call");
}

#[tokio::test(start_paused = true)]
async fn what_makes_something_is_repeated_under_one_key() {
    let session = r#"{"player_id":"a","display_name":"A","access_token":"t","expires_in":600,"refresh_token":"r","refresh_expires_in":600,"created":true}"#;
    let (backend, sent) = backend(vec![broken(), reply(200, "application/json", session)]);
    backend.login_anonymous(&AnonymousLogin::default()).await.expect("second time");
    let sent = sent.sent.lock().expect("not poisoned");
    assert_eq!(sent[0].headers[transport::IDEMPOTENCY_KEY], sent[1].headers[transport::IDEMPOTENCY_KEY]);
}

#[tokio::test(start_paused = true)]
async fn a_password_is_not_sent_twice_unless_it_was_never_received() {
    let login = PasswordLogin { email: "a@b".into(), password: "12345678".into() };
    let (once, sent) = backend(vec![broken()]);
    assert_eq!(once.login_password(&login).await.err().map(|error| error.code()), Some("network"));
    assert_eq!(sent.sent.lock().expect("not poisoned").len(), 1);
    let unsent = Err(TransportError::Connect("refused".into()));
    let (again, sent) = backend(vec![unsent, problem(backend_protocol::Code::InvalidCredentials)]);
    assert_eq!(
        again.login_password(&login).await.err().map(|error| error.code()),
        Some("invalid_credentials")
    );
    assert_eq!(sent.sent.lock().expect("not poisoned").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_is_no() {
    for code in [
        backend_protocol::Code::Unauthorized,
        backend_protocol::Code::RoomFull,
        backend_protocol::Code::InvalidField,
    ] {
        let (backend, sent) = backend(vec![problem(code)]);
        let error = backend.ticket("token", "room", &RequestTicket::default()).await.err().expect("refused");
        assert_eq!((error.code(), error.retryable), (code.as_str(), false));
        assert_eq!(sent.sent.lock().expect("not poisoned").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_and_never_outlasts_the_deadline() {
    let busy = |seconds: &'static str| {
        let Ok(mut reply) = problem(backend_protocol::Code::RateLimited) else { unreachable!() };
        reply.headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        Ok(reply)
    };
    let (patient, _) = backend(vec![busy("3"), reply(200, "application/json", ROOMS)]);
    let begun = Instant::now();
    patient.rooms("token", &RoomQuery::default()).await.expect("after three seconds");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let (busy_for_long, sent) = backend(vec![busy("60")]);
    let error = busy_for_long.rooms("token", &RoomQuery::default()).await.expect_err("too long");
    assert_eq!((error.code(), error.retry_after), ("rate_limited", Some(Duration::from_secs(60))));
    assert_eq!(sent.sent.lock().expect("not poisoned").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline() {
    let (backend, _) = backend(vec![]);
    let begun = Instant::now();
    let error = backend.rooms("token", &RoomQuery::default()).await.expect_err("silence");
    assert_eq!((error.code(), error.retryable), ("timeout", true));
    assert!(begun.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_none_are_typed_errors_without_their_content() {
    for (status, media_type, body) in [
        (200, "application/json", "{"),
        (200, "application/json", "[]"),
        (200, "text/html", "<secret>"),
        (200, "application/json", r#"{"rooms":"secret"}"#),
        (400, "text/html", "<secret>"),
        (404, problem::MEDIA_TYPE, "secret"),
        (302, "text/plain", ""),
        (999, "text/plain", ""),
    ] {
        let (backend, _) = backend(vec![reply(status, media_type, body)]);
        let error = backend.rooms("token", &RoomQuery::default()).await.expect_err("not understood");
        assert_eq!((error.code(), error.http_status), ("bad_reply", Some(status)), "{body}");
        assert!(!error.message.contains("secret"));
    }
}

/// A reply of somebody else, with headers.
#[allow(clippy::unnecessary_wraps, reason = "an entry of a script")]
fn stranger(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Script {
    let headers = headers.iter().map(|(name, value)| {
        (reqwest::header::HeaderName::from_static(name), HeaderValue::from_static(value))
    });
    Ok(HttpReply { status, headers: headers.collect(), body: body.as_bytes().to_vec() })
}

#[tokio::test(start_paused = true)]
async fn replies_of_somebody_else_are_described_with_what_to_do() {
    const PAGE: &str = "<!doctype html>\n<html><head><title>Hotel\nlogin</title></head></html>";
    let redirect = [("location", "https://login.example.org/?token=secret")];
    for (answer, words) in [
        (
            stranger(200, &[("content-type", "text/html; charset=utf-8")], PAGE),
            ["\"Hotel login\"", "captive portal"],
        ),
        (stranger(302, &redirect, ""), ["a redirect to https://login.example.org/.", "set base_url"]),
        (
            stranger(503, &[("server", "awselb/2.0"), ("content-type", "text/html")], "<html></html>"),
            ["status 503 from \"awselb/2.0\" and a web page", "load balancer"],
        ),
        (stranger(511, &[], PAGE), ["status 511", "captive portal"]),
        (stranger(404, &[("content-type", "text/plain")], "nothing"), ["and text/plain", "path of base_url"]),
        (stranger(200, &[], "\u{1}"), ["no reply of the backend", "what stands between"]),
    ] {
        let (backend, _) = backend(vec![answer]);
        let backend = HttpBackend { config: Config { retry_attempts: 0, ..backend.config }, ..backend };
        let error = backend.rooms("token", &RoomQuery::default()).await.expect_err("not the backend");
        assert_eq!(error.code(), "bad_reply");
        assert!(
            error.message.contains("http://127.0.0.1:1/prefix/v1/rooms answered with status"),
            "{}",
            error.message
        );
        assert!(words.iter().all(|word| error.message.contains(word)), "{words:?}: {}", error.message);
        assert!(!error.message.contains("secret"), "{}", error.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_page_is_no_consent() {
    let page = || reply(200, "text/html", "<html>welcome</html>");
    let (backend, _) =
        backend(vec![page(), page(), reply(200, "application/json", "{}"), reply(204, "text/plain", "")]);
    let error = backend.deregister_server(&server_key(), "server").await.expect_err("a page");
    assert_eq!((error.code(), error.is_unanswered()), ("bad_reply", true));
    let release = ReleasePlayers { server_id: "server".into(), players: None };
    backend.release_players(&server_key(), &release).await.expect_err("a page");
    backend.deregister_server(&server_key(), "server").await.expect("said so in JSON");
    backend.deregister_server(&server_key(), "server").await.expect("said so with nothing");
}

#[tokio::test(start_paused = true)]
async fn a_busy_backend_that_names_no_time_is_not_asked_again_at_once() {
    for told in ["0", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let busy = || {
            let Ok(mut reply) = problem(backend_protocol::Code::Unavailable) else { unreachable!() };
            reply.headers.insert(RETRY_AFTER, HeaderValue::from_str(told).expect("header"));
            Ok(reply)
        };
        let (backend, sent) = backend((0..9).map(|_| busy()).collect());
        let begun = Instant::now();
        backend.rooms("token", &RoomQuery::default()).await.expect_err("busy");
        assert_eq!(sent.sent.lock().expect("not poisoned").len(), 4);
        // Half of 200 ms, of 400 ms and of 800 ms at least.
        assert!(begun.elapsed() >= Duration::from_millis(700), "four attempts in {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_difference_of_the_clocks_is_taken_from_replies_of_the_backend() {
    use crate::platform::clock::simulated::SimulatedClock;

    let dated = |script: Script| {
        let Ok(mut reply) = script else { unreachable!() };
        reply
            .headers
            .insert(reqwest::header::DATE, HeaderValue::from_static("Sun, 09 Sep 2001 01:46:40 GMT"));
        Ok(reply)
    };
    let page = dated(reply(200, "text/html", "<html></html>"));
    let refused = || dated(problem(backend_protocol::Code::Unauthorized));
    let (scripted, _) = backend(vec![page, refused(), refused()]);
    let clock = Arc::new(SimulatedClock::starting_at(1_000_000_091));
    let backend = HttpBackend { clock, ..scripted };
    let release = ReleasePlayers { server_id: "server".into(), players: None };
    backend.release_players(&server_key(), &release).await.expect_err("a page");
    assert_eq!(backend.clock_difference(), 0, "a stranger's clock is nobody's business");
    backend.rooms("token", &RoomQuery::default()).await.expect_err("refused");
    assert_eq!(backend.clock_difference(), 0, "a cache may have given it");
    backend.release_players(&server_key(), &release).await.expect_err("refused");
    assert_eq!(backend.clock_difference(), 90);
}

#[tokio::test(start_paused = true)]
async fn ids_cannot_leave_their_place_in_the_path() {
    let (backend, sent) = backend(vec![]);
    for id in ["../admin", "a/b", "", "a?b", "a%2f"] {
        let error = backend.room("token", id).await.expect_err("refused");
        assert_eq!((error.code(), error.field.as_deref()), ("invalid_field", Some("room_id")));
    }
    assert!(sent.sent.lock().expect("not poisoned").is_empty());
}

#[tokio::test(start_paused = true)]
async fn credentials_do_not_print() {
    let (backend, sent) = backend(vec![reply(204, "text/plain", "")]);
    backend.deregister_server(&server_key(), "server").await.expect("gone");
    let sent = sent.sent.lock().expect("not poisoned");
    assert!(!format!("{:?}", sent[0].headers).contains("0123456789abcdef"));
}

proptest! {
    #[test]
    fn no_sequence_of_faults_outlasts_the_deadline(faults in proptest::collection::vec(0u8..5, 0..20)) {
        let answers = faults.iter().map(|fault| match fault {
            0 => broken(),
            1 => Err(TransportError::Timeout),
            2 => problem(backend_protocol::Code::Unavailable),
            3 => problem(backend_protocol::Code::Internal),
            _ => Err(TransportError::Connect("refused".into())),
        });
        let answers: Vec<Script> = answers.collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let (backend, sent) = backend(answers);
            let begun = Instant::now();
            prop_assert!(backend.rooms("token", &RoomQuery::default()).await.is_err());
            prop_assert!(begun.elapsed() <= Duration::from_millis(10_010));
            prop_assert!(sent.sent.lock().expect("not poisoned").len() <= 4);
            Ok(())
        })?;
    }
}
