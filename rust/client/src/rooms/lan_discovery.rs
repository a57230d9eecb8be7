//! Servers on the local network, found by broadcast and without the backend.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use backend_protocol::rooms::{Room, RoomPage};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::error::{ClientError, Fault};
use crate::server_query::DISCOVERY_PORT;
use crate::server_query::ping::{Nonce, Question, ROOM_QUESTION, decode_room};

/// Most rooms of one call.
pub const MAX_LAN_ROOMS: usize = 1_000;
/// Questions, in case one is lost, and the time between two.
const QUESTIONS: u32 = 3;
const QUESTION_INTERVAL: Duration = Duration::from_millis(200);
/// Time after the last question in which answers count.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(400);

/// Asks the local networks of `interfaces`, the addresses of this machine, and gives the rooms by name. The address of a room is
/// where its answer came from. A room that answers several times, or by several networks, is in it once.
pub async fn discover_lan(interfaces: &[Ipv4Addr]) -> Result<RoomPage, ClientError> {
    discover(interfaces, DISCOVERY_PORT).await
}

async fn discover(interfaces: &[Ipv4Addr], port: u16) -> Result<RoomPage, ClientError> {
    // Loopback has a network of its own, for servers on a machine that has no other.
    let loopback = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 255, 255, 255));
    let others = interfaces.iter().filter(|address| !address.is_loopback() && !address.is_unspecified());
    let networks = others.map(|address| (*address, Ipv4Addr::BROADCAST)).chain([loopback]);
    let mut sockets = Vec::new();
    let mut failure = None;
    // An interface that is down does not keep the others from being asked.
    for (address, broadcast) in networks {
        match open(address).await {
            Ok(socket) => sockets.push((socket, SocketAddr::from((broadcast, port)))),
            Err(error) => failure = Some(error),
        }
    }
    if sockets.is_empty() {
        let error = failure.map(|error| error.to_string()).unwrap_or_default();
        return Err(ClientError::new(Fault::Network, format!("no local network can be asked: {error}")));
    }
    let nonce: Nonce = rand::random();
    let mut asked = JoinSet::new();
    for (socket, broadcast) in sockets {
        asked.spawn(ask(socket, broadcast, nonce));
    }
    let mut rooms: Vec<Room> = Vec::new();
    let mut known = HashSet::new();
    for room in asked.join_all().await.into_iter().flatten() {
        // A server that is not registered has no id, but an address.
        let key = if room.room_id.is_empty() {
            format!("{}:{}", room.address, room.port)
        } else {
            room.room_id.clone()
        };
        if rooms.len() < MAX_LAN_ROOMS && known.insert(key) {
            rooms.push(room);
        }
    }
    rooms.sort_by(|a, b| (&a.name, &a.room_id).cmp(&(&b.name, &b.room_id)));
    Ok(RoomPage { rooms, next_cursor: None })
}

/// The socket from which an interface's network is asked: bound to its address, so that the broadcast leaves there.
async fn open(address: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).await?;
    socket.set_broadcast(true)?;
    Ok(socket)
}

async fn ask(socket: UdpSocket, broadcast: SocketAddr, nonce: Nonce) -> Vec<Room> {
    let question = Question::Room(nonce).encode();
    let mut rooms = Vec::new();
    // What is longer than an answer can be is cut, and so none.
    let mut buffer = vec![0; ROOM_QUESTION + 1];
    for round in 1..=QUESTIONS {
        // A network that cannot be reached now may be reached by the next one.
        let _unreachable = socket.send_to(&question, broadcast).await;
        let pause = if round == QUESTIONS { ANSWER_TIMEOUT } else { QUESTION_INTERVAL };
        let deadline = Instant::now() + pause;
        while let Ok(received) = timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            let Ok((length, from)) = received else { continue };
            let room = decode_room(&buffer[..length], &from.ip().to_string());
            if let Some((_, room)) = room.filter(|(answered, _)| *answered == nonce)
                && rooms.len() < MAX_LAN_ROOMS * QUESTIONS as usize
            {
                rooms.push(room);
            }
        }
    }
    rooms
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::platform::clock::SystemClock;
    use crate::registration::ServerDescription;
    use crate::server_query::{Facts, QueryOptions, ServerQuery};

    #[tokio::test]
    async fn two_servers_of_one_machine_are_both_found_by_broadcast() {
        let servers: Vec<(ServerQuery, String)> = ["One", "Two"]
            .into_iter()
            .map(|word| {
                let server = ServerQuery::new(Arc::new(SystemClock), Duration::from_secs(20));
                // Other tests of this machine may be on the shared port.
                let name = format!("{word} {:x}", rand::random::<u64>());
                let description =
                    ServerDescription { name: name.clone(), port: 7777, ..ServerDescription::default() };
                server.publish(Facts { description, room_id: Some(word.to_owned()), ..Facts::default() });
                server.open(QueryOptions { port: 0, lan_discovery: true }).expect("opened");
                (server, name)
            })
            .collect();
        let page = discover_lan(&[]).await.expect("asked");
        for (_, name) in &servers {
            let found: Vec<&Room> = page.rooms.iter().filter(|room| room.name == *name).collect();
            assert_eq!(found.len(), 1, "{name}: {page:?}");
            assert_eq!((found[0].address.as_str(), found[0].port), ("127.0.0.1", 7777));
            assert!(found[0].query_port.is_some(), "it can be pinged");
        }
    }
}
