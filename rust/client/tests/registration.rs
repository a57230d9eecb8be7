//! Heartbeats under a clock that tests turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_client::platform::clock::SystemClock;
use backend_client::registration::*;
use backend_protocol::registration::{Heartbeat, Revocation, ServerStatus};
use backend_protocol::rooms::{AttributeValue, Attributes, RoomPassword, RoomVisibility};
use backend_simulation::{SimulatedBackend, Trouble, server_key};
use tokio::time::Instant;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn description() -> ServerDescription {
    ServerDescription {
        name: "Pond".into(),
        address: "127.0.0.1".into(),
        port: 7777,
        map: "pond".into(),
        max_players: 2,
        ..ServerDescription::default()
    }
}

fn registration(backend: &Arc<SimulatedBackend>) -> (Registration, Arc<Mutex<Vec<Event>>>) {
    let news = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&news);
    let on_event: OnEvent = Arc::new(move |event| lock(&heard).push(event));
    (
        Registration::new(
            backend.clone(),
            Arc::new(SystemClock),
            server_key(),
            Duration::from_secs(10),
            on_event,
        ),
        news,
    )
}

fn last_beat(backend: &SimulatedBackend) -> Option<Heartbeat> {
    lock(&backend.state).heartbeats.last().cloned()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_beats_at_the_interval_asked_for_spread_out() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    let begun = Instant::now();
    until(|| {
        registration.main_loop_turned();
        lock(&backend.state).heartbeats.len() == 10
    })
    .await;
    let average = begun.elapsed() / 10;
    assert!(average > Duration::from_secs(23) && average <= Duration::from_secs(31), "{average:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_soon_and_in_one_beat() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    for players in 1..=5 {
        registration.set_players(players).expect("within limits");
    }
    until(|| last_beat(&backend).is_some()).await;
    assert_eq!(last_beat(&backend).expect("run_heartbeats").players, 5);
    assert_eq!(lock(&backend.state).heartbeats.len(), 1);
    registration.set_draining(true);
    until(|| {
        last_beat(&backend).is_some_and(|run_heartbeats| run_heartbeats.status == ServerStatus::Draining)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_main_loop_that_stands_still_is_unhealthy_until_it_turns() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    until(|| {
        last_beat(&backend).is_some_and(|run_heartbeats| run_heartbeats.status == ServerStatus::Unhealthy)
    })
    .await;
    registration.main_loop_turned();
    until(|| {
        registration.main_loop_turned();
        last_beat(&backend).is_some_and(|run_heartbeats| run_heartbeats.status == ServerStatus::Ready)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_was_forgotten_registers_again() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    let id = registration.register(description()).await.expect("registered");
    lock(&backend.state).forgotten = true;
    until(|| lock(&backend.state).registrations == 2).await;
    assert_eq!(registration.server_id(), Some(id.clone()));
    until(|| lock(&news).len() == 3).await;
    assert!(
        matches!(&lock(&news)[..], [Event::Registered(_), Event::Lost(_), Event::Registered(again)] if *again == id)
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_survived() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    let mut notices = registration.notices();
    backend.set_outage(Some(Trouble::LostRequest));
    until(|| lock(&news).iter().filter(|event| matches!(event, Event::HeartbeatFailed(_))).count() >= 3)
        .await;
    backend.set_outage(None);
    until(|| lock(&backend.state).heartbeats.len() >= 3).await;
    assert_eq!(notices.try_recv().ok(), Some(Notice::Answers));
    assert!(notices.is_empty(), "once");
    registration.deregister().await.expect("gone");
    assert_eq!(lock(&backend.state).deregistered, ["server-1"]);
    assert_eq!(registration.server_id(), None);
}

#[tokio::test(start_paused = true)]
async fn revocations_are_asked_for_once_and_survive_a_new_registration() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    {
        let mut state = lock(&backend.state);
        let reason = backend_protocol::registration::RevocationReason::Banned;
        state.revocations = vec![Revocation { player_id: "ada".into(), reason, before: 100 }];
        state.revocations_as_of = 7;
    }
    until(|| lock(&backend.state).heartbeats.len() == 2).await;
    {
        let state = lock(&backend.state);
        let asked: Vec<_> =
            state.heartbeats.iter().map(|run_heartbeats| run_heartbeats.revocations_after).collect();
        assert_eq!(asked, [None, Some(7)]);
    }
    assert_eq!(registration.revocations().check("ada", 100).expect_err("banned").code(), "banned");
    lock(&backend.state).forgotten = true;
    until(|| lock(&backend.state).registrations == 2).await;
    assert!(registration.revocations().check("ada", 100).is_err());
}

/// A server without players beats every half a minute. The first player changes that at once, and not after the next run_heartbeats.
#[tokio::test(start_paused = true)]
async fn from_the_first_player_on_a_ban_is_heard_of_within_the_short_interval() {
    let backend = SimulatedBackend::new();
    lock(&backend.state).holder_heartbeat_seconds = 5;
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    until(|| lock(&backend.state).heartbeats.len() == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    registration.set_players(1).expect("within limits");
    tokio::time::sleep(Duration::from_secs(2)).await;
    for player in ["ada", "eve", "kim", "bob"] {
        let reason = backend_protocol::registration::RevocationReason::Banned;
        lock(&backend.state).revocations.push(Revocation { player_id: player.into(), reason, before: 100 });
        let begun = Instant::now();
        until(|| registration.revocations().check(player, 100).is_err()).await;
        assert!(begun.elapsed() <= Duration::from_millis(5_100), "{:?}", begun.elapsed());
        registration.main_loop_turned();
    }
}

/// A heartbeat with a value that breaks a limit never gets through: the server would leave the list without a word.
#[tokio::test(start_paused = true)]
async fn what_breaks_a_limit_is_refused_and_the_server_stays_listed() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    let bad = |change: fn(&mut ServerDescription)| {
        let mut bad = description();
        change(&mut bad);
        bad
    };
    for (field, bad) in [
        ("map", bad(|server| server.map = "x".repeat(65))),
        ("mode", bad(|server| server.mode = "x".repeat(65))),
        ("max_players", bad(|server| server.max_players = 0)),
        ("tags[0]", bad(|server| server.tags = vec!["x".repeat(65)])),
    ] {
        let error = registration.describe(bad.clone()).expect_err("refused");
        assert_eq!((error.code(), error.field.as_deref()), ("invalid_field", Some(field)));
        registration.register(bad).await.expect_err("refused");
    }
    assert_eq!(registration.set_players(100_001).expect_err("refused").code(), "invalid_field");
    until(|| {
        registration.main_loop_turned();
        lock(&backend.state).heartbeats.len() == 2
    })
    .await;
    assert_eq!(last_beat(&backend).expect("run_heartbeats").map.as_deref(), Some("pond"));
    let beats_failed = |event: &Event| matches!(event, Event::HeartbeatFailed(_) | Event::Lost(_));
    assert!(!lock(&news).iter().any(beats_failed), "no heartbeat failed");
    assert_eq!(failures(&news), ["invalid_field"; 4]);
}

fn failures(news: &Mutex<Vec<Event>>) -> Vec<String> {
    let code = |event: &Event| match event {
        Event::RegistrationFailed(error) => Some(error.code().to_owned()),
        _ => None,
    };
    lock(news).iter().filter_map(code).collect()
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_registering_and_tells_each_kind_of_failure_once() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    backend.set_outage(Some(Trouble::Unavailable));
    assert_eq!(registration.register(description()).await.expect_err("away").code(), "unavailable");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(failures(&news), ["unavailable"]);
    backend.set_outage(Some(Trouble::LostRequest));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(failures(&news), ["unavailable", "network"]);
    assert_eq!(registration.server_id(), None);
    backend.set_outage(None);
    until(|| {
        registration.main_loop_turned();
        last_beat(&backend).is_some()
    })
    .await;
    assert!(registration.server_id().is_some(), "listed, and heartbeat_task");
}

#[tokio::test(start_paused = true)]
async fn who_was_told_to_stop_registers_no_more() {
    let backend = SimulatedBackend::new();
    for stop_by_deregistering in [true, false] {
        let (registration, _news) = registration(&backend);
        backend.set_outage(Some(Trouble::Unavailable));
        registration.register(description()).await.expect_err("away");
        if stop_by_deregistering {
            registration.deregister().await.expect("it was not listed");
        } else {
            registration.stop();
        }
        backend.set_outage(None);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(registration.server_id(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_heartbeats_do_not_carry_makes_the_entry_anew_under_the_same_id() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    let id = registration.register(description()).await.expect("registered");
    let changed = |change: fn(&mut ServerDescription)| {
        let mut changed = description();
        change(&mut changed);
        changed
    };
    let changes = [
        changed(|server| server.name = "Lake".into()),
        changed(|server| server.address = "192.0.2.1".into()),
        changed(|server| server.port = 7778),
        changed(|server| server.region = "eu-west".into()),
        changed(|server| server.version = "2".into()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let begun = Instant::now();
        registration.describe(change).expect("within limits");
        until(|| lock(&backend.state).registrations == index + 2).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "soon, not in {:?}", begun.elapsed());
        assert_eq!(registration.server_id().as_deref(), Some(id.as_str()));
    }
    // Nothing more changes: nothing more is sent, but heartbeats.
    let beats = lock(&backend.state).heartbeats.len();
    until(|| lock(&backend.state).heartbeats.len() == beats + 3).await;
    assert_eq!(lock(&backend.state).registrations, 6);
    assert!(lock(&news).iter().all(|event| matches!(event, Event::Registered(_))));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_carry_what_is_large_or_secret_only_when_it_has_changed() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    let mut server = description();
    server.password = RoomPassword("frog".into());
    server.attributes = Attributes::from([("round".into(), AttributeValue::Int(1))]);
    registration.register(server.clone()).await.expect("registered");
    let beats = || lock(&backend.state).heartbeats.len();
    let carried = || {
        let beat = last_beat(&backend).expect("a heartbeat");
        (beat.visibility, beat.password, beat.attributes)
    };
    until(|| beats() == 1).await;
    assert_eq!(carried(), (None, None, None), "the registration said it");
    server.visibility = RoomVisibility::Private;
    server.password = RoomPassword::default();
    server.attributes.insert("round".into(), AttributeValue::Float(1.0));
    registration.describe(server.clone()).expect("within limits");
    // Without an answer it is carried again.
    lock(&backend.state).troubles.extend([Some(Trouble::LostReply)]);
    let changed =
        (Some(RoomVisibility::Private), Some(RoomPassword::default()), Some(server.attributes.clone()));
    for number in [2, 3] {
        until(|| beats() == number).await;
        assert_eq!(carried(), changed, "heartbeat {number}");
    }
    until(|| beats() == 4).await;
    assert_eq!(carried(), (None, None, None), "it was answered");
    // A backend that went back to a backup may have an older entry.
    for one in lock(&backend.state).servers.values_mut() {
        one.sequence = 0;
    }
    until(|| beats() == 6).await;
    assert_eq!(carried(), changed);
}

#[tokio::test(start_paused = true)]
async fn what_changes_within_a_few_frames_is_sent_together_and_at_once() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
        let mut server = description();
        server.attributes.insert(name.into(), AttributeValue::Int(number));
        registration.describe(server).expect("within limits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until(|| lock(&backend.state).heartbeats.len() == 1).await;
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    let attributes = last_beat(&backend).and_then(|beat| beat.attributes).expect("carried");
    assert_eq!(attributes, Attributes::from([("c".into(), AttributeValue::Int(3))]));
    // However often it changes, a heartbeat a second is enough.
    for number in 0..300 {
        let mut server = description();
        server.attributes.insert("frame".into(), AttributeValue::Int(number));
        registration.describe(server).expect("within limits");
        tokio::time::sleep(Duration::from_millis(16)).await;
    }
    let beats = lock(&backend.state).heartbeats.len();
    assert!((4..=7).contains(&beats), "{beats}");
}

#[tokio::test(start_paused = true)]
async fn an_invite_code_is_told_when_it_changes_and_renewed_on_request() {
    let backend = SimulatedBackend::new();
    let (registration, news) = registration(&backend);
    assert!(registration.renew_invite_code().is_err(), "not listed yet");
    lock(&backend.state).invite_code = Some("K7Q-X3M".into());
    registration.register(description()).await.expect("registered");
    assert_eq!(registration.invite_code().as_deref(), Some("K7Q-X3M"));
    lock(&backend.state).invite_code = Some("222-333".into());
    registration.renew_invite_code().expect("listed");
    until(|| registration.invite_code().as_deref() == Some("222-333")).await;
    until(|| lock(&backend.state).heartbeats.len() == 2).await;
    let asked: Vec<bool> = lock(&backend.state).heartbeats.iter().map(|beat| beat.new_invite_code).collect();
    assert_eq!(asked, [true, false], "asked once");
    registration.deregister().await.expect("deregistered");
    let codes: Vec<Option<String>> = lock(&news)
        .iter()
        .filter_map(|event| match event {
            Event::InviteCodeChanged(code) => Some(code.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [Some("K7Q-X3M".into()), Some("222-333".into()), None]);
}

#[tokio::test(start_paused = true)]
async fn used_tickets_are_named_until_a_heartbeat_that_names_them_is_answered() {
    let backend = SimulatedBackend::new();
    let (registration, _news) = registration(&backend);
    registration.register(description()).await.expect("registered");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    lock(&backend.state).troubles.extend([Some(Trouble::LostReply)]);
    registration.set_players(1).expect("few");
    registration.ticket_used("first");
    let beats = || lock(&backend.state).heartbeats.len();
    until(|| beats() == 1).await;
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    let named = || last_beat(&backend).map(|beat| (beat.players, beat.used_tickets)).expect("a heartbeat");
    assert_eq!(named(), (1, vec!["first".to_owned()]));
    registration.ticket_used("second");
    until(|| beats() == 2).await;
    assert_eq!(named().1, ["first", "second"], "no answer: named again");
    until(|| beats() == 3).await;
    assert!(named().1.is_empty(), "answered");
    // More than fit into one heartbeat.
    let many: Vec<String> = (0..250).map(|number| format!("ticket-{number}")).collect();
    for ticket in &many {
        registration.ticket_used(ticket);
    }
    let begun = Instant::now();
    until(|| beats() == 5).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "soon: {:?}", begun.elapsed());
    let all: Vec<String> =
        lock(&backend.state).heartbeats[3..5].iter().flat_map(|beat| beat.used_tickets.clone()).collect();
    assert_eq!(all, many);
}
