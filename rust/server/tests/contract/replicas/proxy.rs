//! A proxy in front of the replicas: each connection goes to the next one in turn, and to another one if that does not listen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct RoundRobin {
    pub address: SocketAddr,
    /// Connections that each replica was given.
    given: Arc<Vec<AtomicUsize>>,
    task: JoinHandle<()>,
}

impl RoundRobin {
    pub async fn start(upstreams: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the proxy listens");
        let address = listener.local_addr().expect("an address");
        let given: Arc<Vec<AtomicUsize>> = Arc::new(upstreams.iter().map(|_| AtomicUsize::new(0)).collect());
        let counts = Arc::clone(&given);
        let task = tokio::spawn(async move {
            let upstreams = Arc::new(upstreams);
            // Ends with the proxy.
            let mut connections = JoinSet::new();
            for turn in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                connections.spawn(forward(client, Arc::clone(&upstreams), Arc::clone(&counts), turn));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, given, task }
    }

    pub fn given(&self) -> Vec<usize> {
        self.given.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for RoundRobin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    upstreams: Arc<Vec<SocketAddr>>,
    given: Arc<Vec<AtomicUsize>>,
    turn: usize,
) {
    for attempt in 0..upstreams.len() {
        let index = (turn + attempt) % upstreams.len();
        if let Ok(mut replica) = TcpStream::connect(upstreams[index]).await {
            given[index].fetch_add(1, Ordering::Relaxed);
            // The client sees an end in the middle as it is: its connection ends.
            let _ended = copy_bidirectional(&mut client, &mut replica).await;
            return;
        }
    }
}
