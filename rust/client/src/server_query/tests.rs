//! What is answered, to whom, and how much of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use backend_protocol::registration::ServerStatus;
use backend_protocol::rooms::{RoomPassword, RoomVisibility};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::ping::{self, PING_QUESTION, Pong, ROOM_QUESTION, decode_room};
use super::source::MAX_DATAGRAM;
use super::*;
use crate::platform::clock::SystemClock;
use crate::registration::ServerDescription;

const INFO: &[u8] = b"\xff\xff\xff\xff\x54Source Engine Query\0";
const PLAYER: &[u8] = b"\xff\xff\xff\xff\x55\xff\xff\xff\xff";
const RULES: &[u8] = b"\xff\xff\xff\xff\x56\xff\xff\xff\xff";
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

fn facts() -> Facts {
    Facts {
        description: ServerDescription {
            name: "Lily Pad".into(),
            port: 7777,
            query_port: Some(7778),
            map: "pond".into(),
            mode: "race".into(),
            region: "eu".into(),
            version: "1.2".into(),
            tags: vec!["calm".into()],
            max_players: 8,
            ..ServerDescription::default()
        },
        game: "Frog Race".into(),
        room_id: Some("room-1".into()),
        players: 3,
        ..Facts::default()
    }
}

fn peer(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn served(facts: &Facts) -> ServedFacts<'_> {
    ServedFacts { facts, status: ServerStatus::Ready, now: Instant::now() }
}

/// The answer's pieces, as an address that has proven itself gets them.
fn proven(responder: &mut Responder, question: &[u8], facts: &Facts) -> Vec<Vec<u8>> {
    let from = peer("192.0.2.1:1000");
    let challenge = responder.respond(Duration::ZERO, from, question, &served(facts));
    assert_eq!(challenge[0][..5], *b"\xff\xff\xff\xffA");
    let bare = question.strip_suffix(&[0xff; 4]).unwrap_or(question);
    responder.respond(Duration::ZERO, from, &[bare, &challenge[0][5..]].concat(), &served(facts))
}

#[test]
fn an_address_is_proven_once_and_for_itself() {
    let (mut responder, facts) = (Responder::new(), facts());
    let (one, other) = (peer("192.0.2.1:1000"), peer("192.0.2.1:1001"));
    let challenge = responder.respond(Duration::ZERO, one, INFO, &served(&facts)).remove(0);
    let question = [INFO, &challenge[5..]].concat();
    let kind = |responder: &mut Responder, seconds, from| {
        responder.respond(Duration::from_secs(seconds), from, &question, &served(&facts))[0][4]
    };
    assert_eq!(kind(&mut responder, 0, one), b'I');
    assert_eq!(kind(&mut responder, 59, one), b'I', "in the next window");
    assert_eq!(kind(&mut responder, 60, one), b'A', "half a minute after its own window");
    assert_eq!(kind(&mut responder, 0, other), b'A', "another port");
    assert_eq!(kind(&mut responder, 0, peer("192.0.2.2:1000")), b'A', "another address");
    assert_eq!(kind(&mut Responder::new(), 0, one), b'A', "another server");
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_is_split() {
    let now = Instant::now();
    let participants =
        (0..300).map(|index| Participant { name: format!("Player {index}"), joined: now }).collect();
    let facts = Facts { participants, ..facts() };
    let pieces = proven(&mut Responder::new(), PLAYER, &facts);
    assert!(pieces.len() > 1);
    let mut whole: Vec<u8> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        assert!(piece.len() <= MAX_DATAGRAM);
        assert_eq!(piece[..4], *b"\xfe\xff\xff\xff");
        assert_eq!(piece[4..8], pieces[0][4..8], "one id");
        assert_eq!(piece[8..10], [pieces.len() as u8, index as u8]);
        whole.extend(&piece[12..]);
    }
    assert_eq!(whole[..6], *b"\xff\xff\xff\xffD\xff", "255 of the 300 players");
    assert_eq!(proven(&mut Responder::new(), RULES, &facts).len(), 1);
}

