//! A TCP proxy between a game and its backend that misbehaves on demand.
//!
//! It forwards HTTP/1.1 byte for byte. What it understands is the request line, so that a fault can be aimed at one
//! route, where a message ends, and that without pipelining the bytes coming back belong to the request just sent.

mod fault;
mod late_repeats;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

pub use self::fault::{Fault, Struck};
use crate::backend::free_port;
use crate::{http_message, until};

/// How often a closed or silent proxy looks whether the fault has changed.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a connection listens to one side before it turns to the other; the delay a reply can suffer.
const READ_TIMEOUT: Duration = Duration::from_millis(2);

/// Ports tried before it is given up.
const ATTEMPTS: u32 = 20;

/// What happens to the reply that comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyFate {
    Forwarded,
    Dropped,
    Truncated,
}

/// A proxy on a fixed loopback port.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

struct State {
    upstream: SocketAddr,
    inner: Mutex<Inner>,
    closing: AtomicBool,
}

struct Inner {
    fault: Fault,
    requests: Vec<String>,
    struck: Struck,
    /// Start of the paths whose requests are remembered, and the requests.
    remember: Option<String>,
    remembered: Vec<Vec<u8>>,
}

impl FaultProxy {
    /// A proxy to `upstream` that forwards everything for now.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let (address, listener) = listen_somewhere().context("the proxy cannot listen")?;
        let inner = Inner {
            fault: Fault::None,
            requests: Vec::new(),
            struck: Struck::default(),
            remember: None,
            remembered: Vec::new(),
        };
        let state = Arc::new(State { upstream, inner: Mutex::new(inner), closing: AtomicBool::new(false) });
        let acceptor = thread::spawn({
            let state = state.clone();
            move || accept(&state, address, listener)
        });
        Ok(Self { address, state, acceptor: Some(acceptor) })
    }

    /// The base URL a game uses instead of the backend's.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Misbehaves like this from now on, open connections included.
    pub fn set(&self, fault: Fault) {
        self.state.inner().fault = fault;
    }

    /// How many requests to paths that begin with `path` came by, in whatever way they ended.
    pub fn requests(&self, path: &str) -> usize {
        self.state.inner().requests.iter().filter(|seen| seen.starts_with(path)).count()
    }

    /// How many replies were thrown away.
    pub fn dropped_replies(&self) -> usize {
        self.struck().dropped
    }

    /// How often the faults took effect.
    pub fn struck(&self) -> Struck {
        self.state.inner().struck
    }

    /// Waits until at least `count` replies were thrown away.
    pub fn wait_for_dropped_replies(&self, count: usize) -> Result<()> {
        until(&format!("{count} dropped replies"), || Ok((self.dropped_replies() >= count).then_some(())))
    }

    /// Waits until at least `count` requests to `path` came by.
    pub fn wait_for_requests(&self, path: &str, count: usize) -> Result<()> {
        until(&format!("{count} requests to {path}"), || Ok((self.requests(path) >= count).then_some(())))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            let _a_panic_there_has_been_printed = acceptor.join();
        }
    }
}

impl Fault {
    fn duplicates(&self, path: &str) -> bool {
        matches!(self, Self::DuplicateRequest { path: prefix } if path.starts_with(prefix.as_str()))
    }

    fn hangs_up(&self, path: &str) -> bool {
        matches!(self, Self::HangUp { path: prefix } if path.starts_with(prefix.as_str()))
    }

    fn fate(&self, path: &str) -> ReplyFate {
        match self {
            Self::DropReply { path: prefix } if path.starts_with(prefix.as_str()) => ReplyFate::Dropped,
            Self::TruncateReply { path: prefix } if path.starts_with(prefix.as_str()) => ReplyFate::Truncated,
            _ => ReplyFate::Forwarded,
        }
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self) -> Fault {
        self.inner().fault.clone()
    }

    fn remembers(&self, path: &str) -> bool {
        self.inner().remember.as_deref().is_some_and(|prefix| path.starts_with(prefix))
    }

