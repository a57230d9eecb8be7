//! Events and who gets them.

use axum::body::Bytes;
use backend_protocol::Code;
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{Attributes, MAX_FOLLOWED_ROOMS, Room, RoomChanges, RoomQuery, RoomVisibility};

use super::event_stream::EventStream;
use super::event_text::{EventName, Events, Position};
use super::group::GroupKey;
use super::room_index::RoomIndex;
use crate::rooms::changes::Change;

fn room(id: &str, name: &str) -> Room {
    Room {
        room_id: id.into(),
        name: name.into(),
        address: String::new(),
        port: 1,
        query_port: None,
        map: String::new(),
        mode: String::new(),
        region: String::new(),
        version: String::new(),
        tags: Vec::new(),
        players: 0,
        reserved: 0,
        max_players: 2,
        status: ServerStatus::Ready,
        created_at: String::new(),
        visibility: RoomVisibility::Public,
        has_password: false,
        attributes: Attributes::new(),
    }
}

fn change(index: &mut RoomIndex, number: i64, id: &str, room: Option<Room>) {
    let changes = vec![(Change { room_id: id.into(), number }, room)];
    index.apply(changes, Position { number: number + 1, seconds: 1_000 }).expect("applied");
}

fn key() -> GroupKey {
    GroupKey::new(&RoomQuery::default()).expect("a query")
}

fn data(event: &Bytes) -> (bool, RoomChanges) {
    let text = std::str::from_utf8(event).expect("text");
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    (text.contains("\nid: "), serde_json::from_str(data).expect("JSON"))
}

#[test]
fn a_follower_that_does_not_read_is_cut_off_and_others_go_on() {
    let mut index = RoomIndex::new("0123456789".into(), Position { number: 1, seconds: 1_000 });
    let mut slow = index.follow(key(), None).expect("followed").later;
    let mut quick = index.follow(key(), None).expect("followed").later;
    for number in 1..200 {
        change(&mut index, number, "a", Some(room("a", &number.to_string())));
        assert!(quick.try_recv().is_ok(), "{number}");
    }
    let mut received = 0;
    while slow.try_recv().is_ok() {
        received += 1;
    }
    assert!(received < 100 && slow.is_closed(), "{received} events were kept for it");
}

#[test]
fn long_lists_come_in_parts_of_which_the_last_has_the_id() {
    let rooms: Vec<Bytes> = (0..2_000)
        .map(|number| serde_json::to_vec(&room(&number.to_string(), &"x".repeat(60))).expect("JSON").into())
        .collect();
    let removed: Vec<String> = (0..5_000).map(|number| format!("gone-{number}")).collect();
    let events = |name, rooms: Vec<Bytes>, removed| -> Vec<Bytes> {
        Events::new(name, rooms.into_iter(), removed, "id.1.2".into()).collect()
    };
    let all = events(EventName::Reset, rooms, removed);
    assert!(all.len() > 4 && all.iter().all(|event| event.len() < 512 * 1024));
    let (mut named, mut gone) = (0, 0);
    for (index, event) in all.iter().enumerate() {
        let (has_id, changes) = data(event);
        assert_eq!((has_id, changes.more), (index == all.len() - 1, index < all.len() - 1));
        assert_eq!(event.starts_with(b"event: reset\n"), index == 0);
        named += changes.rooms.len();
        gone += changes.removed.len();
    }
    assert_eq!((named, gone), (2_000, 5_000));
    assert!(events(EventName::Change, Vec::new(), Vec::new()).is_empty());
    assert_eq!(events(EventName::Reset, Vec::new(), Vec::new()).len(), 1);
}