#[test]
fn a_room_with_the_longest_texts_still_fits() {
    let long = "界".repeat(64);
    let description = ServerDescription {
        name: long.clone(),
        map: long.clone(),
        mode: long.clone(),
        region: long.clone(),
        version: long.clone(),
        tags: vec![long.clone(); 16],
        ..facts().description
    };
    let facts = Facts { description, ..facts() };
    let question = ping::Question::Room([7; 8]).encode();
    let answer = Responder::new().respond(Duration::ZERO, peer("10.0.0.2:99"), &question, &served(&facts));
    assert!(answer[0].len() <= question.len());
    let ping::FoundRoom { nonce, room, .. } = decode_room(&answer[0], "10.0.0.1").expect("a room");
    assert_eq!((nonce, room.name, room.port, room.query_port), ([7; 8], long, 7777, Some(7778)));
    assert_eq!((room.address.as_str(), room.room_id.as_str()), ("10.0.0.1", "room-1"));
}

#[test]
fn a_room_that_is_not_public_is_not_found_and_keeps_its_id() {
    for visibility in [RoomVisibility::Unlisted, RoomVisibility::Private] {
        let description = ServerDescription {
            visibility,
            password: RoomPassword("hop-over".into()),
            ..facts().description
        };
        let facts = Facts { description, ..facts() };
        let question = ping::Question::Room([7; 8]).encode();
        let found = Responder::new().respond(Duration::ZERO, peer("10.0.0.2:99"), &question, &served(&facts));
        assert!(found.is_empty());
        for question in [INFO, PLAYER, RULES] {
            let answer = proven(&mut Responder::new(), question, &facts).concat();
            for secret in [&b"room-1"[..], b"hop-over"] {
                assert!(!answer.windows(secret.len()).any(|part| part == secret));
            }
        }
    }
}

#[test]
fn a_room_that_breaks_a_limit_is_none() {
    let good = ping::Question::Room([7; 8]).encode();
    for facts in [
        Facts { players: 100_001, ..facts() },
        Facts { room_id: Some("../..".into()), ..facts() },
        Facts { description: ServerDescription { name: String::new(), ..facts().description }, ..facts() },
        Facts { description: ServerDescription { port: 0, ..facts().description }, ..facts() },
        Facts {
            description: ServerDescription { map: "a\u{202e}b".into(), ..facts().description },
            ..facts()
        },
    ] {
        let answer = Responder::new().respond(Duration::ZERO, peer("10.0.0.2:99"), &good, &served(&facts));
        assert_eq!(decode_room(&answer[0], "10.0.0.1"), None, "{facts:?}");
    }
}

#[test]
fn whoever_asks_too_often_waits_and_the_others_do_not() {
    let (mut responder, facts) = (Responder::new(), facts());
    let question = ping::Question::Ping([1; 8]).encode();
    let mut answers = |from: &str, at| {
        let ask =
            |_| responder.respond(Duration::from_secs(at), peer(from), &question, &served(&facts)).len();
        (0..1_000).map(ask).sum::<usize>()
    };
    assert_eq!(answers("192.0.2.1:1", 0), 100, "at once");
    assert_eq!(answers("192.0.2.1:2", 1), 50, "a second later, by another port");
    assert!(answers("192.0.2.2:1", 1) > 0, "another address");
    assert_eq!(answers("[2001:db8::1]:1", 1), 100);
    assert_eq!(answers("[2001:db8::2]:1", 1), 0, "the same network");
}

#[test]
fn what_goes_out_overall_is_limited() {
    let (mut responder, facts) = (Responder::new(), facts());
    let question = ping::Question::Ping([1; 8]).encode();
    let addresses =
        (0..20_000u32).map(|index| SocketAddr::from((index.to_be_bytes().map(|byte| byte | 1), 9)));
    let answers = addresses
        .map(|from| responder.respond(Duration::ZERO, from, &question, &served(&facts)).len())
        .sum::<usize>();
    assert!((1..=5_000).contains(&answers), "{answers}");
}

#[test]
fn nothing_is_sent_where_it_would_multiply() {
    let (mut responder, facts) = (Responder::new(), facts());
    for from in ["255.255.255.255:9", "224.0.0.1:9", "0.0.0.0:9", "192.0.2.1:0", "[ff02::1]:9", "[::]:9"] {
        assert!(responder.respond(Duration::ZERO, peer(from), INFO, &served(&facts)).is_empty(), "{from}");
    }
}

