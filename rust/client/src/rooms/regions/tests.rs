//! A real server on loopback, and a longer way to it.

use std::sync::Arc;

use backend_protocol::routes;
use serde_json::json as value;
use tokio::net::UdpSocket;

use super::*;
use crate::platform::clock::SystemClock;
use crate::rooms::scripted_network::{ScriptedNetwork, json};
use crate::server_query::{Facts, QueryOptions, ServerQuery};

fn server() -> (ServerQuery, u16) {
    let server = ServerQuery::new(Arc::new(SystemClock), Duration::from_secs(20));
    server.publish(Facts::default());
    let port = server.open(QueryOptions { port: 0, lan_discovery: false }).expect("opened");
    (server, port)
}

/// A port behind which is that of the server, further away.
async fn far_from(server_port: u16) -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.expect("bound");
    let port = socket.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let behind = UdpSocket::bind(("127.0.0.1", 0)).await.expect("bound");
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            tokio::time::sleep(Duration::from_millis(60)).await;
            behind.send_to(&buffer[..length], ("127.0.0.1", server_port)).await.expect("sent");
            let length = behind.recv(&mut buffer).await.expect("an answer");
            socket.send_to(&buffer[..length], from).await.expect("sent");
        }
    });
    port
}

fn nearby(region: Option<&str>) -> RoomQuery {
    RoomQuery { region: region.map(str::to_owned), ..RoomQuery::default() }
}

#[tokio::test]
async fn the_nearest_region_takes_the_place_of_its_name() {
    let (_server, near) = server();
    let far = far_from(near).await;
    let (rooms, network) = ScriptedNetwork::with_rooms(move |sent| match sent.path.as_str() {
        routes::REGIONS => json(&value!({"regions": [
            {"region": "far", "address": "127.0.0.1", "query_port": far},
            {"region": "near", "address": "127.0.0.1", "query_port": near},
            {"region": "silent", "address": "127.0.0.1", "query_port": 9},
        ]})),
        _ => json(&value!({"rooms": []})),
    })
    .await;
    assert_eq!(rooms.regions.resolved(&nearby(Some("nearest"))).region, None, "nothing is measured yet");
    rooms.list(&nearby(Some("nearest"))).await.expect("listed");
    rooms.list(&nearby(Some("nearest"))).await.expect("listed");
    rooms.list(&nearby(Some("far"))).await.expect("listed");
    let lists = network.sent_to(routes::ROOMS);
    let asked: Vec<bool> = lists.iter().map(|sent| sent.query.contains("region=near&")).collect();
    assert_eq!(asked, [true, true, false], "{:?}", lists.iter().map(|sent| &sent.query).collect::<Vec<_>>());
    assert_eq!(network.sent_to(routes::REGIONS).len(), 1, "measured once");
    let pings = rooms.ping_regions().await.expect("measured");
    let names: Vec<(&str, bool)> = pings.iter().map(|ping| (&*ping.region, ping.measured.is_ok())).collect();
    assert_eq!(names, [("far", true), ("near", true), ("silent", false)]);
    assert_eq!(nearest(&pings), Some("near"));
}

#[tokio::test]
async fn without_regions_there_are_rooms_of_all() {
    let (rooms, network) = ScriptedNetwork::with_rooms(|sent| match sent.path.as_str() {
        routes::REGIONS => json(&value!({"regions": []})),
        _ => json(&value!({"rooms": []})),
    })
    .await;
    rooms.list(&nearby(Some("nearest"))).await.expect("listed");
    assert!(network.sent_to(routes::ROOMS).iter().all(|sent| !sent.query.contains("region")));
}
