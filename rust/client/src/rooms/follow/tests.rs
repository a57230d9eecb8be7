//! What a follower does when streams and pages fail, under tokio's paused time.

use std::sync::{Arc, Mutex, OnceLock};

use backend_protocol::rooms::{EVENT_CHANGE, Room, RoomPage};
use backend_protocol::routes;

use super::*;
use crate::rooms::filter::tests::room;
use crate::rooms::scripted_network::{
    Answer, Part, ScriptedNetwork, Sent, json, proxy_page, proxy_page_asking, refusal,
};

const SECOND: Duration = Duration::from_secs(1);

struct Followed {
    network: Arc<ScriptedNetwork>,
    list: FollowedRooms,
    /// The states in their order, each with when it began.
    states: Vec<(Duration, FollowState)>,
}

impl Followed {
    fn states(&self) -> Vec<&FollowState> {
        self.states.iter().map(|(_, state)| state).collect()
    }

    fn names(&self) -> Vec<String> {
        self.list.rooms().iter().map(|room| room.room_id.clone()).collect()
    }

    /// When `state` was entered last.
    fn entered(&self, state: &FollowState) -> Duration {
        let mut entered = self.states.iter().rev();
        entered.find(|(_, entered)| entered == state).unwrap_or_else(|| panic!("never {state:?}")).0
    }
}

/// Follows for so long while the network does what `script` says.
async fn follow(duration: Duration, script: impl Fn(&Sent) -> Answer + Send + Sync + 'static) -> Followed {
    let (rooms, network) = ScriptedNetwork::with_rooms(script).await;
    let slot: Arc<OnceLock<FollowedRooms>> = Arc::default();
    let states: Arc<Mutex<Vec<(Duration, FollowState)>>> = Arc::default();
    let on_update = {
        let (slot, states, network) = (Arc::clone(&slot), Arc::clone(&states), Arc::clone(&network));
        move || {
            let state = slot.get().expect("set").state();
            let mut states = states.lock().expect("not poisoned");
            let is_new = states.last().is_none_or(|(_, last)| *last != state);
            if is_new && state != FollowState::Loading {
                states.push((network.elapsed(), state));
            }
        }
    };
    let list = FollowedRooms::new(RoomQuery::default(), on_update);
    slot.set(list.clone()).ok().expect("once");
    let followed = list.clone();
    let task = tokio::spawn(async move {
        timeout(duration, rooms.follow(&RoomQuery::default(), &followed)).await.ok();
    });
    // One that panics is over as well.
    task.await.ok();
    let states = states.lock().expect("not poisoned").clone();
    Followed { network, list, states }
}

fn rooms(ids: &[&str]) -> Vec<Room> {
    ids.iter().map(|id| room(id, "Reed", 0, "2026-01-01T00:00:00Z")).collect()
}

fn event(name: &str, id: Option<&str>, ids: &[&str]) -> Part {
    let changes = RoomChanges { rooms: rooms(ids), removed: Vec::new(), more: id.is_none() };
    let data = serde_json::to_string(&changes).expect("serializes");
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Part::Text(format!("event: {name}\n{id}data: {data}\n\n"))
}

fn reset(ids: &[&str]) -> Part {
    event(EVENT_RESET, Some("t.1.1"), ids)
}

fn page(ids: &[&str]) -> Answer {
    json(&RoomPage { rooms: rooms(ids), next_cursor: None })
}

/// A page that is not sent again to who has it.
fn tagged_page(sent: &Sent, tag: &str, page: &RoomPage) -> Answer {
    let Answer::Reply(mut reply) = json(page) else { unreachable!() };
    if sent.header("if-none-match") == Some(tag) {
        (reply.status, reply.body) = (304, Vec::new());
    }
    reply.headers.insert("etag", tag.parse().expect("a header"));
    Answer::Reply(reply)
}