fn question() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(INFO.to_vec()),
        Just(PLAYER.to_vec()),
        Just(RULES.to_vec()),
        Just(ping::Question::Ping([0; 8]).encode()),
        Just(ping::Question::Room([0; 8]).encode()),
        Just(Vec::new()),
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (start, vec(change, 0..4), vec(any::<u8>(), 0..8), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, tail, cut, is_cut)| {
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let index = at.index(bytes.len());
                    bytes[index] = byte;
                }
            }
            bytes.extend(tail);
            if is_cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn an_unproven_address_is_sent_no_more_than_it_sent(bytes in question()) {
        let answers = Responder::new().respond(Duration::ZERO, peer("192.0.2.1:9"), &bytes, &served(&facts()));
        prop_assert!(answers.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    }

    #[test]
    fn an_answer_is_read_or_is_none(bytes in vec(any::<u8>(), 0..64)) {
        let _none = Pong::decode(&bytes);
        let _none = decode_room(&bytes, "10.0.0.1");
    }
}

async fn ask(socket: &UdpSocket, port: u16, question: &[u8]) -> Vec<u8> {
    socket.send_to(question, ("127.0.0.1", port)).await.expect("sent");
    let mut buffer = vec![0; 2_048];
    let received = timeout(WAIT_TIMEOUT, socket.recv_from(&mut buffer)).await.expect("an answer");
    buffer.truncate(received.expect("received").0);
    buffer
}

#[tokio::test]
async fn a_main_loop_that_hangs_is_unhealthy_until_it_turns() {
    let server = ServerQuery::new(Arc::new(SystemClock), Duration::from_millis(300));
    server.publish(facts());
    let port = server.open(QueryOptions { port: 0, lan_discovery: false }).expect("opened");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let question = ping::Question::Ping([9; 8]).encode();
    assert_eq!(question.len(), PING_QUESTION);
    let until = async |wanted, turns: bool| {
        loop {
            if turns {
                server.main_loop_turned();
            }
            let pong = Pong::decode(&ask(&socket, port, &question).await).expect("a pong");
            assert_eq!((pong.nonce, pong.players, pong.max_players), ([9; 8], 3, 8));
            if pong.status == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WAIT_TIMEOUT, until(ServerStatus::Unhealthy, false)).await.expect("unhealthy");
    timeout(WAIT_TIMEOUT, until(ServerStatus::Ready, true)).await.expect("ready");
    server.publish(Facts { draining: true, ..facts() });
    timeout(WAIT_TIMEOUT, until(ServerStatus::Draining, true)).await.expect("draining");
}

#[tokio::test]
async fn a_taken_port_is_named_and_a_closed_one_is_free() {
    let new = || ServerQuery::new(Arc::new(SystemClock), WAIT_TIMEOUT);
    let (first, second) = (new(), new());
    let port = first.open(QueryOptions { port: 0, lan_discovery: false }).expect("opened");
    let options = QueryOptions { port, lan_discovery: false };
    let error = second.open(options).expect_err("taken");
    assert_eq!(error.field.as_deref(), Some("query_port"));
    assert!(error.message.contains(&port.to_string()), "{error}");
    assert_eq!(second.port(), None);
    first.close();
    let freed = async {
        while second.open(options).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_TIMEOUT, freed).await.expect("free again");
    assert_eq!(second.open(options).expect("still open"), port);
}

#[tokio::test]
async fn a_flood_of_rubbish_leaves_the_server_answering() {
    let server = ServerQuery::new(Arc::new(SystemClock), WAIT_TIMEOUT);
    server.publish(facts());
    let port = server.open(QueryOptions { port: 0, lan_discovery: false }).expect("opened");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    for round in 0..3_000usize {
        let rubbish = vec![round as u8; round % (2 * ROOM_QUESTION)];
        socket.send_to(&rubbish, ("127.0.0.1", port)).await.expect("sent");
    }
    let question = ping::Question::Ping([3; 8]).encode();
    let answered = async {
        loop {
            socket.send_to(&question, ("127.0.0.1", port)).await.expect("sent");
            let mut buffer = [0; 64];
            let pause = Duration::from_millis(100);
            if let Ok(received) = timeout(pause, socket.recv_from(&mut buffer)).await {
                return Pong::decode(&buffer[..received.expect("received").0]).expect("a pong");
            }
        }
    };
    assert_eq!(timeout(WAIT_TIMEOUT, answered).await.expect("an answer").nonce, [3; 8]);
}
