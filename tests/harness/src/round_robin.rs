//! A proxy in front of several replicas of the backend, as a load balancer is.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// Gives each connection to the next replica in turn, and to another one if that does not listen.
pub struct RoundRobin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    replicas: RwLock<Vec<Arc<Replica>>>,
    closing: AtomicBool,
}

struct Replica {
    address: SocketAddr,
    /// Connections that it was given.
    given: AtomicUsize,
}

impl RoundRobin {
    /// Listens on a free loopback port, for replicas that are named later.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the proxy cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared, &listener)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// The base URL that clients use.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A replica that connections are given to from now on, while it listens.
    pub fn add(&self, address: SocketAddr) {
        let replica = Arc::new(Replica { address, given: AtomicUsize::new(0) });
        self.shared.replicas.write().unwrap_or_else(PoisonError::into_inner).push(replica);
    }

    /// How many connections each replica was given.
    pub fn given(&self) -> Vec<usize> {
        self.shared.replicas().iter().map(|replica| replica.given.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // It is waiting for a connection.
        let _woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _a_panic_there_has_been_printed = acceptor.join();
        }
    }
}

impl Shared {
    fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn accept(shared: &Shared, listener: &TcpListener) {
    for turn in 0.. {
        let accepted = listener.accept();
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Ok((client, _)) = accepted else { continue };
        let replicas = shared.replicas();
        // An error ends one connection, which is what its client sees.
        thread::spawn(move || drop(serve(&client, &replicas, turn)));
    }
}

/// Forwards one connection until either side ends it, also in the middle of a message.
fn serve(client: &TcpStream, replicas: &[Arc<Replica>], turn: usize) -> io::Result<()> {
    let in_turn = replicas.iter().cycle().skip(turn % replicas.len().max(1)).take(replicas.len());
    let connected = in_turn.filter_map(|replica| Some((replica, TcpStream::connect(replica.address).ok()?)));
    let Some((replica, upstream)) = { connected }.next() else { return Ok(()) };
    replica.given.fetch_add(1, Ordering::Relaxed);
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| copy(&upstream, client));
        copy(client, &upstream);
    });
    Ok(())
}

/// What one side has sent, and then its end. After an error, the other direction ends as well.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let ends = match io::copy(&mut from, &mut to) {
        Ok(_) => Shutdown::Write,
        Err(_) => Shutdown::Both,
    };
    let _gone = to.shutdown(ends);
    if ends == Shutdown::Both {
        let _gone = from.shutdown(ends);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Answers each connection with a letter.
    fn replica(letter: u8) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.expect("accepted");
                connection.write_all(&[letter]).expect("written");
            }
        });
        address
    }

    fn answer(proxy: &RoundRobin) -> String {
        let mut stream = TcpStream::connect(proxy.address).expect("connected");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        text
    }

    #[test]
    fn replicas_take_turns_and_one_that_is_gone_is_passed_over() {
        let proxy = RoundRobin::start().expect("listens");
        assert_eq!(answer(&proxy), "", "nobody is there yet");
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|gone| gone.local_addr());
        for address in [replica(b'a'), gone.expect("an address"), replica(b'b')] {
            proxy.add(address);
        }
        let answers: String = (0..6).map(|_| answer(&proxy)).collect();
        assert_eq!(answers, "bbabba");
        assert_eq!(proxy.given(), [2, 0, 4]);
    }
}
