//! The store under faults: what was saved arrives, once, whatever the network does.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::SystemClock;
use crate::registration::ServerDescription;
use crate::simulation::{SimulatedBackend, Trouble, server_key};

type News = Arc<Mutex<Vec<Event>>>;

async fn store(backend: &Arc<SimulatedBackend>) -> (PlayerStore, News) {
    let backend: Arc<dyn Backend> = backend.clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let registration = Registration::new(
        Arc::clone(&backend),
        Arc::clone(&clock),
        server_key(),
        Duration::from_secs(10),
        Arc::new(|_| {}),
    );
    let description = ServerDescription {
        name: "Pond".into(),
        address: "127.0.0.1".into(),
        port: 1,
        map: String::new(),
        mode: String::new(),
        region: String::new(),
        version: String::new(),
        tags: Vec::new(),
        max_players: 2,
    };
    registration.register(description).await.expect("registered");
    registration.stop();
    let news = News::default();
    let heard = Arc::clone(&news);
    let on_event: OnEvent = Arc::new(move |event| heard.lock().expect("not poisoned").push(event));
    (PlayerStore::new(backend, clock, registration, Pace::default(), on_event), news)
}

fn content(number: i64) -> Content {
    json!({"n": number}).as_object().expect("object").clone()
}

fn stored(backend: &SimulatedBackend, player: &str, key: &str) -> Option<Content> {
    let state = backend.state.lock().expect("not poisoned");
    state.documents.get(&(player.to_owned(), key.to_owned())).map(|stored| stored.document.value.clone())
}

#[tokio::test(start_paused = true)]
async fn changes_close_together_travel_once() {
    let backend = SimulatedBackend::new();
    let (store, news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    for number in 1..=50 {
        store.save("ada", "progress", content(number)).expect("taken");
    }
    assert_eq!(store.dirty_count(), 1);
    let flushed = store.flush(None, Duration::from_secs(60)).await;
    assert_eq!(flushed, Flushed { saved: 1, unsaved: 0 });
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(50)));
    let news = news.lock().expect("not poisoned");
    assert_eq!(*news, [Event::Saved { player_id: "ada".into(), key: "progress".into(), version: 1 }]);
}

