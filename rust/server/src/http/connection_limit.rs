//! The limits of open connections: in all, per address, and by the files that the process may open. At a limit, the connection
//! that has been idle longest is closed in favour of the new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::timeouts::Activity;
use crate::config::Config;
use crate::http::client_ip::{is_trusted, subscriber};

/// Files reserved for the database, mails, objects and requests to identity providers: a quarter, within these bounds.
const RESERVED_FILES: std::ops::RangeInclusive<u64> = 96..=256;

/// Connections that may be closing at a time: half of the reserved files.
const MAX_CLOSING: usize = 48;

/// Raises the number of files that the process may have open as far as it may. Only for the program.
pub fn raise_open_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, ..limit };
        if limit.current != limit.maximum
            && let Err(error) = setrlimit(Resource::Nofile, raised)
        {
            tracing::warn!(%error, "the number of open files stays as it is");
        }
    }
}

/// How many files may be open, if that is limited.
fn open_files() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    return None;
}

/// How many connections there may be, of `wanted`.
fn effective_limit(wanted: u32, open_files: Option<u64>) -> u32 {
    let Some(files) = open_files else { return wanted };
    let reserved = (files / 4).clamp(*RESERVED_FILES.start(), *RESERVED_FILES.end());
    let possible = u32::try_from(files.saturating_sub(reserved)).unwrap_or(u32::MAX).max(1);
    if possible < wanted {
        tracing::warn!(
            "--max-connections {wanted}: the process may have {files} files open, so at most {possible} connections are \
             accepted; raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    wanted.min(possible)
}

/// The open connections. A semaphore alone would not do: a new connection may take the place of an idle one.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Shared>);

struct Shared {
    max: usize,
    max_per_address: u32,
    trusted_proxies: Vec<IpNet>,
    open: Mutex<Open>,
    /// A permit for each connection that was asked to end and has not yet.
    closing: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
    by_address: HashMap<IpAddr, u32>,
}

struct Connection {
    address: Option<IpAddr>,
    activity: Arc<Activity>,
    close: oneshot::Sender<OwnedSemaphorePermit>,
}

/// The right of one connection to be open.
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    id: u64,
    activity: Arc<Activity>,
    close: oneshot::Receiver<OwnedSemaphorePermit>,
    /// Held from when this connection is asked to end until it has, and its file is closed.
    closing: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    pub fn new(config: &Config) -> Self {
        Self(Arc::new(Shared {
            max: effective_limit(config.max_connections, open_files()) as usize,
            max_per_address: config.max_connections_per_address,
            trusted_proxies: config.trusted_proxies.clone(),
            open: Mutex::default(),
            closing: Arc::new(Semaphore::new(MAX_CLOSING)),
        }))
    }

    /// A permit for a connection from `peer`, if need be that of an idle one. None: all are busy.
    pub fn acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let shared = &self.0;
        // A proxy connects for many clients.
        let address =
            (!peer.is_loopback() && !is_trusted(peer, &shared.trusted_proxies)).then(|| subscriber(peer));
        let mut open = shared.lock();
        if let Some(address) = address
            && open.by_address.get(&address).is_some_and(|here| *here >= shared.max_per_address)
            && !shared.evict_one(&mut open, |connection| connection.address == Some(address))
        {
            return None;
        }
        if open.connections.len() >= shared.max && !shared.evict_one(&mut open, |_| true) {
            return None;
        }
        let (activity, (evict, close)) = (Arc::<Activity>::default(), oneshot::channel());
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Connection { address, activity: Arc::clone(&activity), close: evict });
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(ConnectionPermit { shared: Arc::clone(shared), id, activity, close, closing: None })
    }

    /// Waits while many connections are about to end: they still hold files.
    pub async fn closing_settled(&self) {
        // A new connection may take two places: of its address, and of all. Err: the semaphore is closed, which never happens.
        drop(self.0.closing.acquire_many(2).await);
    }

    /// Ends the connection that has been idle longest.
    pub fn evict_idle(&self) {
        self.0.evict_one(&mut self.0.lock(), |_| true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one connection to end: of those that `may` and have no request in progress, the one that is needed least.
    fn evict_one(&self, open: &mut Open, may: impl Fn(&Connection) -> bool) -> bool {
        let idle = open
            .connections
            .iter()
            .filter(|(_, connection)| may(connection) && !connection.activity.is_serving())
            .min_by_key(|(id, connection)| (connection.activity.idleness(), **id))
            .map(|(id, _)| *id);
        let Some(id) = idle else { return false };
        let Ok(permit) = Arc::clone(&self.closing).try_acquire_owned() else { return false };
        if let Some(connection) = open.remove(id) {
            // Err: it has just ended by itself.
            let _ended = connection.close.send(permit);
            metrics::counter!("backend_connections_made_room_total").increment(1);
        }
        true
    }
}

impl Open {
    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(address) = connection.address
            && let Some(here) = self.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl ConnectionPermit {
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Completes when another connection needs the place. Called until it has completed.
    pub async fn close_requested(&mut self) {
        match (&mut self.close).await {
            Ok(permit) => self.closing = Some(permit),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.shared.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests;
