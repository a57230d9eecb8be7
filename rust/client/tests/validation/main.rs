//! Tickets and keys when the backend is there, and when it is not.

mod jwks;

use std::sync::Arc;

use backend_client::platform::storage::MemoryStorage;
use backend_client::registration::Registration;
use backend_client::test_util;
use backend_client::test_util::SimulatedClock;
use backend_client::validation::*;
use backend_simulation::{SimulatedBackend, Trouble, server_key};
use backend_token::SigningKey;
use serde_json::json;

/// In 2096: later than any build.
const NOW: u64 = 4_000_000_000;

struct Bench {
    backend: Arc<SimulatedBackend>,
    storage: Arc<MemoryStorage>,
    signer: SigningKey,
}

impl Bench {
    fn new() -> Self {
        let signer = SigningKey::generate().expect("a key");
        let backend = SimulatedBackend::new();
        backend.state.lock().expect("not poisoned").jwks =
            Some(backend_protocol::validation::Jwks { keys: vec![signer.jwk()] });
        Self { backend, storage: Arc::default(), signer }
    }

    fn validator(&self, policy: Policy) -> TokenValidator {
        let config = ValidatorConfig {
            issuer: "us".into(),
            game: "default".into(),
            policy,
            server_key: Some(server_key()),
        };
        let clock = Arc::new(SimulatedClock::starting_at(NOW));
        TokenValidator::new(self.backend.clone(), self.storage.clone(), clock, config)
    }

    fn ticket(&self, jti: &str) -> String {
        ticket_of(&self.signer, jti)
    }

    fn calls(&self) -> usize {
        self.backend.calls.load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn ticket_of(signer: &SigningKey, jti: &str) -> String {
    signed(signer, signer.kid(), jti)
}

/// A ticket that says it was signed with the key `kid`.
fn signed(signer: &SigningKey, kid: &str, jti: &str) -> String {
    let header = json!({"alg": "EdDSA", "typ": "join+jwt", "kid": kid}).to_string();
    let claims = json!({"iss": "us", "sub": "ada", "aud": "server-1", "exp": NOW + 60, "iat": NOW, "jti": jti, "name": "Ada"});
    signer.sign_parts(header.as_bytes(), claims.to_string().as_bytes()).expect("signed")
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_consumed_at_the_backend() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    let ticket = bench.ticket("1");
    assert_eq!(validator.validate(&ticket, Some("server-1")).await.expect("good").player_id, "ada");
    assert_eq!(validator.validate(&ticket, Some("server-1")).await.expect_err("used").code(), "ticket_used");
    // Another process of the same server that knows nothing asks, and hears the same.
    let other = bench.validator(Policy::LocalFirst);
    assert_eq!(other.validate(&ticket, Some("server-1")).await.expect_err("used").code(), "ticket_used");
}

#[tokio::test(start_paused = true)]
async fn without_the_backend_a_ticket_is_still_used_once() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    validator.prepare().await.expect("keys");
    bench.backend.set_outage(Some(Trouble::LostRequest));
    let ticket = bench.ticket("1");
    validator.validate(&ticket, Some("server-1")).await.expect("verified here");
    assert_eq!(validator.validate(&ticket, Some("server-1")).await.expect_err("used").code(), "ticket_used");
    let strict = bench.validator(Policy::RemoteOnly);
    assert_eq!(
        strict.validate(&bench.ticket("2"), Some("server-1")).await.expect_err("away").code(),
        "network"
    );
}

#[tokio::test(start_paused = true)]
async fn a_ticket_for_another_server_costs_no_call() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    validator.prepare().await.expect("keys");
    let before = bench.calls();
    let refused = validator.validate(&bench.ticket("1"), Some("server-2")).await.expect_err("not ours");
    assert_eq!((refused.code(), bench.calls()), ("token_invalid", before));
    let refused = validator.validate(&bench.ticket("1"), None).await.expect_err("not registered");
    assert_eq!(refused.code(), "not_registered");
}

