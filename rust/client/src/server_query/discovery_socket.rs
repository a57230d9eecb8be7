//! The port on which all servers of a machine listen together, for questions to a whole local network.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Port of the question to a local network. Private range of IANA, chosen by us.
pub const DISCOVERY_PORT: u16 = 51_737;
/// Group of the question on IPv6, which has no broadcast: of one link, and of the range that RFC 3307 leaves to hosts. Its last
/// part is the port.
pub const DISCOVERY_GROUP: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x8000, DISCOVERY_PORT);

/// A network interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Number by which the system knows it.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// The addresses by which players reach this machine over IPv6, one per network. Link-local ones are none: the engine
    /// connects to no address that needs an interface beside it.
    pub fn reachable_ipv6(&self) -> impl Iterator<Item = Ipv6Addr> {
        let mut networks = HashSet::new();
        let addresses = self.addresses.iter().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        addresses.filter(move |address| {
            let is_reachable =
                !address.is_loopback() && !address.is_unspecified() && !address.is_unicast_link_local();
            is_reachable && networks.insert(network_of(*address))
        })
    }
}

/// The /64 network of an address: what an interface has of IPv6, but for rare set-ups.
fn network_of(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// A socket that shares the port with those of other servers. A broadcast reaches each of them.
pub fn bind(port: u16) -> io::Result<std::net::UdpSocket> {
    shared(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
}

/// The same for IPv6, where it hears of nothing until it has joined the group.
pub fn bind_ipv6(port: u16) -> io::Result<std::net::UdpSocket> {
    shared(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
}

fn shared(domain: Domain, address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        // The IPv4 port has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The links on which the group was joined, and the networks on them.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

struct Inner {
    socket: Arc<UdpSocket>,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    joined: HashSet<u32>,
    networks: HashSet<u64>,
}

impl Membership {
    pub fn of(socket: Arc<UdpSocket>) -> Self {
        Self(Arc::new(Inner { socket, links: Mutex::default() }))
    }

    /// Joins on the links that have come since the last call. `interfaces` are all that there are.
    pub fn join(&self, interfaces: &[Interface]) {
        let mut links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        // What is gone may come back with the same number, and is another link then.
        links.joined.retain(|index| interfaces.iter().any(|interface| interface.index == *index));
        links.networks.clear();
        for interface in interfaces {
            let networks: Vec<u64> = interface.reachable_ipv6().map(network_of).collect();
            if networks.is_empty() {
                continue;
            }
            links.networks.extend(networks);
            if links.joined.contains(&interface.index) {
                continue;
            }
            match self.0.socket.join_multicast_v6(&DISCOVERY_GROUP, interface.index) {
                Ok(()) => _ = links.joined.insert(interface.index),
                // One that is down, or that has no multicast, is tried again with the next call.
                Err(error) => tracing::debug!(
                    "the server is not found over IPv6 on network interface {}: {error}",
                    interface.index
                ),
            }
        }
    }

    /// Whether `peer` is on one of the links. Most networks have public addresses of IPv6: the prefix tells who is near.
    pub fn is_near(&self, peer: SocketAddr) -> bool {
        let links = self.0.links.lock().unwrap_or_else(PoisonError::into_inner);
        is_local(peer)
            || matches!(peer.ip(), IpAddr::V6(address) if links.networks.contains(&network_of(address)))
    }
}

/// Whether `peer` is on a local network. Others get no answer here: a server on the internet is found by the room list.
pub fn is_local(peer: SocketAddr) -> bool {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        Interface { index: 0, addresses }
    }

    #[test]
    fn one_address_of_each_network_is_used_and_none_that_is_link_local() {
        let used = interface(&["10.0.0.1", "fe80::1", "::1", "2001:db8::1", "2001:db8::2", "fd00:1::1"]);
        let used: Vec<String> = used.reachable_ipv6().map(|address| address.to_string()).collect();
        assert_eq!(used, ["2001:db8::1", "fd00:1::1"]);
    }

    #[tokio::test]
    async fn neighbours_are_those_of_the_same_network() {
        let socket = bind_ipv6(0).and_then(UdpSocket::from_std).expect("bound");
        let membership = Membership::of(Arc::new(socket));
        let is_near =
            |address: &str| membership.is_near(format!("[{address}]:9").parse().expect("an address"));
        assert!(is_near("fd00::1") && is_near("fe80::1") && is_near("::1"));
        assert!(!is_near("2001:db8::7"));
        membership.join(&[interface(&["2001:db8::1"])]);
        assert!(is_near("2001:db8::7") && !is_near("2001:db8:0:1::7"));
        membership.join(&[]);
        assert!(!is_near("2001:db8::7"));
    }
}
