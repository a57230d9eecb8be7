//! What one call takes from the heap, held to a checked-in number: a copy more of every request would not be noticed
//! otherwise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use backend_client::api::backend::Backend;
use backend_client::api::http::HttpBackend;
use backend_client::api::transport::HttpTransport;
use backend_client::config::TlsRoots;
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::validation::Validate;
use backend_client::{Config, ServerKey};

const NUMBERS: &str = include_str!("../../../tests/bench/guards.toml");
const NUMBER: &str = "call_allocations_at_most";
/// Calls before it is counted: the first ones open the connection and fill pools.
const WARM: usize = 20;
const COUNTED: usize = 101;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // The server has a thread of its own, and is not counted.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The table is gone when a thread ends.
    let _at_thread_end = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator does the work, with the arguments as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Answers every request on one connection.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str = r#"{"player_id":"p","display_name":"Ada","kind":"access","expires_in":600}"#;
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            reader.read_exact(&mut vec![0; length])?;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            let reply = format!("{head} {}\r\n\r\n{BODY}", BODY.len());
            reader.get_mut().write_all(reply.as_bytes())?;
        }
    }
}

fn served() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The client closes its connections when it ends.
            thread::spawn(move || stream.and_then(answer));
        }
    });
    format!("http://{address}")
}

#[test]
fn a_call_allocates_no_more_than_checked_in() {
    let config = Config { base_url: served(), tls_roots: TlsRoots::Bundled, ..Config::default() };
    let key = ServerKey::parse("gsk_test_0123456789abcdef0123456789abcdef0123456789abcdef").expect("a key");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut counts = runtime.block_on(async {
        let transport = HttpTransport::new(&config).expect("a transport");
        let backend =
            HttpBackend::new(config, Arc::new(transport), Arc::new(SystemClock)).expect("a backend");
        let body = Validate { token: "e30.e30.x".into(), server_id: None };
        let mut counts = Vec::with_capacity(WARM + COUNTED);
        for _ in 0..WARM + COUNTED {
            let before = ALLOCATIONS.get();
            let validated = backend.validate(&key, &body).await.expect("an answer");
            counts.push(ALLOCATIONS.get() - before);
            assert_eq!(validated.player_id, "p");
        }
        counts.split_off(WARM)
    });
    counts.sort_unstable();
    // The middle: a reply that comes in two pieces costs more, and is none of the client's doing.
    let found = counts[COUNTED / 2];
    let most = NUMBERS
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim() == NUMBER)
        .and_then(|(_, number)| number.trim().parse().ok());
    let Some(most) = most else { panic!("guards.toml has no number; what was found is {NUMBER} = {found}") };
    println!("{NUMBER} = {most}: {found}");
    assert!(found <= most, "a call allocates {found} times: no more than {most} is what guards.toml allows");
}