#[test]
fn ids_are_read_as_they_were_written_and_no_others() {
    let position = Position { number: 7, seconds: 1_000 };
    let id = position.event_id("0123456789");
    assert_eq!((Position::parse(&id, "0123456789"), &*id), (Some(position.clone()), "01234567.7.1000"));
    assert_eq!(Position::parse(&id, "another"), None);
    let at = |seconds| Position { number: 7, seconds };
    assert!(position.is_recent(&at(1_000)) && position.is_recent(&at(990)) && position.is_recent(&at(3_999)));
    assert!(!position.is_recent(&at(4_000)) && !position.is_recent(&at(0)));
}

fn index_of(count: usize) -> RoomIndex {
    let mut index = RoomIndex::new("0123456789".into(), Position { number: 1, seconds: 1_000 });
    let room = |number: usize| {
        let id = number.to_string();
        (Change { room_id: id.clone(), number: 1 }, Some(room(&id, "Pond")))
    };
    index.apply((0..count).map(room).collect(), Position { number: 2, seconds: 1_000 }).expect("applied");
    index
}

fn query(fields: &str) -> GroupKey {
    GroupKey::new(&RoomQuery { fields: Some(fields.into()), ..RoomQuery::default() }).expect("a query")
}

#[test]
fn queries_that_mean_the_same_share_a_group_and_streams_that_have_ended_none() {
    let mut index = index_of(3);
    let open: Vec<EventStream> = ["name,players", "players,name", " players, name,players"]
        .map(|fields| index.follow(query(fields), None).expect("followed").begin().expect("begun"))
        .into();
    assert_eq!(index.groups.len(), 1);
    for number in 0..50 {
        let key = GroupKey::new(&RoomQuery { map: Some(number.to_string()), ..RoomQuery::default() });
        drop(index.follow(key.expect("a query"), None).expect("followed"));
    }
    assert_eq!(index.groups.len(), 2, "those that are followed, and the last one that was");
    drop(open);
    index.follow(key(), None).expect("followed");
    assert_eq!(index.groups.len(), 1);
}

#[test]
fn a_stream_begins_with_the_rooms_of_the_moment_it_was_opened_and_keeps_none_that_it_has_sent() {
    let mut index = index_of(3_000);
    let follower = index.follow(key(), None).expect("followed");
    let kept = std::sync::Arc::downgrade(&follower.rooms[0].0);
    let id = follower.rooms[0].0.room.room_id.clone();
    change(&mut index, 2, &id, None);
    let EventStream { mut first, mut later } = follower.begin().expect("begun");
    let begun = data(&first.next().expect("an event")).1.rooms.len();
    assert!(begun > 0 && begun < 3_000, "{begun}");
    assert!(kept.upgrade().is_none(), "it was sent");
    assert_eq!(begun + first.map(|event| data(&event).1.rooms.len()).sum::<usize>(), 3_000);
    assert_eq!(data(&later.try_recv().expect("the change")).1.removed, [id]);
}

#[test]
fn a_list_that_is_too_long_is_refused_and_one_that_grows_too_long_cut_off() {
    let mut index = index_of(MAX_FOLLOWED_ROOMS);
    let position = index.position().clone();
    // Who comes back to a list that nobody follows needs its length as well.
    let resumed = index.follow(key(), Some(&position)).expect("followed").begin().expect("begun");
    let EventStream { first, mut later } = resumed;
    assert_eq!(first.count(), 1, "a heartbeat");
    // One that begins when the list is counted already.
    let whole = index.follow(key(), None).expect("followed").begin().expect("begun");
    change(&mut index, 3, "one too many", Some(room("one too many", "Reed")));
    assert!(later.try_recv().is_ok() && later.try_recv().is_err() && later.is_closed());
    assert!(whole.later.is_closed());
    for resumed in [Some(&position), None] {
        let outcome = index.follow(key(), resumed).and_then(|follower| follower.begin().map(|_| ()));
        assert_eq!(outcome.expect_err("too long").0.code, Code::TooManyRooms);
    }
    change(&mut index, 4, "one too many", None);
    assert!(index.follow(key(), None).and_then(|follower| follower.begin().map(|_| ())).is_ok());
}
