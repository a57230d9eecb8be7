//! Keys that are rotated, withdrawn, cached, and kept through outages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backend_client::platform::storage::MemoryStorage;
use backend_client::platform::storage::Storage;
use backend_client::test_util::SimulatedClock;
use backend_client::validation::jwks::KeyCache;
use backend_protocol::validation::Jwks;
use backend_simulation::{SimulatedBackend, Trouble, server_key};
use backend_token::SigningKey;
use serde_json::{Value, json};
use tokio::sync::watch;

/// In 2096: later than any build.
const NOW: u64 = 4_000_000_000;

struct Bench {
    backend: Arc<SimulatedBackend>,
    storage: Arc<MemoryStorage>,
    clock: Arc<SimulatedClock>,
}

fn new_key() -> SigningKey {
    SigningKey::generate().expect("a key")
}

impl Bench {
    fn publishing(keys: &[&SigningKey]) -> Self {
        let clock = Arc::new(SimulatedClock::starting_at(NOW));
        let bench = Self { backend: SimulatedBackend::new(), storage: Arc::default(), clock };
        bench.publish(keys);
        bench
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let keys = keys.iter().map(|key| key.jwk()).collect();
        self.backend.state.lock().expect("not poisoned").jwks = Some(Jwks { keys });
    }

    fn cache(&self) -> KeyCache {
        let storage: Arc<dyn Storage> = self.storage.clone();
        KeyCache::new("us", self.backend.clone(), storage, self.clock.clone(), Some(&server_key()))
    }

    fn fetches(&self) -> usize {
        self.backend.calls.load(Ordering::SeqCst)
    }