#[tokio::test(start_paused = true)]
async fn clocks_that_differ_are_named_as_the_reason_and_change_no_verdict() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    bench.backend.clock_difference.store(90, std::sync::atomic::Ordering::SeqCst);
    validator.validate(&bench.ticket("1"), Some("server-1")).await.expect("good by this clock");
    let foreign = validator.validate(&bench.ticket("2"), Some("server-2")).await.expect_err("not ours");
    assert!(!foreign.message.contains("clock"), "{}", foreign.message);
    tokio::time::advance(std::time::Duration::from_secs(66)).await;
    let refused = validator.validate(&bench.ticket("3"), Some("server-1")).await.expect_err("old");
    assert_eq!(refused.code(), "token_expired");
    assert!(refused.message.contains("90 s ahead of that of the backend"), "{}", refused.message);
    // Issued in what is the future for a clock that is behind.
    bench.backend.clock_difference.store(-90, std::sync::atomic::Ordering::SeqCst);
    let config = ValidatorConfig {
        issuer: "us".into(),
        game: "default".into(),
        policy: Policy::LocalFirst,
        server_key: Some(server_key()),
    };
    let clock = Arc::new(SimulatedClock::starting_at(NOW - 90));
    let behind = TokenValidator::new(bench.backend.clone(), bench.storage.clone(), clock, config);
    let refused = behind.validate(&bench.ticket("4"), Some("server-1")).await.expect_err("not yet");
    assert_eq!(refused.code(), "token_invalid");
    assert!(refused.message.contains("90 s behind that of the backend"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_expires() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    tokio::time::advance(std::time::Duration::from_secs(66)).await;
    let refused = validator.validate(&bench.ticket("1"), Some("server-1")).await.expect_err("old");
    assert_eq!(refused.code(), "token_expired");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_is_not_passed_on() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalFirst);
    validator.prepare().await.expect("keys");
    let before = bench.calls();
    for number in 0..5_000 {
        tokio::time::advance(std::time::Duration::from_millis(12)).await;
        let forged = signed(&bench.signer, &format!("unknown-{number}"), "1");
        assert_eq!(
            validator.validate(&forged, Some("server-1")).await.expect_err("forged").code(),
            "token_invalid"
        );
    }
    // One minute.
    assert!(bench.calls() - before <= 3, "{} fetches", bench.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tickets_forgets_none_that_could_be_used_again() {
    let bench = Bench::new();
    let validator = bench.validator(Policy::LocalOnly);
    validator.prepare().await.expect("keys");
    for number in 0..MAX_REMEMBERED {
        validator.validate(&bench.ticket(&number.to_string()), Some("server-1")).await.expect("new");
    }
    let refused = validator.validate(&bench.ticket("one more"), Some("server-1")).await.expect_err("full");
    assert_eq!(refused.code(), "rate_limited");
    let refused = validator.validate(&bench.ticket("0"), Some("server-1")).await.expect_err("replayed");
    assert_ne!(refused.code(), "token_expired");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_is_refused_and_a_later_one_is_not() {
    let bench = Bench::new();
    let registration = Registration::new(
        bench.backend.clone(),
        Arc::new(SimulatedClock::starting_at(NOW)),
        server_key(),
        std::time::Duration::from_secs(10),
        Arc::new(|_| ()),
    );
    let ended = |before| {
        let reason = backend_protocol::registration::RevocationReason::SessionsEnded;
        let revocation =
            backend_protocol::registration::Revocation { player_id: "ada".into(), reason, before };
        test_util::note_revocations(&registration, vec![revocation]);
    };
    let validator = bench.validator(Policy::LocalFirst);
    validator.follow(&registration);
    ended(NOW - 1);
    let player = validator.validate(&bench.ticket("1"), Some("server-1")).await.expect("issued later");
    assert_eq!(player.issued_at, NOW);
    let before = bench.calls();
    ended(NOW);
    let refused = validator.validate(&bench.ticket("2"), Some("server-1")).await.expect_err("ended");
    assert_eq!((refused.code(), bench.calls()), ("token_invalid", before));
    // Whom the backend vouched for is judged by the same time later on.
    let remote = bench.validator(Policy::RemoteOnly);
    let player = remote.validate(&bench.ticket("3"), Some("server-1")).await.expect("vouched for");
    assert_eq!(player.issued_at, NOW);
}
