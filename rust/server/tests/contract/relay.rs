//! The relay: who is let in, who receives what, and what becomes of those who misbehave.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, on_both_databases, text};
use crate::relay_client::{
    Received, RelayClient, TICKET_INVALID, TICKET_USED, framed, join, message, read, received,
};

const KICKED: u64 = 2;
const HOST_LEFT: u64 = 3;
const ROOM_ENDED: u64 = 4;
const RELAY_STOPPING: u64 = 5;
const REVOKED: u64 = 6;
const JOINED_AGAIN: u64 = 7;
const TOO_SLOW: u64 = 8;
const PROTOCOL_ERROR: u64 = 9;
const UNSUPPORTED_VERSION: u64 = 10;
const ROOM_UNKNOWN: u64 = 13;
const HOST_ABSENT: u64 = 14;
const ROOM_CLOSED: u64 = 15;
const JOIN_TIMEOUT: u64 = 16;

fn with_relay(config: &mut backend_server::Config) {
    config.relay_listen = Some(([127, 0, 0, 1], 0).into());
    config.holder_heartbeat_seconds = 1;
}

async fn player(backend: &Backend, name: &str) -> String {
    text(&backend.guest(name).await["access_token"])
}

async fn try_host(backend: &Backend, token: &str, room: Value) -> Answer {
    backend.post("/v1/relay/rooms", token, &json!({"room": room})).await
}

/// The host's ticket for a new room.
async fn host(backend: &Backend, room: Value) -> Value {
    try_host(backend, &player(backend, "Host").await, room).await.expect(200)
}

/// Another player's ticket for it.
async fn guest(backend: &Backend, room: &Value) -> Value {
    ticket(backend, &player(backend, "Ada").await, room).await
}

async fn ticket(backend: &Backend, token: &str, room: &Value) -> Value {
    let path = format!("/v1/rooms/{}/ticket", text(&room["room"]["room_id"]));
    backend.post(&path, token, &json!({})).await.expect(200)
}

