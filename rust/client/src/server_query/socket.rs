//! The sockets of a server that answers queries, and the tasks that read them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backend_protocol::registration::ServerStatus;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::discovery_socket::{self, DISCOVERY_PORT, Interface, Membership, is_local};
use super::facts::{Facts, ServedFacts};
use super::responder::{MAX_QUESTION, Responder};
use crate::error::ClientError;
use crate::platform::clock::Clock;
use crate::platform::stall_detector::StallDetector;

/// Datagrams read per [`READ_INTERVAL`]. The rest waits in the socket's buffer, and what does not fit there is dropped: a flood
/// costs no more than this.
const MAX_READS: u32 = 2_000;
const READ_INTERVAL: Duration = Duration::from_millis(100);
/// Pause after an error of the socket.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// What a server answers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryOptions {
    /// UDP port; 0 for one that the system chooses.
    pub port: u16,
    /// Whether the server is found on the local network.
    pub lan_discovery: bool,
}

/// A server that answers queries, once it is opened. Cheap to clone.
#[derive(Clone)]
pub struct ServerQuery(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    /// By which answers over several networks are known as those of one server.
    instance: u64,
    stall_detector: StallDetector,
    facts: Mutex<Arc<Facts>>,
    open: Mutex<Option<Open>>,
}

struct Open {
    options: QueryOptions,
    port: u16,
    /// None: the server is not to be found, or this machine has no IPv6.
    membership: Option<Membership>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl ServerQuery {
    /// A server that does not answer yet. `stall`: how long the main loop may stand still before the server is unhealthy.
    pub fn new(clock: Arc<dyn Clock>, stall: Duration) -> Self {
        let stall_detector = StallDetector::new(Arc::clone(&clock), stall);
        let facts = Mutex::default();
        let open = Mutex::default();
        Self(Arc::new(Inner { clock, instance: rand::random(), stall_detector, facts, open }))
    }

    /// From now on this is answered, with the port that is open.
    pub fn publish(&self, mut facts: Facts) {
        facts.description.query_port = self.port();
        facts.instance = self.0.instance;
        let before = std::mem::replace(&mut *lock(&self.0.facts), Arc::new(facts.within_limits()));
        drop(before);
    }

    /// What is answered now.
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&lock(&self.0.facts))
    }

    /// The port that is answered on, while it is open.
    pub fn port(&self) -> Option<u16> {
        lock(&self.0.open).as_ref().map(|open| open.port)
    }

    /// Called by the main loop once per frame.
    pub fn main_loop_turned(&self) {
        self.0.stall_detector.tick();
    }

    /// Begins to answer, on the runtime that it is called in, and returns the port. Already open with the same options, it stays as it is. If the local network's
    /// port cannot be had, a warning is logged and the rest goes on.
    pub fn open(&self, options: QueryOptions) -> Result<u16, ClientError> {
        let mut open = lock(&self.0.open);
        if let Some(open) = open.as_ref().filter(|open| open.options == options) {
            return Ok(open.port);
        }
        // Its port may be the one that is wanted.
        *open = None;
        self.0.stall_detector.tick();
        let refused = |error: io::Error| {
            let port = options.port;
            let rule = format!(
                "UDP port {port} cannot be used ({error}); set another one, or 0 for a free one. The server answers no queries"
            );
            ClientError::field("query_port", rule)
        };
        let socket = bind(options.port).and_then(UdpSocket::from_std).map_err(refused)?;
        let port = socket.local_addr().map_err(refused)?.port();
        let mut tasks = vec![tokio::spawn(answer(Arc::clone(&self.0), socket.into(), |_| true))];
        let mut membership = None;
        if options.lan_discovery {
            match discovery_socket::bind(DISCOVERY_PORT).and_then(UdpSocket::from_std) {
                Ok(socket) => tasks.push(tokio::spawn(answer(Arc::clone(&self.0), socket.into(), is_local))),
                Err(error) => tracing::warn!(
                    "the server is not found on the local network: UDP port {DISCOVERY_PORT} cannot be used ({error}); it is \
                     shared, so another program has it for itself. Turn \"lan_discovery\" off, or end that program"
                ),
            }
            match discovery_socket::bind_ipv6(DISCOVERY_PORT).and_then(UdpSocket::from_std) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let joined = membership.insert(Membership::of(Arc::clone(&socket))).clone();
                    let is_near = move |peer| joined.is_near(peer);
                    tasks.push(tokio::spawn(answer(Arc::clone(&self.0), socket, is_near)));
                }
                // As on a machine without it.
                Err(error) => tracing::debug!("the server is not found over IPv6: {error}"),
            }
        }
        *open = Some(Open { options, port, membership, tasks });
        Arc::make_mut(&mut lock(&self.0.facts)).description.query_port = Some(port);
        Ok(port)
    }

    /// Makes the server known over IPv6 on networks that it is not known on yet, if it is to be found there. `interfaces` lists all
    /// of this machine, and is called only if they are needed. IPv4 needs none of this.
    pub fn join_networks(&self, interfaces: impl FnOnce() -> Vec<Interface>) {
        let membership = lock(&self.0.open).as_ref().and_then(|open| open.membership.clone());
        if let Some(membership) = membership {
            membership.join(&interfaces());
        }
    }

    /// Answers no more.
    pub fn close(&self) {
        let open = lock(&self.0.open).take();
        drop(open);
    }
}

/// IPv6 and IPv4 where the machine has both.
fn bind(port: u16) -> io::Result<std::net::UdpSocket> {
    let bound = |domain, address: SocketAddr| -> io::Result<std::net::UdpSocket> {
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(std::net::UdpSocket::from(socket))
    };
    match bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        outcome => outcome,
    }
}

/// Answers what comes in on `socket` from those that `accepts` takes. Ends when it is aborted.
async fn answer(server: Arc<Inner>, socket: Arc<UdpSocket>, accepts: impl Fn(SocketAddr) -> bool) {
    let mut responder = Responder::new();
    let started = server.clock.now();
    // One byte more than is looked at shows what is too long.
    let mut buffer = [0; MAX_QUESTION + 1];
    let mut reads = 0;
    let mut interval_began = started;
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // Also reported here: that an answer before could not be delivered. Nothing of that is a reason to stop.
            Err(error) => {
                tracing::debug!("a query could not be received: {error}");
                server.clock.sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let now = server.clock.now();
        if accepts(peer) {
            let facts = Arc::clone(&lock(&server.facts));
            let served = ServedFacts { facts: &facts, status: server.status(&facts), now };
            let age = now.saturating_duration_since(started);
            for datagram in responder.respond(age, peer, &buffer[..length], &served) {
                // What does not go out at once is lost, as any datagram may be.
                let _lost = socket.try_send_to(&datagram, peer);
            }
        }
        reads += 1;
        let elapsed = now.saturating_duration_since(interval_began);
        if elapsed >= READ_INTERVAL {
            (reads, interval_began) = (0, now);
        } else if reads >= MAX_READS {
            server.clock.sleep(READ_INTERVAL.saturating_sub(elapsed)).await;
        }
    }
}

impl Inner {
    fn status(&self, facts: &Facts) -> ServerStatus {
        if self.stall_detector.is_stalled() {
            ServerStatus::Unhealthy
        } else if facts.draining {
            ServerStatus::Draining
        } else {
            ServerStatus::Ready
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