/// A stream that lasts so long, with what shows that it is alive.
fn lasting(duration: Duration, end: Part) -> Answer {
    let beat = Duration::from_secs(EVENT_HEARTBEAT_SECONDS);
    let mut parts = vec![reset(&["a"])];
    let mut left = duration;
    while left > beat {
        parts.extend([Part::Pause(beat), Part::Text("id: t.1.1\n\n".into())]);
        left -= beat;
    }
    parts.extend([Part::Pause(left), end]);
    Answer::Stream(parts)
}

fn is_stream(sent: &Sent) -> bool {
    sent.path == routes::ROOM_EVENTS
}

#[tokio::test(start_paused = true)]
async fn events_are_back_soon_after_an_outage_of_any_length_and_kind() {
    for outage in [2, 60, 1_800] {
        for kind in 0..5 {
            let followed = follow(SECOND * (outage + 600), move |sent| {
                let begun = if kind == 0 { 5 } else { 60 };
                let (is_out, outage) = (sent.at >= SECOND * begun, SECOND * (begun + outage));
                match kind {
                    _ if !is_out => lasting((SECOND * begun).saturating_sub(sent.at), Part::Break),
                    _ if sent.at >= outage && !is_stream(sent) => page(&["a"]),
                    _ if sent.at >= outage => lasting(SECOND * 100_000, Part::End),
                    0 | 1 => Answer::Refused,
                    2 => proxy_page(502),
                    4 => proxy_page_asking(503, "120"),
                    _ => Answer::Nothing,
                }
            })
            .await;
            let what = format!("{outage} s, {kind}: {:?}", followed.states);
            let mut states = followed.states();
            // While nothing at all comes, it may seem for a moment as if only streams do not.
            states.retain(|state| kind != 3 || **state != FollowState::Polling);
            let [FollowState::Live, FollowState::Reconnecting, FollowState::Live] = states[..] else {
                panic!("{what}")
            };
            let end = SECOND * (if kind == 0 { 5 } else { 60 } + outage);
            let slowest = if kind == 3 { OPEN_TIMEOUT * 3 + PLACE_RETRY_INTERVAL } else { MAX_PAUSE };
            assert!(followed.entered(&FollowState::Live) <= end + slowest + SECOND, "{what}");
            // Less and less often.
            let tried = followed.network.sent_to(routes::ROOM_EVENTS).len();
            assert!(tried < 20 + usize::try_from(outage).expect("small") / 3, "{tried}, {what}");
            assert_eq!(followed.names(), ["a"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_streams_time_is_not_shown_and_the_next_begins_after_its_last_event() {
    let half_an_hour = SECOND * 1_800;
    let followed = follow(half_an_hour * 5, move |_| lasting(half_an_hour, Part::End)).await;
    assert_eq!(followed.states(), [&FollowState::Live]);
    let opened = followed.network.sent_to(routes::ROOM_EVENTS);
    assert_eq!(opened.len(), 5);
    assert_eq!(opened[0].header("last-event-id"), None);
    assert!(opened[1..].iter().all(|sent| sent.header("last-event-id") == Some("t.1.1")));
}

#[tokio::test(start_paused = true)]
async fn where_streams_do_not_work_the_list_is_polled_and_they_are_tried_again() {
    type Streams = Box<dyn Fn() -> Answer + Send + Sync>;
    let cut = |end: Part| move || lasting(SECOND, end.clone());
    let comments: Vec<Part> =
        (0..100).flat_map(|_| [Part::Text(": ping\n\n".into()), Part::Pause(SECOND)]).collect();
    let parts: Vec<Part> =
        (0..100).flat_map(|_| [event(EVENT_RESET, None, &["a"]), Part::Pause(SECOND)]).collect();
    let kinds: Vec<(&str, Duration, Streams)> = vec![
        ("broken after a second", SECOND * 15, Box::new(cut(Part::Break))),
        ("ended after a second", SECOND * 15, Box::new(cut(Part::End))),
        ("silent", SECOND * 11, Box::new(|| Answer::Stream(Vec::new()))),
        ("comments", SECOND * 31, Box::new(move || Answer::Stream(comments.clone()))),
        ("no id", SECOND * 31, Box::new(move || Answer::Stream(parts.clone()))),
        ("kept back", SECOND * 60, Box::new(|| Answer::Nothing)),
        ("blocked", SECOND, Box::new(|| proxy_page(406))),
        ("too many rooms", SECOND, Box::new(|| refusal(Code::TooManyRooms))),
        ("no place", SECOND, Box::new(|| refusal(Code::Unavailable))),
    ];
    for (what, latest, stream) in kinds {
        let followed =
            follow(SECOND * 290, move |sent| if is_stream(sent) { stream() } else { page(&["b"]) }).await;
        assert_eq!(followed.list.state(), FollowState::Polling, "{what}");
        let first = followed.states.iter().find(|(_, state)| *state == FollowState::Polling).expect(what);
        assert!(first.0 <= latest, "{what}: {:?}", followed.states);
        assert_eq!(followed.names(), ["b"], "{what}");
    }
    let followed = follow(SECOND * 400, |sent| match sent.at.as_secs() {
        _ if !is_stream(sent) => page(&["a"]),
        0..200 => proxy_page(406),
        _ => lasting(SECOND * 1_000, Part::End),
    })
    .await;
    assert_eq!(followed.states(), [&FollowState::Polling, &FollowState::Live]);
}

#[tokio::test(start_paused = true)]
async fn a_list_without_end_is_not_taken_over() {
    let parts: Vec<Part> = (0..60)
        .map(|part| {
            let ids: Vec<String> = (0..500).map(|number| format!("{part}-{number}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            event(EVENT_CHANGE, None, &ids)
        })
        .collect();
    let followed =
        follow(
            SECOND * 20,
            move |sent| {
                if is_stream(sent) { Answer::Stream(parts.clone()) } else { page(&["b"]) }
            },
        )
        .await;
    assert_eq!((followed.states(), followed.names()), (vec![&FollowState::Polling], vec!["b".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn after_polling_a_stream_begins_with_the_whole_list() {
    let followed = follow(SECOND * 700, |sent| match sent.at.as_secs() {
        _ if !is_stream(sent) => page(&["a", "b"]),
        0..20 => lasting(SECOND, Part::Break),
        _ => lasting(SECOND * 1_000, Part::End),
    })
    .await;
    let opened = followed.network.sent_to(routes::ROOM_EVENTS);
    let (last, before) = opened.split_last().expect("some");
    assert!(last.at + SECOND * 10 > STREAM_RETRY_INTERVAL && before.len() == 5, "{}", opened.len());
    assert_eq!(before[1].header("last-event-id"), Some("t.1.1"));
    assert_eq!(last.header("last-event-id"), None, "the list is not that of the event");
    assert_eq!(followed.names(), ["a"], "what the stream says");
}

#[tokio::test(start_paused = true)]
async fn an_outage_while_the_list_is_polled_is_shown_and_overcome() {
    let followed = follow(SECOND * 200, |sent| match sent.at.as_secs() {
        50..100 => Answer::Refused,
        _ if is_stream(sent) => proxy_page(406),
        _ => page(&["a"]),
    })
    .await;
    let states = [&FollowState::Polling, &FollowState::Reconnecting, &FollowState::Polling];
    assert_eq!(followed.states(), states);
    assert!(followed.entered(&FollowState::Polling) <= SECOND * 100 + MAX_PAUSE + SECOND);
}

#[tokio::test(start_paused = true)]
async fn pages_that_have_not_changed_are_not_sent_again() {
    let followed = follow(SECOND * 120, |sent| {
        if is_stream(sent) {
            return proxy_page(406);
        }
        let (is_second, is_changed) = (sent.query.contains("cursor=2"), sent.at > SECOND * 60);
        let (ids, tag): (&[&str], _) = match (is_second, is_changed) {
            (false, _) => (&["a"], "\"one\""),
            (true, false) => (&["b", "c"], "\"two\""),
            (true, true) => (&["c", "d"], "\"three\""),
        };
        let next_cursor = (!is_second).then(|| "2".to_owned());
        tagged_page(sent, tag, &RoomPage { rooms: rooms(ids), next_cursor })
    })
    .await;
    assert_eq!(followed.names(), ["a", "c", "d"]);
    let sent = followed.network.sent_to(routes::ROOMS);
    let (first, later) = sent.split_at(2);
    assert!(first.iter().all(|sent| sent.header("if-none-match").is_none()));
    assert!(later.iter().all(|sent| sent.header("if-none-match").is_some()));
    // Two pages, every 4 to 5 s.
    assert!(sent.len() > 40 && sent.len() < 70, "{}", sent.len());
}

#[tokio::test(start_paused = true)]
async fn a_refused_follower_of_a_long_list_reads_no_more_than_a_page_a_second() {
    const PAGES: usize = 40;
    let followed = follow(SECOND * 600, |sent| {
        if is_stream(sent) {
            return refusal(Code::Unavailable);
        }
        let cursor = sent.query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
        let number: usize = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
        let next_cursor = (number + 1 < PAGES).then(|| (number + 1).to_string());
        let page = RoomPage { rooms: rooms(&[&format!("room-{number}")]), next_cursor };
        let reply = tagged_page(sent, &format!("\"{number}\""), &page);
        // Time passes, also for who does not pause.
        Answer::After(Duration::from_millis(50), Box::new(reply))
    })
    .await;
    assert_eq!((followed.states(), followed.names().len()), (vec![&FollowState::Polling], PAGES));
    let sent = followed.network.sent_to(routes::ROOMS);
    // All pages, every 32 to 40 s and the 2 s that it takes.
    assert!(sent.len() > PAGES * 12 && sent.len() <= PAGES * 18, "{} pages", sent.len());
    let streams = followed.network.sent_to(routes::ROOM_EVENTS).len();
    assert!(streams > 12 && streams <= 20, "{streams} streams");
    let (first, later) = sent.split_at(PAGES);
    assert!(first.iter().all(|sent| sent.header("if-none-match").is_none()));
    assert!(later.iter().all(|sent| sent.header("if-none-match").is_some()), "pages are sent again");
}

#[tokio::test(start_paused = true)]
async fn pages_from_before_an_event_are_read_anew() {
    let changes = || vec![reset(&["b"]), Part::Pause(SECOND), Part::End];
    let followed = follow(SECOND * 100, move |sent| match sent.nth {
        _ if !is_stream(sent) => {
            tagged_page(sent, "\"one\"", &RoomPage { rooms: rooms(&["a"]), next_cursor: None })
        }
        1 => Answer::Stream(changes()),
        _ => refusal(Code::Unavailable),
    })
    .await;
    let states = [&FollowState::Polling, &FollowState::Live, &FollowState::Polling];
    assert_eq!((followed.states(), followed.names()), (states.to_vec(), vec!["a".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_does_not_pass_and_a_defect_end_it() {
    let followed = follow(SECOND * 60, |_| refusal(Code::InvalidField)).await;
    let [FollowState::Failed(error)] = followed.states()[..] else { panic!("{:?}", followed.states) };
    assert_eq!(error.code(), "invalid_field");
    let followed = follow(SECOND * 60, |sent| {
        assert!(sent.nth < 1, "a defect");
        lasting(SECOND * 30, Part::End)
    })
    .await;
    let [FollowState::Live, FollowState::Failed(error)] = followed.states()[..] else {
        panic!("{:?}", followed.states)
    };
    assert_eq!(error.code(), "internal");
}
