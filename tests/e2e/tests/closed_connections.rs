//! Whoever is at the other end of a connection is gone in the middle of it: that is an error, and not the end of the process.
//!
//! The engine leaves SIGPIPE at its default, which ends a process that writes to a closed socket.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;
use test_harness::backend::Backend;
use test_harness::fault_proxy::{Fault, FaultProxy};
use test_harness::fixture::{self, Fixture};
use test_harness::{until, world};

/// Connections that are closed on it before all is well again.
const CLOSED: usize = 6;

/// Waits for the proxy to have hung up often, and for the server to be alive after that.
fn survives(server: &mut Fixture, proxy: &FaultProxy) -> Result<()> {
    let hung_up = until("closed connections", || {
        ensure!(server.godot().is_running()?, "the process ended");
        Ok((proxy.struck().hung_up >= CLOSED).then_some(()))
    });
    hung_up.with_context(|| server.log().tail())
}

#[test]
fn a_backend_that_hangs_up_while_it_receives_saves_gets_them_later() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let mut server = fixture::server("Hung up on", &proxy.url(), &backend.server_key_file())?.start()?;
    let registered = server.ask(&json!({ "do": "register" }))?;
    ensure!(registered["server_id"].is_string(), "{registered}");
    let api = backend.api()?;
    let ids = (0..20).map(|number| Ok(api.log_in(&format!("Player {number}"))?.id().to_owned()));
    let ids = ids.collect::<Result<Vec<_>>>()?;
    let loaded = server.ask(&json!({ "do": "load_players", "player_ids": ids }))?;
    ensure!(loaded.get("documents").is_some(), "{loaded}");

    proxy.set(Fault::HangUp { path: "/v1/".to_owned() });
    // Far more than a socket takes at once: the end comes between two writes of a batch.
    let value = json!({ "races": 7, "pad": "x".repeat(200_000) });
    server.ask(&json!({ "do": "save", "key": "progress", "value": value }))?;
    survives(&mut server, &proxy)?;
    proxy.set(Fault::None);
    until("all saves at the backend", || {
        Ok(backend.players()?.iter().all(|player| player.progress("races") == 7).then_some(()))
    })?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

#[test]
fn a_backend_that_hangs_up_while_it_receives_a_world_gets_it_later() -> Result<()> {
    let backend = Backend::start()?;
    let proxy = FaultProxy::start(backend.address())?;
    let folder = tempfile::tempdir()?;
    let mut server = world::start_behind("Hung up on", &proxy.url(), &backend, folder.path())?;
    world::open(&mut server)?;
    proxy.set(Fault::HangUp { path: "/v1/".to_owned() });
    // Of text that does not compress.
    let words: Vec<String> =
        (0..400_000_u32).map(|number| format!("{:x}", number.wrapping_mul(2_654_435_761))).collect();
    let text = words.concat();
    world::save(&mut server, &text)?;
    survives(&mut server, &proxy)?;
    proxy.set(Fault::None);
    world::flush(&mut server)?;
    server.godot().signal(Signal::TERM)?;
    server.godot().finish(0)
}

/// Somebody who takes connections, reads a little and then does `what`.
fn listener(what: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _the_end_of_one_connection = stream.read(&mut [0; 16]).and_then(|_some| what(stream));
        }
    });
    Ok(address)
}

fn login_fails_in_good_order(address: SocketAddr) -> Result<()> {
    let mut client = fixture::client("Client", &format!("https://{address}"))?.start()?;
    for _attempt in 0..CLOSED {
        let refused = client.ask(&json!({ "do": "log_in", "name": "Ada" }))?;
        let code = refused["failed"].as_str().with_context(|| format!("passed for a login: {refused}"))?;
        ensure!(!code.is_empty() && code != "internal", "{refused}");
    }
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().finish(0)
}

#[test]
fn https_on_a_plain_port_is_an_error() -> Result<()> {
    login_fails_in_good_order(listener(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        stream.shutdown(Shutdown::Both)
    })?)
}

#[test]
fn a_tls_peer_that_resets_the_connection_is_an_error() -> Result<()> {
    login_fails_in_good_order(listener(|stream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        drop(stream);
        Ok(())
    })?)
}
