//! Events and who gets them.

use axum::body::Bytes;
use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{Attributes, Room, RoomChanges, RoomQuery, RoomVisibility};

use super::event_text::{EventName, Position, changes};
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
    let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
    let events = changes(EventName::Reset, &rooms, &removed, "id.1.2");
    assert!(events.len() > 4 && events.iter().all(|event| event.len() < 512 * 1024));
    let (mut named, mut gone) = (0, 0);
    for (index, event) in events.iter().enumerate() {
        let (has_id, changes) = data(event);
        assert_eq!((has_id, changes.more), (index == events.len() - 1, index < events.len() - 1));
        assert_eq!(event.starts_with(b"event: reset\n"), index == 0);
        named += changes.rooms.len();
        gone += changes.removed.len();
    }
    assert_eq!((named, gone), (2_000, 5_000));
    assert!(changes(EventName::Change, &[], &[], "id.1.2").is_empty());
    assert_eq!(changes(EventName::Reset, &[], &[], "id.1.2").len(), 1);
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