/// The room as it is listed when it meets the condition.
async fn listed(backend: &Backend, room: &Value, wanted: impl Fn(&Value) -> bool) {
    let path = format!("/v1/rooms/{}", text(&room["room"]["room_id"]));
    loop {
        let answer = backend.get(&path, &backend.key).await;
        if wanted(&answer.body) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

on_both_databases! {
    async fn a_room_lives_as_long_as_its_host_is_there(backend, with_relay) {
        let room = host(backend, json!({"name": "Pond", "max_players": 2})).await;
        assert_eq!((&room["relay"], &room["room"]["name"]), (&json!(true), &json!("Pond")));
        let (mut host, number) = RelayClient::enter(&room).await;
        assert_eq!(number, 1);
        listed(backend, &room, |room| room["players"] == 1 && room["reserved"] == 0).await;
        let shown = guest(backend, &room).await;
        assert_eq!(shown["relay"], true);
        let (mut ada, number) = RelayClient::enter(&shown).await;
        assert!(number > 1);
        let joined = host.frame().await;
        assert_eq!((joined[0], i32::from_be_bytes(joined[1..5].try_into().expect("four"))), (0x21, number));
        assert!(joined.ends_with(b"\x03Ada"), "{joined:?}");
        assert!(ada.frame().await.ends_with(b"\x04Host"));
        listed(backend, &room, |room| room["players"] == 2 && room["reserved"] == 0).await;
        // The list knows that it is full.
        let path = format!("/v1/rooms/{}/ticket", text(&room["room"]["room_id"]));
        backend.post(&path, &player(backend, "Bob").await, &json!({})).await.refused(409, "room_full");

        // What was sent before leaving arrives, then the end.
        host.write(&framed(&message(0, 0, 0, b"bye"))).await;
        host.write(&framed(&[0x12])).await;
        assert_eq!(ada.message().await.payload, b"bye");
        assert_eq!(ada.frame().await, [0x22, 0, 0, 0, 1, 0], "the host left");
        assert_eq!(ada.frame().await, [0x23, 3]);
        assert_eq!(ada.closed().await, HOST_LEFT);
        listed(backend, &room, |room| room["code"] == "room_not_found").await;
    }

    async fn nobody_is_let_in_without_a_ticket_of_their_own(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (room_id, secret) = (text(&room["room"]["room_id"]), text(&room["ticket"]));
        let other = host(backend, json!({})).await;
        let access = player(backend, "Eve").await;
        let (head, signature) = secret.rsplit_once('.').expect("a JWT");
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        let forged = format!("{head}.{flipped}{}", &signature[1..]);
        for (what, first, reason) in [
            ("nothing of the kind", framed(b"\x00\x00\x00\x00\x00\x00hello"), PROTOCOL_ERROR),
            ("no frame", b"GET / HTTP/1.1\r\n\r\n".to_vec(), PROTOCOL_ERROR),
            ("no text", framed(b"\x10\x01\x02r1\xff\xfe"), PROTOCOL_ERROR),
            ("another version", framed(b"\x10\x02\x02r1a.b.c"), UNSUPPORTED_VERSION),
            ("no token", join(&room_id, "a.b.c"), TICKET_INVALID),
            ("an access token", join(&room_id, &access), TICKET_INVALID),
            ("a forged ticket", join(&room_id, &forged), TICKET_INVALID),
            ("a ticket for another room", join(&room_id, &text(&other["ticket"])), TICKET_INVALID),
            ("a room that is none", join("elsewhere", &secret), TICKET_INVALID),
        ] {
            let mut client = RelayClient::connect(&room).await;
            client.write(&first).await;
            assert_eq!(client.closed().await, reason, "{what}");
        }
        let game_server = backend.server("Elsewhere", json!({})).await;
        let path = format!("/v1/rooms/{game_server}/ticket");
        let elsewhere = backend.post(&path, &access, &json!({})).await.expect(200);
        let mut client = RelayClient::connect(&room).await;
        client.show(&elsewhere).await;
        assert_eq!(client.closed().await, ROOM_UNKNOWN, "a game server's ticket");

        // Before the host, nobody; and each ticket once, also when the player was turned away.
        let early = guest(backend, &room).await;
        for reason in [HOST_ABSENT, TICKET_USED] {
            let mut client = RelayClient::connect(&early).await;
            client.show(&early).await;
            assert_eq!(client.closed().await, reason);
        }
        let (_host, _) = RelayClient::enter(&room).await;
        let mut client = RelayClient::connect(&room).await;
        client.show(&room).await;
        assert_eq!(client.closed().await, TICKET_USED, "shown by a second connection");
    }

    async fn messages_reach_those_for_whom_they_are_in_the_name_of_their_sender(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (mut host, _) = RelayClient::enter(&room).await;
        let (mut ada, ada_number) = RelayClient::enter(&guest(backend, &room).await).await;
        let (mut bob, bob_number) = RelayClient::enter(&guest(backend, &room).await).await;
        let from_ada = |kind, channel, payload: &[u8]| Received {
            kind, channel, sender: ada_number, payload: payload.to_vec(),
        };
        // To all, to one, to all but one: never back, and in the order in which they were sent.
        for (target, text) in [(0, "all"), (bob_number, "bob"), (1, "host"), (-1, "not host"), (ada_number, "self"), (777, "nobody")] {
            ada.write(&framed(&message(0, 0, target, text.as_bytes()))).await;
        }
        ada.write(&framed(&message(0, 0, 0, b"last"))).await;
        for expected in ["all", "host", "last"] {
            assert_eq!(host.message().await, from_ada(0, 0, expected.as_bytes()));
        }
        for expected in ["all", "bob", "not host", "last"] {
            assert_eq!(bob.message().await, from_ada(0, 0, expected.as_bytes()));
        }
        // By datagram, and what is too large for one by the channel's stream.
        ada.connection.send_datagram(message(1, 4, 0, b"soon").into()).expect("sent");
        assert_eq!(bob.datagram().await, from_ada(1, 4, b"soon"));
        let mut ordered = message(2, 5, 1, b"");
        ordered.extend_from_slice(b"\x00\x07now");
        ada.connection.send_datagram(ordered.into()).expect("sent");
        host.datagram().await;
        assert_eq!(host.datagram().await, from_ada(2, 5, b"now"));
        let mut channel = ada.connection.open_uni().await.expect("a stream");
        channel.write_all(&framed(&message(1, 9, 0, &[7; 5000]))).await.expect("sent");
        channel.write_all(&framed(&message(0, 9, 0, b"and reliable"))).await.expect("sent");
        let mut stream = bob.connection.accept_uni().await.expect("a stream");
        assert_eq!(received(&read(&mut stream).await), from_ada(1, 9, &[7; 5000]));
        assert_eq!(received(&read(&mut stream).await), from_ada(0, 9, b"and reliable"));
    }

    async fn a_player_whose_address_changes_stays(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (mut host, _) = RelayClient::enter(&room).await;
        let (mut ada, number) = RelayClient::enter(&guest(backend, &room).await).await;
        host.write(&framed(&message(0, 0, 0, b"before"))).await;
        assert_eq!(ada.message().await.payload, b"before");
        let before = ada.endpoint.local_addr().expect("an address");
        ada.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket")).expect("moved");
        assert_ne!(ada.endpoint.local_addr().expect("an address"), before);
        ada.write(&framed(&message(0, 0, 0, b"moved"))).await;
        assert_eq!(host.message().await, Received { kind: 0, channel: 0, sender: number, payload: b"moved".to_vec() });
        host.write(&framed(&message(0, 0, 0, b"after"))).await;
        assert_eq!(ada.message().await.payload, b"after");
    }

    async fn the_host_decides_who_stays(backend, with_relay) {
        let room = host(backend, json!({"max_players": 3})).await;
        let (mut host, _) = RelayClient::enter(&room).await;
        let (mut ada, ada_number) = RelayClient::enter(&guest(backend, &room).await).await;
        let bob_token = player(backend, "Bob").await;
        let (mut bob, bob_number) = RelayClient::enter(&ticket(backend, &bob_token, &room).await).await;
        let kick = |peer: i32| framed(&[&[0x11][..], &peer.to_be_bytes()].concat());
        host.write(&kick(1)).await;
        host.write(&kick(ada_number)).await;
        assert_eq!(ada.closed().await, KICKED);
        // The same player from elsewhere takes the place over.
        listed(backend, &room, |room| room["players"] == 2).await;
        let (mut again, number) = RelayClient::enter(&ticket(backend, &bob_token, &room).await).await;
        assert_ne!(number, bob_number);
        assert_eq!(bob.closed().await, JOINED_AGAIN);
        // Those who are not the host kick nobody.
        again.write(&kick(1)).await;
        assert_eq!(again.closed().await, PROTOCOL_ERROR);
        host.write(&framed(&[0x13, 0])).await;
        // The frame and a later one on the same stream: it has arrived.
        listed(backend, &room, |room| room["players"] == 1).await;
        let closed = guest(backend, &room).await;
        let mut client = RelayClient::connect(&closed).await;
        client.show(&closed).await;
        assert_eq!(client.closed().await, ROOM_CLOSED);
        assert!(bob.send.write_all(b"x").await.is_err());
        assert!(ada.send.write_all(b"x").await.is_err());
    }

    async fn hostile_players_are_disconnected_and_the_others_notice_nothing(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (mut host, _) = RelayClient::enter(&room).await;
        let too_long = (2_u32 << 20).to_be_bytes();
        for (what, bytes) in [
            ("a frame that is too long", too_long.to_vec()),
            ("a frame without a kind", framed(&[])[..4].to_vec()),
            ("a channel that is none", framed(&message(0, 200, 0, b""))),
            ("another channel on the first stream", framed(&message(0, 3, 0, b""))),
            ("a frame of the relay's own", framed(&[0x23, 3])),
        ] {
            let (mut eve, _) = RelayClient::enter(&guest(backend, &room).await).await;
            eve.write(&bytes).await;
            assert_eq!(eve.closed().await, PROTOCOL_ERROR, "{what}");
        }
        let (eve, _) = RelayClient::enter(&guest(backend, &room).await).await;
        eve.connection.send_datagram(message(0, 0, 0, b"reliable?").into()).expect("sent");
        assert_eq!(eve.closed().await, PROTOCOL_ERROR, "what has to arrive, by datagram");
        let (eve, _) = RelayClient::enter(&guest(backend, &room).await).await;
        for _ in 0..2 {
            let mut stream = eve.connection.open_uni().await.expect("a stream");
            stream.write_all(&framed(&message(0, 3, 0, b"twice"))).await.expect("sent");
        }
        assert_eq!(eve.closed().await, PROTOCOL_ERROR, "two streams of one channel");

        // A flood of what may be lost is thinned out; what has to arrive still does.
        let (mut eve, _) = RelayClient::enter(&guest(backend, &room).await).await;
        for _ in 0..20_000 {
            eve.connection.send_datagram(message(1, 0, 0, &[0; 1000]).into()).expect("sent");
        }
        eve.write(&framed(&message(0, 0, 1, b"still here"))).await;
        while host.message().await.payload != b"still here" {}
    }

    async fn who_does_not_read_is_disconnected(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (mut host, _) = RelayClient::enter(&room).await;
        let (slow, _) = RelayClient::enter(&guest(backend, &room).await).await;
        let (mut ada, _) = RelayClient::enter(&guest(backend, &room).await).await;
        let reading = tokio::spawn(async move {
            let mut count = 0;
            while count < 160 {
                count += usize::from(ada.message().await.payload.len() == 60_000);
            }
        });
        for _ in 0..160 {
            host.write(&framed(&message(0, 0, 0, &vec![1; 60_000]))).await;
        }
        assert_eq!(slow.closed().await, TOO_SLOW);
        reading.await.expect("everything has arrived");
    }

    async fn who_is_banned_is_disconnected(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (_host, _) = RelayClient::enter(&room).await;
        let ada = backend.guest("Ada").await;
        let token = text(&ada["access_token"]);
        let (client, _) = RelayClient::enter(&ticket(backend, &token, &room).await).await;
        backend.post("/v1/auth/logout-everywhere", "", &json!({"refresh_token": ada["refresh_token"]})).await.expect(204);
        assert_eq!(client.closed().await, REVOKED);
    }

    async fn a_room_that_the_operator_ends_is_over(backend, with_relay) {
        let room = host(backend, json!({})).await;
        let (client, _) = RelayClient::enter(&room).await;
        backend.execute("UPDATE servers SET lease_until = 0 WHERE relay = 1").await;
        assert_eq!(client.closed().await, ROOM_ENDED);
    }

    async fn a_player_hosts_a_few_rooms_at_most(backend, with_relay) {
        let token = player(backend, "Host").await;
        for _ in 0..3 {
            try_host(backend, &token, json!({})).await.expect(200);
        }
        try_host(backend, &token, json!({})).await.refused(409, "room_limit_reached");
        let other = player(backend, "Other").await;
        let many = try_host(backend, &other, json!({"max_players": 1000})).await;
        many.refused(422, "invalid_field");
        assert_eq!(many.field(), "room.max_players");
    }

    async fn without_a_relay_no_rooms_are_hosted(backend) {
        let token = player(backend, "Host").await;
        try_host(backend, &token, json!({})).await.refused(403, "room_creation_refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_told_to_go() {
    let backend = Backend::on_sqlite_with(with_relay).await;
    let room = host(&backend, json!({})).await;
    let client = RelayClient::connect(&room).await;
    assert_eq!(client.closed().await, JOIN_TIMEOUT);
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stops_tells_its_players_and_leaves_no_room_behind() {
    let backend = Backend::on_sqlite_with(with_relay).await;
    let room = host(&backend, json!({})).await;
    let (client, _) = RelayClient::enter(&room).await;
    let closing = tokio::spawn(async move { client.closed().await });
    let backend = backend.restart().await;
    assert_eq!(closing.await.expect("closed"), RELAY_STOPPING);
    let path = format!("/v1/rooms/{}", text(&room["room"]["room_id"]));
    backend.get(&path, &backend.key).await.refused(404, "room_not_found");
    backend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_count_what_goes_through_the_relay() {
    let backend = Backend::on_sqlite_with(with_relay).await;
    let room = host(&backend, json!({})).await;
    let (mut host, _) = RelayClient::enter(&room).await;
    let (mut ada, _) = RelayClient::enter(&guest(&backend, &room).await).await;
    host.write(&framed(&message(0, 0, 0, b"counted"))).await;
    ada.message().await;
    let metrics = backend.get("/metrics", "").await.body;
    let metrics = metrics.as_str().expect("text");
    for name in ["rooms", "players", "messages_total", "bytes_total"] {
        // Other tests of this process count as well.
        assert!(
            metrics.lines().any(|line| line.starts_with(&format!("backend_relay_{name} "))),
            "{name}: {metrics}"
        );
    }
    backend.stop().await;
}
