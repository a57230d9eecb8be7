//! What anybody sends to a server's query port, and what anybody answers to a client's question.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use backend_client::protocol::registration::ServerStatus;
use backend_client::registration::ServerDescription;
use backend_client::server_query::ping::{FoundRoom, Pong, ROOM_QUESTION, decode_room};
use backend_client::server_query::{Facts, Responder, ServedFacts};
use libfuzzer_sys::fuzz_target;

static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts {
    description: ServerDescription {
        name: "Pond".into(),
        port: 7777,
        tags: vec!["calm".into(); 16],
        max_players: 8,
        ..ServerDescription::default()
    },
    ..Facts::default()
});
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: &[u8]| {
    // The first bytes choose who asks and when.
    let Some((&[port, window], question)) = data.split_first_chunk::<2>() else { return };
    let peer = SocketAddr::from(([192, 0, 2, 1], port.into()));
    let served = ServedFacts { facts: &FACTS, status: ServerStatus::Ready, now: (*STARTED).into() };
    let mut responder = Responder::new();
    let now = Duration::from_secs(window.into());
    let answers = responder.respond(now, peer, question, &served);
    // The responder is new: no challenge that it would accept is known.
    let bytes: usize = answers.iter().map(Vec::len).sum();
    assert!(bytes <= question.len(), "{} bytes brought {bytes}", question.len());
    let _none = Pong::decode(question);
    if let Some(FoundRoom { room, .. }) = decode_room(question, "192.0.2.1") {
        assert!(question.len() <= ROOM_QUESTION);
        assert_eq!(room.address, "192.0.2.1");
    }
});
