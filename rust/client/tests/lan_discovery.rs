//! Two machines on one network, each a network namespace: what is found over IPv6 alone, and what over both protocols.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use backend_client::platform::clock::SystemClock;
use backend_client::registration::ServerDescription;
use backend_client::rooms::lan_discovery::discover_lan;
use backend_client::server_query::{Facts, Interface, QueryOptions, ServerQuery};
use rustix::process::geteuid;
use tokio::time::{sleep, timeout};

const TEST: &str = "a_server_is_found_over_ipv6_and_once_over_both_protocols";
const ROLE: &str = "LAN_DISCOVERY_ROLE";
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// "$@" plays a role. The networks are public ones, as most of IPv6 are.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip link add here type veth peer name there
export LAN_DISCOVERY_ROLE=server
unshare --net sh -c '
    until ip link show there >/dev/null 2>&1; do sleep 0.01; done
    ip link set lo up
    ip link set there up
    "$@" &
    # The server is there before its network.
    sleep 0.1
    ip -6 address add 2001:db8::1/64 dev there nodad
    ip address add 10.9.0.1/24 dev there
    wait' sh "$@" &
while ip link show there >/dev/null 2>&1; do ip link set there netns $!; sleep 0.01; done
ip -6 address add 2001:db8::2/64 dev here nodad
ip link set here up
LAN_DISCOVERY_ROLE=2001:db8::1 "$@"
ip address add 10.9.0.2/24 dev here
LAN_DISCOVERY_ROLE=10.9.0.1 "$@"
"#;

#[tokio::test]
async fn a_server_is_found_over_ipv6_and_once_over_both_protocols() {
    match std::env::var(ROLE).ok().as_deref() {
        None => play_both(),
        Some("server") => timeout(WAIT_TIMEOUT, serve()).await.expect("ended with its namespace"),
        Some(address) => timeout(WAIT_TIMEOUT, find(address)).await.expect("found in time"),
    }
}

fn play_both() {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    // With the first process, the server ends as well.
    command.args(["--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", NETWORK, "sh"]);
    command.arg(std::env::current_exe().expect("a program")).args(["--exact", TEST, "--nocapture"]);
    let output = command.output().expect("unshare runs: install util-linux");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success(),
        "{said}\nneeds iproute2, and namespaces that a user without rights may create"
    );
    assert_eq!(said.matches("FOUND").count(), 2, "{said}");
}

async fn serve() {
    let server = ServerQuery::new(Arc::new(SystemClock), WAIT_TIMEOUT);
    // Not registered: nothing but its answers says that they are of one server.
    let description = ServerDescription { name: "Pond".into(), port: 7777, ..ServerDescription::default() };
    server.publish(Facts { description, ..Facts::default() });
    server.open(QueryOptions { port: 0, lan_discovery: true }).expect("opened");
    loop {
        server.join_networks(interfaces);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn find(address: &str) {
    loop {
        let page = discover_lan(&interfaces()).await.expect("asked");
        let found: Vec<(&str, u16)> =
            page.rooms.iter().map(|room| (room.address.as_str(), room.port)).collect();
        assert!(found.len() < 2, "{page:?}");
        if found == [(address, 7777)] {
            assert!(page.rooms.iter().all(|room| room.query_port.is_some()), "it can be pinged");
            println!("FOUND {address}");
            return;
        }
    }
}

/// Those of this namespace.
fn interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let ipv6 = std::fs::read_to_string("/proc/net/if_inet6").expect("Linux with IPv6");
    for line in ipv6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from_bits(u128::from_str_radix(fields[0], 16).expect("an address"));
        let index = u32::from_str_radix(fields[1], 16).expect("a number");
        interfaces.push(Interface { index, addresses: vec![address.into()] });
    }
    // Every local address is the first of such a line, once.
    let ipv4 = std::fs::read_to_string("/proc/net/fib_trie").expect("Linux with IPv4");
    let mut before = "";
    for line in ipv4.lines() {
        if line.contains("/32 host LOCAL") {
            let address: Ipv4Addr = before.trim().trim_start_matches("|-- ").parse().expect("an address");
            if !interfaces.iter().any(|interface| interface.addresses == [IpAddr::V4(address)]) {
                interfaces.push(Interface { index: 0, addresses: vec![address.into()] });
            }
        }
        before = line;
    }
    interfaces
}
