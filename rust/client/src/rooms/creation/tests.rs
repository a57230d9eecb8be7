//! When a request for a room is repeated, and when it is cancelled.

use backend_protocol::rooms::RoomCreationStatus;
use backend_protocol::{Code, routes};
use reqwest::Method;

use super::*;
use crate::rooms::filter::tests::room;
use crate::rooms::scripted_network::{Answer, ScriptedNetwork, json, proxy_page_asking, refusal};

fn starting() -> Answer {
    json(&RoomCreation { status: RoomCreationStatus::Starting, ticket: None })
}

fn ready() -> Answer {
    let room = room("a", "Reed", 0, "2026-01-01T00:00:00Z");
    let ticket = JoinTicket {
        ticket: "t".into(),
        expires_in: 60,
        room,
        certificate: None,
        party_code: None,
        invite_code: None,
        relay: false,
    };
    json(&RoomCreation { status: RoomCreationStatus::Ready, ticket: Some(ticket) })
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_answers_at_once_is_asked_less_and_less_often() {
    let (rooms, network) = ScriptedNetwork::with_rooms(|_| starting()).await;
    let request = rooms.create(CreateRoom::default()).expect("a request");
    let error = request.run(Duration::from_secs(600)).await.err().expect("no room");
    assert_eq!(error.code(), "timeout");
    let sent = network.sent_to(routes::ROOMS);
    // 2.5 s between two in the mean.
    assert!(sent.len() > 100 && sent.len() < 600, "{} requests", sent.len());
    let longest = sent.windows(2).map(|pair| pair[1].at.saturating_sub(pair[0].at)).max().expect("some");
    assert!(longest > MAX_PAUSE / 2 && longest <= MAX_PAUSE + Duration::from_millis(10), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_waits_is_asked_again_soon() {
    let wait = Duration::from_secs(5);
    let script = move |_: &_| Answer::After(wait, Box::new(starting()));
    let (rooms, network) = ScriptedNetwork::with_rooms(script).await;
    let request = rooms.quick_play(QuickPlay::default()).expect("a request");
    request.run(Duration::from_secs(600)).await.err().expect("no room");
    let sent = network.sent_to(routes::QUICK_PLAY);
    for pair in sent.windows(2) {
        let pause = pair[1].at.saturating_sub(pair[0].at + wait);
        assert!(pause <= Duration::from_millis(210), "{pause:?}");
    }
    assert!(sent.len() > 100, "{} requests", sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_asks_for_a_long_pause_does_not_cost_the_room() {
    let script = |sent: &crate::rooms::scripted_network::Sent| match sent.nth {
        0 => starting(),
        1..10 => proxy_page_asking(503, "120"),
        _ => ready(),
    };
    let (rooms, network) = ScriptedNetwork::with_rooms(script).await;
    let request = rooms.create(CreateRoom::default()).expect("a request");
    request.run(Duration::from_secs(600)).await.expect("a room");
    for pair in network.sent_to(routes::ROOMS).windows(2) {
        let pause = pair[1].at.saturating_sub(pair[0].at);
        assert!(pause <= MAX_PAUSE + Duration::from_millis(10), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_a_request_nothing_and_a_refusal_ends_it() {
    let script = |sent: &crate::rooms::scripted_network::Sent| match sent.at.as_secs() {
        0..30 => starting(),
        30..60 => Answer::Refused,
        60..90 => refusal(Code::Unavailable),
        _ => ready(),
    };
    let (rooms, network) = ScriptedNetwork::with_rooms(script).await;
    let request = rooms.create(CreateRoom::default()).expect("a request");
    let ticket = request.run(Duration::from_secs(600)).await.expect("a room");
    assert_eq!(ticket.room.room_id, "a");
    let ids: std::collections::HashSet<String> = network
        .sent_to(routes::ROOMS)
        .iter()
        .map(|sent| serde_json::from_slice::<CreateRoom>(&sent.body).expect("a body").request_id)
        .collect();
    assert_eq!(ids.len(), 1, "one request");
    let (rooms, network) = ScriptedNetwork::with_rooms(|_| refusal(Code::RoomFull)).await;
    let request = rooms.quick_play(QuickPlay::default()).expect("a request");
    let error = request.run(Duration::from_secs(600)).await.err().expect("no room");
    assert_eq!((error.code(), network.sent_to(routes::QUICK_PLAY).len()), ("room_full", 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_has_no_ticket_is_cancelled_once() {
    let script = |sent: &crate::rooms::scripted_network::Sent| {
        if sent.method == Method::DELETE { json(&()) } else { starting() }
    };
    let (rooms, network) = ScriptedNetwork::with_rooms(script).await;
    let request = rooms.create(CreateRoom::default()).expect("a request");
    assert!(!request.is_cancellable(), "not sent yet");
    let other = request.clone();
    // The caller lost interest.
    tokio::time::timeout(Duration::from_secs(3), other.run(Duration::from_secs(60)))
        .await
        .err()
        .expect("dropped");
    assert!(request.is_cancellable());
    request.cancel().await.expect("cancelled");
    request.cancel().await.expect("nothing to do");
    assert!(!request.is_cancellable());
    let path = routes::room_request(&request.0.request_id);
    let cancelled: Vec<Method> = network.sent_to(&path).into_iter().map(|sent| sent.method).collect();
    assert_eq!(cancelled, [Method::DELETE]);

    let (rooms, _network) = ScriptedNetwork::with_rooms(|_| ready()).await;
    let request = rooms.quick_play(QuickPlay::default()).expect("a request");
    request.run(Duration::from_secs(60)).await.expect("a ticket");
    assert!(!request.is_cancellable(), "its room is used");
}
