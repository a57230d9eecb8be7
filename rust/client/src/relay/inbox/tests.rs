use tokio_util::bytes::Bytes;

use super::*;

fn peer(peer: u32) -> Peer {
    Peer { peer, player_id: format!("p{peer}"), display_name: "Ada".into() }
}

fn message(peer: u32, mode: TransferMode, payload: &'static [u8]) -> Message {
    Message { peer, channel: 2, mode, payload: Bytes::from_static(payload) }
}

fn reliable(peer: u32, payload: &'static [u8]) -> Message {
    message(peer, TransferMode::Reliable, payload)
}

fn taken(inbox: &mut Inbox) -> Vec<String> {
    let text = |event| match event {
        Event::Joined(peer) => format!("+{}", peer.peer),
        Event::Left(peer, reason) => format!("-{peer} {}", reason.as_str()),
        Event::Message(message) => format!("{}:{}", message.peer, String::from_utf8_lossy(&message.payload)),
        Event::Closed(reason) => format!("closed {}", reason.as_str()),
    };
    std::iter::from_fn(|| inbox.next()).map(text).collect()
}

#[test]
fn nobody_is_heard_before_they_are_announced() {
    let mut inbox = Inbox::default();
    inbox.message(reliable(7, b"a"), None);
    inbox.message(reliable(7, b"b"), None);
    assert!(taken(&mut inbox).is_empty());
    inbox.joined(peer(7));
    inbox.message(reliable(7, b"c"), None);
    assert_eq!(taken(&mut inbox), ["+7", "7:a", "7:b", "7:c"]);
}

#[test]
fn nobody_is_heard_after_they_have_left() {
    let mut inbox = Inbox::default();
    inbox.joined(peer(7));
    inbox.left(7, CloseReason::Kicked);
    inbox.message(reliable(7, b"late"), None);
    inbox.message(message(7, TransferMode::Unreliable, b"late"), None);
    assert_eq!(taken(&mut inbox), ["+7", "-7 kicked"]);
    inbox.message(reliable(8, b"never announced"), None);
    inbox.left(8, CloseReason::Left);
    assert!(taken(&mut inbox).is_empty());
    assert_eq!(inbox.reliable_bytes + inbox.early_bytes, 0);
}

#[test]
fn older_ordered_messages_are_dropped_also_around_the_end_of_the_numbers() {
    let mut inbox = Inbox::default();
    inbox.joined(peer(7));
    let mut send = |sequence: u16, text: &'static [u8]| {
        inbox.message(message(7, TransferMode::UnreliableOrdered, text), Some(sequence));
    };
    send(65_534, b"a");
    send(65_533, b"old");
    send(65_534, b"twice");
    send(1, b"b");
    send(65_535, b"old");
    send(2, b"c");
    assert_eq!(taken(&mut inbox), ["+7", "7:a", "7:b", "7:c"]);
}

#[test]
fn the_oldest_unreliable_message_is_dropped_and_what_has_to_arrive_stops_the_reading() {
    let mut inbox = Inbox::default();
    inbox.joined(peer(7));
    for _ in 0..MAX_UNRELIABLE {
        inbox.message(message(7, TransferMode::Unreliable, b"old"), None);
    }
    inbox.message(message(7, TransferMode::Unreliable, b"new"), None);
    let events = taken(&mut inbox);
    assert_eq!(events.len(), 1 + MAX_UNRELIABLE);
    assert_eq!(events.last().map(String::as_str), Some("7:new"));
    let large = Message { payload: Bytes::from(vec![0; MAX_RELIABLE_BYTES]), ..reliable(7, b"") };
    inbox.message(large, None);
    assert!(!inbox.is_full());
    inbox.message(reliable(7, b"one more"), None);
    assert!(inbox.is_full());
    assert!(inbox.next().is_some());
    assert!(!inbox.is_full());
}

#[test]
fn the_end_comes_last_and_once() {
    let mut inbox = Inbox::default();
    inbox.joined(peer(7));
    inbox.message(message(7, TransferMode::Unreliable, b"u"), None);
    inbox.closed(CloseReason::HostLeft);
    inbox.closed(CloseReason::ConnectionLost);
    inbox.message(reliable(7, b"late"), None);
    assert_eq!(taken(&mut inbox), ["+7", "7:u", "closed host_left"]);
}