    fn closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// Another process may take a port between the look at it and its use.
fn listen_somewhere() -> Result<(SocketAddr, TcpListener)> {
    let mut attempts = ATTEMPTS;
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        attempts -= 1;
        match listen(address) {
            Ok(listener) => return Ok((address, listener)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_taken) => {}
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(state: &Arc<State>, address: SocketAddr, listener: TcpListener) {
    // A refused connection needs a closed listener, not one that accepts and hangs up.
    let mut listener = Some(listener);
    while !state.closing() {
        if state.fault() == Fault::Refuse {
            listener = None;
            thread::sleep(POLL_INTERVAL);
            continue;
        }
        let Some(open) = &listener else {
            listener = listen(address).ok();
            thread::sleep(POLL_INTERVAL);
            continue;
        };
        match open.accept() {
            Ok((game, _)) => {
                let state = state.clone();
                // An I/O error ends one connection, which is what connections do here.
                thread::spawn(move || drop(serve(&state, game)));
            }
            Err(_) => thread::sleep(READ_TIMEOUT),
        }
    }
}

/// Forwards one connection in lock step: what the game sends, then what the backend answers.
fn serve(state: &State, mut game: TcpStream) -> Result<()> {
    // Accepted sockets inherit nothing on Linux, elsewhere they may.
    game.set_nonblocking(false)?;
    game.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut backend: Option<TcpStream> = None;
    let mut fate = ReplyFate::Forwarded;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let fault = state.fault();
        if fault == Fault::Refuse {
            state.inner().struck.refused += 1;
            return Ok(());
        }
        if state.closing() {
            return Ok(());
        }
        if let Some(count) = read_some(&mut game, &mut buffer)? {
            if count == 0 {
                return Ok(());
            }
            let bytes = &buffer[..count];
            let path = request_path(bytes);
            let twice = path.as_deref().is_some_and(|path| fault.duplicates(path));
            let hang_up = path.as_deref().is_some_and(|path| fault.hangs_up(path));
            let mut whole = Vec::new();
            if let Some(path) = &path
                && state.remembers(path)
            {
                whole.extend_from_slice(bytes);
                http_message::complete(&mut game, &mut whole, || !state.closing())?;
                state.inner().remembered.push(whole.clone());
            }
            let bytes = if whole.is_empty() { bytes } else { &whole };
            if let Some(path) = path {
                fate = fault.fate(&path);
                state.inner().requests.push(path);
            }
            match fault {
                Fault::Reset => {
                    state.inner().struck.reset += 1;
                    return reset(&game);
                }
                Fault::Blackhole => {
                    state.inner().struck.swallowed += 1;
                    return swallow(state, game);
                }
                Fault::HangUp { .. } if hang_up && !http_message::is_whole(bytes) => {
                    let mut inner = state.inner();
                    inner.struck.hung_up += 1;
                    let together = inner.struck.hung_up % 2 == 1;
                    drop(inner);
                    game.shutdown(Shutdown::Write)?;
                    // Closed with unread bytes, it resets what still comes: now, while the end is still on its way to
                    // the game, or once the game has seen the end.
                    if !together {
                        thread::sleep(POLL_INTERVAL);
                    }
                    return Ok(());
                }
                Fault::Delay(pause) => {
                    state.inner().struck.delayed += 1;
                    thread::sleep(pause);
                }
                _ => {}
            }
            let upstream = match &mut backend {
                Some(open) => open,
                None => backend.insert(connect(state.upstream)?),
            };
            if twice {
                let reply = send_twice(state, &mut game, upstream, bytes)?;
                game.write_all(&reply)?;
                continue;
            }
            upstream.write_all(bytes)?;
        }
        let Some(upstream) = &mut backend else { continue };
        if let Some(count) = read_some(upstream, &mut buffer)? {
            if count == 0 {
                game.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            match fate {
                ReplyFate::Forwarded => game.write_all(&buffer[..count])?,
                ReplyFate::Dropped => {
                    // The reply has begun, so the backend has committed; nothing of it reaches the game.
                    state.inner().struck.dropped += 1;
                    return reset(&game);
                }
                ReplyFate::Truncated => {
                    let mut reply = buffer[..count].to_vec();
                    http_message::complete(upstream, &mut reply, || !state.closing())?;
                    let start = http_message::body_start(&reply).unwrap_or_default();
                    // Of a reply without a body, half of the head.
                    let cut =
                        if start < reply.len() { usize::midpoint(start, reply.len()) } else { start / 2 };
                    state.inner().struck.truncated += 1;
                    game.write_all(&reply[..cut])?;
                    game.shutdown(Shutdown::Both)?;
                    return Ok(());
                }
            }
        }
    }
}

/// Has the backend execute the request that begins with `bytes` twice and returns one of its replies.
fn send_twice(
    state: &State,
    game: &mut TcpStream,
    upstream: &mut TcpStream,
    bytes: &[u8],
) -> Result<Vec<u8>> {
    let mut request = bytes.to_vec();
    http_message::complete(game, &mut request, || !state.closing())?;
    let mut twin = connect(state.upstream)?;
    upstream.write_all(&request)?;
    twin.write_all(&request)?;
    let (mut reply, mut other) = (Vec::new(), Vec::new());
    http_message::complete(upstream, &mut reply, || !state.closing())?;
    http_message::complete(&mut twin, &mut other, || !state.closing())?;
    state.inner().struck.duplicated += 1;
    Ok(reply)
}

fn connect(upstream: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(upstream)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Keeps a connection open and silent until the fault changes; then cuts it, since an answer would come from
/// nowhere.
fn swallow(state: &State, game: TcpStream) -> Result<()> {
    while state.fault() == Fault::Blackhole && !state.closing() {
        thread::sleep(POLL_INTERVAL);
    }
    reset(&game)
}

/// Closes with a reset rather than an orderly end: an unsent linger of zero does that (tcp(7)).
fn reset(game: &TcpStream) -> Result<()> {
    rustix::net::sockopt::set_socket_linger(game, Some(Duration::ZERO))?;
    Ok(())
}

/// `None` when nothing came for now, 0 at the end of the stream.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The path of a request that begins with these bytes; `None` for the rest of a body.
fn request_path(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let method = words.next()?;
    let path = words.next()?;
    let version = words.next()?;
    let is_request = method.bytes().all(|byte| byte.is_ascii_uppercase()) && version.starts_with("HTTP/1");
    is_request.then(|| path.to_owned())
}

#[cfg(test)]
mod tests;
