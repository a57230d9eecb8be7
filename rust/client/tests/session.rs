//! The session's rules: one flight, no wipe without the backend's word, durable before used.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use backend_client::error::ClientError;
use backend_client::platform::clock::SystemClock;
use backend_client::platform::storage::MemoryStorage;
use backend_client::platform::storage::Storage;
use backend_client::session::*;
use backend_protocol::Code;
use backend_simulation::{SimulatedBackend, Trouble};
use tokio::time::Instant;

fn session(
    backend: &Arc<SimulatedBackend>,
    storage: &Arc<MemoryStorage>,
) -> (Session, Arc<Mutex<Vec<Event>>>) {
    let news = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&news);
    let on_event: OnEvent = Arc::new(move |event| heard.lock().expect("not poisoned").push(event));
    (Session::new(backend.clone(), storage.clone(), Arc::new(SystemClock), "default", on_event), news)
}

async fn token(session: &Session) -> Result<String, ClientError> {
    session.authorized(|token| async move { Ok(token) }).await
}

#[tokio::test(start_paused = true)]
async fn callers_share_one_refresh() {
    let backend = SimulatedBackend::new();
    let (session, _news) = session(&backend, &Arc::default());
    session.login_anonymous(None).await.expect("logged in");
    assert_eq!(token(&session).await.expect("token"), "access-0");
    backend.set_outage(Some(Trouble::LostRequest));
    tokio::time::sleep(Duration::from_secs(700)).await;
    backend.set_outage(None);
    let tokens = tokio::join!(token(&session), token(&session), token(&session), token(&session));
    for token in [tokens.0, tokens.1, tokens.2, tokens.3] {
        assert_eq!(token.expect("token"), "access-1");
    }
    assert_eq!(backend.state.lock().expect("not poisoned").refresh_tokens_used, ["refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_renewed_ahead_of_their_end() {
    let backend = SimulatedBackend::new();
    let (session, news) = session(&backend, &Arc::default());
    session.login_anonymous(None).await.expect("logged in");
    let begun = Instant::now();
    while !news.lock().expect("not poisoned").contains(&Event::Refreshed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(600), "the token's own life");
    assert_eq!(token(&session).await.expect("token"), "access-1");
}

#[tokio::test(start_paused = true)]
async fn a_good_token_is_used_while_the_backend_is_away() {
    let backend = SimulatedBackend::new();
    let (session, _news) = session(&backend, &Arc::default());
    session.login_anonymous(None).await.expect("logged in");
    backend.set_outage(Some(Trouble::Unavailable));
    tokio::time::sleep(Duration::from_secs(550)).await;
    assert_eq!(token(&session).await.expect("still good"), "access-0");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(token(&session).await.expect_err("over").code(), "unavailable");
    assert!(session.account().is_some(), "away is not logged out");
    backend.set_outage(None);
    token(&session).await.expect("back");
}

#[tokio::test(start_paused = true)]
async fn only_the_backend_ends_a_session() {
    let backend = SimulatedBackend::new();
    let storage = Arc::default();
    let (session, news) = session(&backend, &storage);
    session.login_anonymous(None).await.expect("logged in");
    backend.state.lock().expect("not poisoned").revoked = true;
    assert_eq!(session.refresh().await.expect_err("over").code(), "refresh_token_invalid");
    assert!(session.account().is_none());
    assert!(matches!(news.lock().expect("not poisoned").last(), Some(Event::Expired(_))));
    assert_eq!(session.restore().await.expect_err("nothing kept").code(), "not_logged_in");
}

#[tokio::test(start_paused = true)]
async fn a_session_comes_back_after_a_restart_even_if_the_reply_was_lost() {
    let backend = SimulatedBackend::new();
    let storage = Arc::default();
    let (first, _news) = session(&backend, &storage);
    first.login_anonymous(None).await.expect("logged in");
    drop(first);
    let (second, _news) = session(&backend, &storage);
    backend.set_outage(Some(Trouble::LostReply));
    let account = second.restore().await.expect("the player is who it was");
    assert_eq!((account.player_id.as_str(), account.offline), ("ada", true));
    assert_eq!(token(&second).await.expect_err("nothing to show yet").code(), "timeout");
    backend.state.lock().expect("not poisoned").refresh_tokens_used.truncate(1);
    backend.set_outage(None);
    // The same token again: the backend gives the same successor.
    token(&second).await.expect("renewed");
    assert_eq!(second.account().map(|account| account.offline), Some(false));
    assert_eq!(backend.state.lock().expect("not poisoned").refresh_tokens_used, ["refresh-0", "refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_renewed_once() {
    let backend = SimulatedBackend::new();
    let (session, _news) = session(&backend, &Arc::default());
    session.login_anonymous(None).await.expect("logged in");
    let seen = Mutex::new(Vec::new());
    let outcome: Result<(), ClientError> = session
        .authorized(|token| {
            seen.lock().expect("not poisoned").push(token);
            async { Err(backend_protocol::Problem::new(Code::TokenExpired, "old").into()) }
        })
        .await;
    assert_eq!(outcome.expect_err("refused twice").code(), "token_expired");
    assert_eq!(*seen.lock().expect("not poisoned"), ["access-0", "access-1"]);
}

#[tokio::test(start_paused = true)]
async fn logout_forgets_here_even_when_the_backend_is_away() {
    let backend = SimulatedBackend::new();
    let storage = Arc::default();
    let (session, news) = session(&backend, &storage);
    session.login_anonymous(None).await.expect("logged in");
    backend.set_outage(Some(Trouble::LostRequest));
    session.logout().await.expect("logged out");
    assert_eq!(news.lock().expect("not poisoned").last(), Some(&Event::LoggedOut));
    assert_eq!(session.restore().await.expect_err("nothing kept").code(), "not_logged_in");
    assert_eq!(token(&session).await.expect_err("nobody").code(), "not_logged_in");
}

/// Where the simulated backend's session is kept.
const FILE: &str = "default.simulated.session";

/// Two processes that use one profile.
async fn two_windows(backend: &Arc<SimulatedBackend>) -> [Session; 2] {
    let storage = Arc::default();
    let (first, _news) = session(backend, &storage);
    first.login_anonymous(None).await.expect("logged in");
    let (second, _news) = session(backend, &storage);
    second.restore().await.expect("restored");
    [first, second]
}

#[tokio::test(start_paused = true)]
async fn of_several_processes_none_uses_a_refresh_token_that_another_has_used() {
    let backend = SimulatedBackend::new();
    let [first, second] = two_windows(&backend).await;
    for _ in 0..50 {
        let (one, other) = tokio::join!(first.refresh(), second.refresh());
        one.expect("renewed");
        other.expect("renewed");
        first.refresh().await.expect("renewed");
    }
    let used = backend.state.lock().expect("not poisoned").refresh_tokens_used.clone();
    let different: std::collections::HashSet<_> = used.iter().collect();
    assert_eq!((used.len(), different.len()), (151, 151), "each is used once");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_holds_the_profile_for_ever_ends_no_session() {
    let backend = SimulatedBackend::new();
    let storage: Arc<MemoryStorage> = Arc::default();
    let (first, _news) = session(&backend, &storage);
    first.login_anonymous(None).await.expect("logged in");
    let stopped = storage.try_lock(FILE).expect("asked");
    let stopped = stopped.expect("the name of the session's file");
    let error = first.refresh().await.expect_err("it is held");
    assert!(error.is_unanswered() && error.message.contains("--backend-profile="), "{error}");
    let (second, _news) = session(&backend, &storage);
    assert!(second.restore().await.expect("goes on").offline);
    drop(stopped);
    first.refresh().await.expect("renewed");
    second.refresh().await.expect("renewed");
}

#[tokio::test(start_paused = true)]
async fn another_players_session_on_disk_is_left_alone() {
    let backend = SimulatedBackend::new();
    let storage: Arc<MemoryStorage> = Arc::default();
    let (first, _news) = session(&backend, &storage);
    first.login_anonymous(None).await.expect("logged in");
    let other = br#"{"player_id":"bo","display_name":"Bo","refresh_token":"refresh-100"}"#;
    storage.write(FILE, other).expect("another process logged in somebody else");
    first.refresh().await.expect("renewed");
    backend.state.lock().expect("not poisoned").revoked = true;
    first.refresh().await.expect_err("over");
    assert_eq!(storage.read(FILE).expect("read").as_deref(), Some(&other[..]));
    assert_eq!(backend.state.lock().expect("not poisoned").refresh_tokens_used, ["refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn logging_out_ends_the_token_that_another_process_got() {
    let backend = SimulatedBackend::new();
    let [first, second] = two_windows(&backend).await;
    first.logout().await.expect("logged out");
    assert_eq!(second.refresh().await.expect_err("over").code(), "refresh_token_invalid");
    assert!(second.account().is_none());
}