#[tokio::test(start_paused = true)]
async fn a_document_is_sent_without_being_asked_for() {
    let backend = SimulatedBackend::new();
    let (store, _news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    store.save("ada", "progress", content(1)).expect("taken");
    while store.dirty_count() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_applies_nothing_twice() {
    let backend = SimulatedBackend::new();
    let (store, _news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    backend.state.lock().expect("not poisoned").troubles = VecDeque::from([Some(Trouble::LostReply); 3]);
    store.save("ada", "progress", content(1)).expect("taken");
    assert_eq!(store.flush(None, Duration::from_secs(60)).await.unsaved, 0);
    let state = backend.state.lock().expect("not poisoned");
    let stored = &state.documents[&("ada".to_owned(), "progress".to_owned())];
    assert_eq!((stored.applied.len(), stored.document.version), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_everything_dirty_and_loses_nothing() {
    let backend = SimulatedBackend::new();
    let (store, news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    backend.set_outage(Some(Trouble::Unavailable));
    store.save("ada", "progress", content(1)).expect("taken");
    assert_eq!(store.flush(None, Duration::from_secs(30)).await, Flushed { saved: 0, unsaved: 1 });
    assert!(news.lock().expect("not poisoned").is_empty(), "nothing was claimed");
    backend.set_outage(None);
    assert_eq!(store.flush(None, Duration::from_secs(30)).await, Flushed { saved: 1, unsaved: 0 });
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_told_and_overwrites_nothing() {
    let backend = SimulatedBackend::new();
    let (store, news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    backend.state.lock().expect("not poisoned").holder.insert("ada".into(), ("server-2".into(), 2));
    store.save("ada", "progress", content(1)).expect("taken");
    assert_eq!(store.flush(None, Duration::from_secs(30)).await, Flushed { saved: 0, unsaved: 1 });
    assert_eq!(stored(&backend, "ada", "progress"), None);
    let told = matches!(&news.lock().expect("not poisoned")[..], [Event::SaveFailed { error, .. }] if error.code() == "lease_lost");
    assert!(told);
    assert_eq!(store.save("ada", "progress", content(2)).expect_err("refused").code(), "lease_lost");
    // Loading takes the player back, and what was dirty goes with the new epoch.
    store.load("ada").await.expect("loaded");
    assert_eq!(store.flush(None, Duration::from_secs(30)).await.unsaved, 0);
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
}

#[tokio::test(start_paused = true)]
async fn bad_documents_are_refused_by_name_and_change_nothing() {
    let backend = SimulatedBackend::new();
    let (store, _news) = store(&backend).await;
    assert_eq!(store.save("ada", "progress", content(1)).expect_err("refused").code(), "not_loaded");
    store.load("ada").await.expect("loaded");
    store.save("ada", "progress", content(1)).expect("taken");
    let large = json!({"text": "x".repeat(limits::MAX_DOCUMENT_BYTES)}).as_object().expect("object").clone();
    let error = store.save("ada", "progress", large).expect_err("refused");
    assert_eq!((error.code(), error.field.as_deref()), ("invalid_field", Some("value")));
    let error = store.save("ada", "a/b", content(1)).expect_err("refused");
    assert_eq!(error.field.as_deref(), Some("key"));
    assert_eq!(store.document("ada", "progress").as_deref(), Some(&content(1)));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_flushed_and_then_forgotten() {
    let backend = SimulatedBackend::new();
    let (store, _news) = store(&backend).await;
    store.load("ada").await.expect("loaded");
    store.save("ada", "progress", content(1)).expect("taken");
    backend.set_outage(Some(Trouble::LostRequest));
    assert_eq!(store.release("ada", Duration::from_secs(5)).await.unsaved, 1);
    assert_eq!(store.player_count(), 1, "kept until it is committed");
    backend.set_outage(None);
    while store.player_count() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(stored(&backend, "ada", "progress"), Some(content(1)));
    assert_eq!(store.0.lock().backlog_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn many_players_go_in_few_batches() {
    let backend = SimulatedBackend::new();
    let (store, _news) = store(&backend).await;
    for player in 0..250 {
        store.load(&format!("p{player}")).await.expect("loaded");
        store.save(&format!("p{player}"), "progress", content(player)).expect("taken");
    }
    let before = backend.calls.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(store.flush(None, Duration::from_secs(30)).await, Flushed { saved: 250, unsaved: 0 });
    let calls = backend.calls.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(calls <= 4, "{calls} calls");
}

#[derive(Debug, Clone)]
enum Step {
    Save(u8, u8, i64),
    Wait(u16),
    Flush,
    Trouble(Trouble),
}

fn step() -> impl Strategy<Value = Step> {
    let trouble =
        prop_oneof![Just(Trouble::LostRequest), Just(Trouble::LostReply), Just(Trouble::Unavailable)];
    prop_oneof![
        4 => (0u8..3, 0u8..2, any::<i64>()).prop_map(|(player, key, number)| Step::Save(player, key, number)),
        2 => (0u16..3_000).prop_map(Step::Wait),
        1 => Just(Step::Flush),
        3 => trouble.prop_map(Step::Trouble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Random saves over a random network: once it heals, the backend has each document's last content, and no
    /// (epoch, sequence) was applied twice or out of order.
    #[test]
    fn the_last_save_arrives_once(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("runtime");
        runtime.block_on(async {
            let backend = SimulatedBackend::new();
            let (store, _news) = store(&backend).await;
            for player in 0..3 {
                store.load(&format!("p{player}")).await.expect("loaded");
            }
            let mut last = HashMap::new();
            for step in steps {
                match step {
                    Step::Save(player, key, number) => {
                        let (player, key) = (format!("p{player}"), format!("k{key}"));
                        store.save(&player, &key, content(number)).expect("taken");
                        last.insert((player, key), content(number));
                    }
                    Step::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds.into())).await,
                    Step::Flush => drop(store.flush(None, Duration::from_secs(2)).await),
                    Step::Trouble(trouble) => {
                        backend.state.lock().expect("not poisoned").troubles.push_back(Some(trouble));
                    }
                }
            }
            backend.state.lock().expect("not poisoned").troubles.clear();
            let flushed = store.flush(None, Duration::from_secs(600)).await;
            prop_assert_eq!(flushed.unsaved, 0);
            let state = backend.state.lock().expect("not poisoned");
            for (name, expected) in last {
                let stored = &state.documents[&name];
                prop_assert_eq!(&stored.document.value, &expected);
                prop_assert!(stored.applied.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", stored.applied);
                prop_assert_eq!(stored.document.version, i64::try_from(stored.applied.len()).expect("few"));
            }
            Ok(())
        })?;
    }
}
