use super::has_port;

#[test]
fn a_local_port_is_found_and_a_remote_one_is_not() {
    let table = "  sl  local_address rem_address   st\n   0: 0100007F:1E61 0200007F:01BB 07\n";
    assert!(has_port(table, 7_777));
    assert!(!has_port(table, 443) && !has_port("", 7_777));
}

#[cfg(target_os = "linux")]
#[test]
fn the_port_of_a_socket_is_bound_until_it_is_closed() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("socket");
    let port = socket.local_addr().expect("address").port();
    assert_eq!(super::is_bound(port), Some(true));
}
