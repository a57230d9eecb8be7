//! Real servers on loopback, some of which misbehave.

use std::sync::Arc;

use super::*;
use crate::platform::clock::SystemClock;
use crate::registration::ServerDescription;
use crate::server_query::{Facts, QueryOptions, ServerQuery};

const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

fn server(players: u32) -> (ServerQuery, u16) {
    let server = ServerQuery::new(Arc::new(SystemClock), WAIT_TIMEOUT);
    let description = ServerDescription { max_players: 8, ..ServerDescription::default() };
    server.publish(Facts { description, players, ..Facts::default() });
    let port = server.open(QueryOptions { port: 0, lan_discovery: false }).expect("opened");
    (server, port)
}

fn target(room_id: &str, address: &str, query_port: Option<u16>) -> Target {
    Target { room_id: room_id.into(), address: address.into(), query_port }
}

#[tokio::test]
async fn each_room_has_its_measurement_or_its_error() {
    let (_server, port) = server(3);
    let (closed, closed_port) = server(0);
    closed.close();
    let port = Some(port);
    let targets = vec![
        target("by address", "127.0.0.1", port),
        target("silent", "127.0.0.1", Some(closed_port)),
        target("no pings", "127.0.0.1", None),
        target("broadcast", "255.255.255.255", port),
        target("multicast", "ff02::1", port),
        target("any", "0.0.0.0", port),
        target("unknown", "no-such-host.invalid", port),
        target("by name", "localhost", port),
        target("rubbish", "not a host\0", port),
    ];
    let pings = ping_all(targets.clone()).await.expect("measured");
    let ids: Vec<&str> = pings.iter().map(|ping| ping.room_id.as_str()).collect();
    assert_eq!(ids, targets.iter().map(|target| target.room_id.as_str()).collect::<Vec<_>>());
    let code = |index: usize| {
        pings[index].measured.as_ref().map(|measured| measured.players).map_err(ClientError::code)
    };
    assert_eq!(code(0), Ok(3));
    assert_eq!(code(1), Err("timeout"));
    for bad in [2, 3, 4, 5, 6, 8] {
        assert_eq!(code(bad), Err("invalid_field"), "{}", pings[bad].room_id);
    }
    let measured = pings[0].measured.as_ref().expect("measured");
    assert!(measured.loss.abs() < f64::EPSILON && measured.latency > Duration::ZERO, "{measured:?}");
    assert_eq!((measured.status, measured.max_players), (ServerStatus::Ready, 8));
}

#[tokio::test]
async fn too_many_rooms_are_refused() {
    let targets = vec![target("a", "127.0.0.1", None); MAX_TARGETS + 1];
    assert_eq!(ping_all(targets).await.expect_err("too many").field.as_deref(), Some("page"));
}

#[tokio::test]
async fn five_hundred_servers_are_measured_within_two_seconds() {
    let servers: Vec<(ServerQuery, u16)> = (0..500).map(server).collect();
    let targets = servers
        .iter()
        .enumerate()
        .map(|(index, (_, port))| target(&index.to_string(), "127.0.0.1", Some(*port)));
    let began = Instant::now();
    let pings = ping_all(targets.collect()).await.expect("measured");
    let took = began.elapsed();
    // What the pauses between probes make it take, on a machine that does nothing else: see `cargo xtask bench`.
    println!("500 servers: {took:?}");
    for (index, ping) in pings.iter().enumerate() {
        assert_eq!(ping.measured.as_ref().map(|one| one.players as usize), Ok(index), "{ping:?}");
    }
}

fn pong(nonce: Nonce) -> Pong {
    Pong { nonce, status: ServerStatus::Ready, players: 0, max_players: 1 }
}

fn probe(milliseconds: Option<u64>) -> Probe {
    let answer = milliseconds.map(|latency| (Duration::from_millis(latency), pong([0; 8])));
    Probe { sent: Instant::now(), answer }
}

#[test]
fn latency_is_the_median_jitter_the_mean_step_and_loss_the_share() {
    let of = |latencies: &[Option<u64>]| {
        let probes: Vec<Probe> = latencies.iter().map(|latency| probe(*latency)).collect();
        let found = measurement(&probes)?;
        Some((found.latency.as_millis(), found.jitter.as_millis(), (found.loss * 100.0) as u32))
    };
    assert_eq!(of(&[Some(10), Some(50), Some(20), Some(30)]), Some((25, 26, 0)));
    assert_eq!(of(&[Some(10), None, Some(200), Some(20)]), Some((20, 185, 25)));
    assert_eq!(of(&[None, Some(7), None, None]), Some((7, 0, 75)));
    assert_eq!(of(&[None, None]), None);
}

#[test]
fn an_answer_counts_once_from_where_it_was_asked_and_in_time() {
    let (address, other): (SocketAddr, SocketAddr) =
        ("192.0.2.1:9".parse().expect("an address"), "192.0.2.2:9".parse().expect("an address"));
    let answer = |nonce: Nonce| {
        let mut datagram = [&[0xff; 4], &b"Pbcq1"[..], &nonce].concat();
        datagram.extend([0; 9]);
        datagram
    };
    let now = Instant::now();
    let mut probes = Probes::default();
    let nonce = probes.begin(address, now);
    probes.take(&answer([0; 8]), address, now);
    probes.take(&answer(nonce), other, now);
    probes.take(&answer(nonce)[..20], address, now);
    probes.take(&answer(nonce), address, now + ANSWER_TIMEOUT + Duration::from_millis(1));
    assert_eq!(probes.unanswered, 1, "a guess, another server, a piece, too late");
    probes.take(&answer(nonce), address, now + Duration::from_millis(5));
    probes.take(&answer(nonce), address, now + Duration::from_millis(9));
    assert_eq!(probes.unanswered, 0);
    assert_eq!(measurement(&probes.of[&address]).expect("measured").latency, Duration::from_millis(5));
}
