//! Servers on the local network, found without the backend: by broadcast, and on IPv6 by multicast.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use backend_protocol::rooms::{Room, RoomPage};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::error::{ClientError, Fault};
use crate::server_query::ping::{FoundRoom, Nonce, Question, ROOM_QUESTION, decode_room};
use crate::server_query::{DISCOVERY_GROUP, DISCOVERY_PORT, Interface};

/// Most rooms of one call.
pub const MAX_LAN_ROOMS: usize = 1_000;
/// Questions, in case one is lost, and the time between two.
const QUESTIONS: u32 = 3;
const QUESTION_INTERVAL: Duration = Duration::from_millis(200);
/// Time after the last question in which answers count.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(400);

/// Asks the networks of `interfaces`, which are those of this machine, and gives the rooms by name. The address of a room is where
/// its answer came from, by IPv4 if both are there. A room that answers several times, or by several networks, is in it once.
pub async fn discover_lan(interfaces: &[Interface]) -> Result<RoomPage, ClientError> {
    let mut sockets = Vec::new();
    let mut failure = None;
    // An interface that is down does not keep the others from being asked.
    for network in networks(interfaces) {
        match network.open().await {
            Ok(socket) => sockets.push((socket, network.everybody)),
            Err(error) => failure = Some(error),
        }
    }
    if sockets.is_empty() {
        let error = failure.map(|error| error.to_string()).unwrap_or_default();
        return Err(ClientError::new(Fault::Network, format!("no local network can be asked: {error}")));
    }
    let nonce: Nonce = rand::random();
    let mut asked = JoinSet::new();
    for (number, (socket, everybody)) in sockets.into_iter().enumerate() {
        asked.spawn(async move { (number, ask(socket, everybody, nonce).await) });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|(number, _)| *number);
    let mut rooms: Vec<Room> = Vec::new();
    let mut known = HashSet::new();
    for found in answered.into_iter().flat_map(|(_, found)| found) {
        if rooms.len() < MAX_LAN_ROOMS && known.insert(key(&found)) {
            rooms.push(found.room);
        }
    }
    rooms.sort_by(|a, b| (&a.name, &a.room_id).cmp(&(&b.name, &b.room_id)));
    Ok(RoomPage { rooms, next_cursor: None })
}

/// What the answers of one server have in common.
fn key(found: &FoundRoom) -> String {
    let FoundRoom { instance, room, .. } = found;
    if !room.room_id.is_empty() {
        // It is what a ticket is requested with: there is one room of it, whoever answers.
        return room.room_id.clone();
    }
    // A server that is not registered has no id.
    if *instance == 0 {
        format!("{}:{}", room.address, room.port)
    } else {
        format!("#{instance}:{}", room.port)
    }
}

/// A network that is asked.
struct Network {
    /// Address of this machine in it. Servers answer to it from one of the same kind, and not from a link-local one.
    from: IpAddr,
    interface: u32,
    everybody: SocketAddr,
}

impl Network {
    /// The socket from which it is asked: bound to an address, so that the question leaves there.
    async fn open(&self) -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((self.from, 0)).await?;
        match self.from {
            IpAddr::V4(_) => socket.set_broadcast(true)?,
            IpAddr::V6(_) => SockRef::from(&socket).set_multicast_if_v6(self.interface)?,
        }
        Ok(socket)
    }
}

/// IPv4 first: of a server that answers over both, the first answer counts.
fn networks(interfaces: &[Interface]) -> Vec<Network> {
    let mut networks = Vec::new();
    for interface in interfaces {
        for address in &interface.addresses {
            if let IpAddr::V4(address) = address
                && !address.is_loopback()
                && !address.is_unspecified()
            {
                let everybody = (Ipv4Addr::BROADCAST, DISCOVERY_PORT).into();
                networks.push(Network { from: (*address).into(), interface: interface.index, everybody });
            }
        }
    }
    // Loopback has a network of its own, for servers on a machine that has no other.
    let everybody = (Ipv4Addr::new(127, 255, 255, 255), DISCOVERY_PORT).into();
    networks.push(Network { from: Ipv4Addr::LOCALHOST.into(), interface: 0, everybody });
    for interface in interfaces {
        for address in interface.reachable_ipv6() {
            let everybody = SocketAddrV6::new(DISCOVERY_GROUP, DISCOVERY_PORT, 0, interface.index).into();
            networks.push(Network { from: address.into(), interface: interface.index, everybody });
        }
    }
    networks
}

async fn ask(socket: UdpSocket, everybody: SocketAddr, nonce: Nonce) -> Vec<FoundRoom> {
    let question = Question::Room(nonce).encode();
    let mut rooms = Vec::new();
    // What is longer than an answer can be is cut, and so none.
    let mut buffer = vec![0; ROOM_QUESTION + 1];
    for round in 1..=QUESTIONS {
        // A network that cannot be reached now may be reached by the next one.
        let _unreachable = socket.send_to(&question, everybody).await;
        let pause = if round == QUESTIONS { ANSWER_TIMEOUT } else { QUESTION_INTERVAL };
        let deadline = Instant::now() + pause;
        while let Ok(received) = timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            let Ok((length, from)) = received else { continue };
            let found = decode_room(&buffer[..length], &from.ip().to_string());
            if let Some(found) = found.filter(|found| found.nonce == nonce)
                && rooms.len() < MAX_LAN_ROOMS * QUESTIONS as usize
            {
                rooms.push(found);
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