    /// Until there is a copy on disk with these names of withdrawn keys.
    async fn kept(&self, withdrawn: &[&str]) {
        loop {
            let sealed = self.storage.read("simulated.jwks").expect("readable");
            let content = sealed.map(|sealed| {
                let sealed: Value = serde_json::from_slice(&sealed).expect("JSON");
                let content = sealed["content"].as_str().expect("text");
                serde_json::from_str::<Value>(content).expect("JSON")
            });
            if content.is_some_and(|content| content["withdrawn"] == json!(withdrawn)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn holds(cache: &KeyCache, key: &SigningKey) -> bool {
    cache.keys_for(key.kid()).await.is_ok_and(|keys| keys.contains(key.kid()))
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// Lets tasks that were spawned have their turns.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_it_is_first_seen() {
    let (old, new) = (new_key(), new_key());
    let bench = Bench::publishing(&[&old]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    bench.publish(&[&old, &new]);
    assert!(!holds(&cache, &new).await, "asked 0 s ago");
    pass(31).await;
    assert!(holds(&cache, &new).await && holds(&cache, &old).await);
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_ahead_of_their_time_without_making_anybody_wait() {
    let (old, new) = (new_key(), new_key());
    let bench = Bench::publishing(&[&old]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    assert_eq!(bench.fetches(), 1);
    bench.publish(&[&old, &new]);
    pass(400).await;
    assert!(holds(&cache, &old).await);
    settle().await;
    assert_eq!(bench.fetches(), 1, "still fresh");
    pass(150).await;
    // Whoever finds them old gets what there is; the refresh runs beside.
    for _ in 0..100 {
        assert!(holds(&cache, &old).await);
    }
    settle().await;
    assert_eq!(bench.fetches(), 2, "one refresh for all");
    assert!(holds(&cache, &new).await);
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_set_is_good_for_another_while() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    for hour in 0..48 {
        pass(3_600).await;
        assert!(holds(&cache, &key).await, "hour {hour}");
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_is_away_keys_are_good_for_a_day() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    bench.backend.set_outage(Some(Trouble::LostRequest));
    for _ in 0..23 {
        pass(3_600).await;
        assert!(holds(&cache, &key).await);
        settle().await;
    }
    pass(3_600).await;
    assert_eq!(cache.keys_for(key.kid()).await.expect_err("too old").code(), "network");
}

#[tokio::test(start_paused = true)]
async fn a_million_unknown_names_cost_three_fetches_a_minute() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    let before = bench.fetches();
    for number in 0..1_000_000 {
        tokio::time::advance(Duration::from_micros(60)).await;
        assert!(!cache.keys_for(&format!("unknown-{number}")).await.expect("keys").contains("unknown"));
    }
    assert!(bench.fetches() - before <= 3, "{} fetches", bench.fetches() - before);
}

#[tokio::test(start_paused = true)]
async fn a_name_the_issuer_does_not_know_is_asked_for_once() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    let stranger = new_key();
    for _ in 0..10 {
        pass(31).await;
        assert!(!holds(&cache, &stranger).await);
    }
    assert_eq!(bench.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_any_key_a_flood_is_not_passed_on_either() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    bench.backend.set_outage(Some(Trouble::LostRequest));
    let cache = bench.cache();
    for _ in 0..1_000 {
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(cache.keys_for(key.kid()).await.expect_err("away").code(), "network");
    }
    assert!(bench.fetches() <= 11, "{} in 10 s", bench.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_set_without_usable_keys_replaces_nothing() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    bench.publish(&[]);
    pass(3_600).await;
    for _ in 0..3 {
        assert!(holds(&cache, &key).await);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_dropped_at_once_and_does_not_come_back() {
    let (leaked, new) = (new_key(), new_key());
    let bench = Bench::publishing(&[&leaked]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    let (tell, told) = watch::channel(None);
    cache.follow(told.clone());
    cache.follow(told);
    settle().await;
    assert!(holds(&cache, &leaked).await, "nothing was said yet");

    // A cache on the way still has the old set when the new one is fetched.
    bench.publish(&[&leaked, &new]);
    pass(2).await;
    tell.send_replace(Some([new.kid().to_owned()].into()));
    settle().await;
    assert!(!holds(&cache, &leaked).await);
    assert!(holds(&cache, &new).await, "fetched because it was named");

    // Nor does a restart in an outage bring it back.
    bench.kept(&[leaked.kid()]).await;
    bench.backend.set_outage(Some(Trouble::Unavailable));
    let restarted = bench.cache();
    restarted.prepare().await.expect("from disk");
    assert!(holds(&restarted, &new).await && !holds(&restarted, &leaked).await);
}

#[tokio::test(start_paused = true)]
async fn a_named_key_that_a_slow_replica_does_not_publish_yet_is_fetched_with_the_next_beat() {
    let (old, new) = (new_key(), new_key());
    let bench = Bench::publishing(&[&old]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    let (tell, told) = watch::channel(None);
    cache.follow(told);
    let named: Arc<[String]> = [old.kid().to_owned(), new.kid().to_owned()].into();
    pass(2).await;
    tell.send_replace(Some(Arc::clone(&named)));
    settle().await;
    assert!(!holds(&cache, &new).await);
    bench.publish(&[&old, &new]);
    pass(30).await;
    tell.send_replace(Some(named));
    settle().await;
    assert!(holds(&cache, &new).await && holds(&cache, &old).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_withdrawn_by_mistake_can_be_named_again() {
    let (first, second) = (new_key(), new_key());
    let bench = Bench::publishing(&[&first, &second]);
    let cache = bench.cache();
    cache.prepare().await.expect("keys");
    let names = |keys: &[&SigningKey]| keys.iter().map(|key| key.kid().to_owned()).collect::<Vec<_>>();
    let (tell, told) = watch::channel(None);
    cache.follow(told);
    tell.send_replace(Some(names(&[&second]).into()));
    settle().await;
    assert!(!holds(&cache, &first).await);
    pass(2).await;
    tell.send_replace(Some(names(&[&first, &second]).into()));
    settle().await;
    assert!(holds(&cache, &first).await && holds(&cache, &second).await);
}

#[tokio::test(start_paused = true)]
async fn keys_on_disk_admit_players_after_a_restart_in_an_outage() {
    let key = new_key();
    let bench = Bench::publishing(&[&key]);
    bench.cache().prepare().await.expect("keys");
    bench.kept(&[]).await;
    bench.backend.set_outage(Some(Trouble::Unavailable));
    let restarted = bench.cache();
    restarted.prepare().await.expect("from disk");
    assert!(holds(&restarted, &key).await);
    pass(24 * 3_600).await;
    assert!(restarted.keys_for(key.kid()).await.is_err(), "a day is the end");
    assert!(bench.cache().prepare().await.is_err(), "also for one that starts then");
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_somebody_else_wrote_is_not_used() {
    let (key, forged) = (new_key(), new_key());
    let bench = Bench::publishing(&[&forged]);
    // Somebody without the server key, whose own backend publishes the forged one.
    let storage: Arc<dyn Storage> = bench.storage.clone();
    let other = KeyCache::new("us", bench.backend.clone(), storage, bench.clock.clone(), None);
    other.prepare().await.expect("keys");
    bench.kept(&[]).await;
    bench.publish(&[&key]);
    bench.backend.set_outage(Some(Trouble::Unavailable));
    assert_eq!(bench.cache().prepare().await.expect_err("not used").code(), "unavailable");
}
