use super::*;
use crate::config::parsers::network;

fn seen(peer: &str, lines: &[&str], proxies: &[&str]) -> String {
    let proxies: Vec<IpNet> = proxies.iter().map(|text| network(text).expect("network")).collect();
    behind_proxies(peer.parse().expect("address"), lines.iter().copied(), &proxies).to_string()
}

#[test]
fn a_stranger_is_who_its_connection_says() {
    assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
    assert_eq!(seen("203.0.113.9", &["198.51.100.1"], &["10.0.0.0/8"]), "203.0.113.9");
}

#[test]
fn a_trusted_proxy_is_believed_about_its_own_peer_only() {
    let trust = &["10.0.0.0/8", "192.0.2.7"];
    assert_eq!(seen("10.0.0.1", &["198.51.100.1"], trust), "198.51.100.1");
    // The client sent a list of its own, to which the proxy appended.
    assert_eq!(seen("10.0.0.1", &["127.0.0.1, 198.51.100.1"], trust), "198.51.100.1");
    assert_eq!(seen("10.0.0.1", &["127.0.0.1", "198.51.100.1"], trust), "198.51.100.1");
    assert_eq!(seen("10.0.0.1", &["198.51.100.1, 192.0.2.7"], trust), "198.51.100.1");
    assert_eq!(seen("10.0.0.1", &["198.51.100.1:4711"], trust), "198.51.100.1");
    assert_eq!(seen("10.0.0.1", &["[2001:db8::1]:4711"], trust), "2001:db8::1");
    assert_eq!(seen("10.0.0.1", &[], trust), "10.0.0.1");
    assert_eq!(seen("10.0.0.1", &["nonsense"], trust), "10.0.0.1");
}

#[test]
fn a_subscriber_of_ipv6_is_a_64() {
    let one: IpAddr = "2001:db8:1:2:3:4:5:6".parse().expect("address");
    assert_eq!(subscriber(one).to_string(), "2001:db8:1:2::");
    let four: IpAddr = "203.0.113.9".parse().expect("address");
    assert_eq!(subscriber(four), four);
}
