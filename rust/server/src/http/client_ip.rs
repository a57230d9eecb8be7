//! The IP address of the client: the peer of the connection, or the one that a trusted proxy forwards. Written here because
//! crates for it trust a number of proxies or a header, not a list of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Addresses of a proxy chain that are looked at.
const MAX_FORWARDED_HOPS: usize = 16;

/// The address of the client that sent `request`.
pub fn of(request: &Request, trusted_proxies: &[IpNet]) -> Option<IpAddr> {
    let peer =
        request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical())?;
    let lines = request.headers().get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?"));
    let address = behind_proxies(peer, lines, trusted_proxies);
    if address.is_loopback() && request.headers().contains_key(FORWARDED_FOR) {
        warn_of_unknown_proxy();
    }
    Some(address)
}

/// Once: a proxy on this machine that is not listed makes all its clients look like this machine, which is not limited.
fn warn_of_unknown_proxy() {
    static WARNED: std::sync::Once = std::sync::Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "a proxy on this machine is not a --trusted-proxy: the limits per address do not hold behind it"
        );
    });
}

pub fn is_trusted(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&address))
}

/// Each proxy appends the address of its peer, so the list is read from its end, and only as far as the proxies are trusted:
/// the entries before may be forged by the client.
fn behind_proxies<'a>(
    peer: IpAddr,
    lines: impl DoubleEndedIterator<Item = &'a str>,
    proxies: &[IpNet],
) -> IpAddr {
    let mut address = peer;
    let said = lines.rev().flat_map(|line| line.rsplit(',')).take(MAX_FORWARDED_HOPS);
    for hop in said {
        if !is_trusted(address, proxies) {
            break;
        }
        // Some proxies add the port.
        let hop = hop.trim();
        let before = hop.parse().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
        match before {
            Ok(before) => address = IpAddr::to_canonical(&before),
            Err(_) => break,
        }
    }
    address
}

/// What a limit counts by: an IPv4 address, or the /64 of one IPv6 subscriber.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// The network of a subscriber with several addresses: a /24 of IPv4, or the /48 that one site of IPv6 gets.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests;
