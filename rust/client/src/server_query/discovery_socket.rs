//! The port on which all servers of a machine listen together, for questions to a whole local network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Port of the question to a local network. Private range of IANA, chosen by us.
pub const DISCOVERY_PORT: u16 = 51_737;

/// A socket that shares the port with those of other servers. A broadcast reaches each of them.
pub fn bind(port: u16) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
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
