//! A backend that answers nonsense costs the game an error, not its memory or its life.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use test_harness::fixture;

/// Most a client may grow while it refuses these replies, in KiB. The flood below is four times as large.
const ROOM_TO_GROW: u64 = 128 * 1024;
const FLOOD_BYTES: usize = 512 * 1024 * 1024;

type Answer = Arc<Mutex<Vec<u8>>>;

/// Answers every request with the same bytes, then repeats the last byte up to [`FLOOD_BYTES`] when `flood` is in it.
fn impostor() -> Result<(SocketAddr, Answer)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let answer = Answer::default();
    let shared = answer.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = shared.clone();
            // The client hanging up in mid-reply is what should happen.
            thread::spawn(move || drop(reply(stream, &answer)));
        }
    });
    Ok((address, answer))
}

fn reply(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    // One read suffices: nothing is understood anyway.
    let _request = stream.read(&mut [0; 8 * 1024])?;
    let bytes = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    stream.write_all(&bytes)?;
    if bytes.windows(5).any(|window| window == b"flood") {
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..FLOOD_BYTES / chunk.len() {
            stream.write_all(&chunk)?;
        }
    }
    Ok(())
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Peak memory of a process, in KiB.
fn peak_memory(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[test]
fn nonsense_from_the_backend_is_a_typed_error() -> Result<()> {
    let (address, answer) = impostor()?;
    let mut client = fixture::client("client", &format!("http://{address}"))?.start()?;
    let json = "200 OK\r\ncontent-type: application/json";
    let endless =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 536870917\r\n\r\n\"flood";
    let unending = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\"flood";
    let nested = "[".repeat(200_000);
    let replies: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("no JSON", http(json, b"<html>hello</html>")),
        ("no text", http(json, &[0xff, 0xfe, 0x00, 0xc3, 0x28])),
        ("an empty body", http(json, b"")),
        ("another type", http(json, b"[1, 2, 3]")),
        ("wrong fields", http(json, br#"{"player_id": 7, "access_token": null, "expires_in": -1}"#)),
        ("deep nesting", http(json, nested.as_bytes())),
        ("an announced flood", endless.as_bytes().to_vec()),
        ("an unannounced flood", unending.as_bytes().to_vec()),
        ("a failure without a problem", http("418 I'm a teapot", b"short and stout")),
        (
            "a problem of another kind",
            http("400 Bad Request\r\ncontent-type: application/problem+json", b"{\"code\": {}}"),
        ),
        ("a redirect", http("302 Found\r\nlocation: http://127.0.0.1:9/", b"")),
    ];
    let before = peak_memory(client.godot().id())?;
    for (what, bytes) in replies {
        *answer.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        let refused = client.ask(&json!({ "do": "log_in", "name": "Ada" })).context(what)?;
        let code =
            refused["failed"].as_str().with_context(|| format!("{what} passed for a login: {refused}"))?;
        ensure!(!code.is_empty() && code != "internal", "{what}: {refused}");
        ensure!(refused["message"].as_str().is_some_and(|text| text.len() < 1_000), "{what}: {refused}");
    }
    let after = peak_memory(client.godot().id())?;
    ensure!(after - before < ROOM_TO_GROW, "grew from {before} KiB to {after} KiB");
    client.ask(&json!({ "do": "quit" }))?;
    client.godot().finish(0)
}
