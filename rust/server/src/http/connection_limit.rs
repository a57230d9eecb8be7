//! How many connections there may be: in all, from one address, and with the files that the process may have open. When there is
//! no place left, the connection that has been idle longest makes room for the new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::timeouts::Activity;
use crate::http::client_ip::{is_trusted, subscriber};
use crate::state::AppState;

/// Files kept free for the database, mails, objects and questions to identity providers: a quarter, within these bounds.
const RESERVED_FILES: std::ops::RangeInclusive<u64> = 96..=256;

/// Connections that may be about to end at a time: of the reserved files, half.
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

/// The open connections.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Shared>);

struct Shared {
    state: AppState,
    max: usize,
    open: Mutex<Open>,
    /// One that was asked to end has.
    closed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
    by_address: HashMap<IpAddr, u32>,
    /// Those that were asked to end and have not yet.
    closing: usize,
}

struct Connection {
    address: Option<IpAddr>,
    activity: Arc<Activity>,
    close: Arc<Notify>,
}

/// The place of one connection.
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    id: u64,
    activity: Arc<Activity>,
    close: Arc<Notify>,
}

impl ConnectionLimit {
    pub fn new(state: &AppState) -> Self {
        let max = effective_limit(state.config.max_connections, open_files()) as usize;
        Self(Arc::new(Shared { state: state.clone(), max, open: Mutex::default(), closed: Notify::new() }))
    }

    /// A place for a connection from `peer`, if need be that of an idle one. None: all are busy.
    pub fn acquire(&self, peer: IpAddr) -> Option<ConnectionPermit> {
        let config = &self.0.state.config;
        // A proxy speaks for many.
        let address =
            (!peer.is_loopback() && !is_trusted(peer, &config.trusted_proxies)).then(|| subscriber(peer));
        let mut open = self.0.lock();
        if let Some(address) = address
            && open.by_address.get(&address).is_some_and(|here| *here >= config.max_connections_per_address)
            && !open.evict_one(|connection| connection.address == Some(address))
        {
            return None;
        }
        if open.connections.len() >= self.0.max && !open.evict_one(|_| true) {
            return None;
        }
        let (activity, close) = (Arc::<Activity>::default(), Arc::<Notify>::default());
        let id = open.next;
        open.next += 1;
        let connection = Connection { address, activity: Arc::clone(&activity), close: Arc::clone(&close) };
        open.connections.insert(id, connection);
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(ConnectionPermit { shared: Arc::clone(&self.0), id, activity, close })
    }

    /// Waits while many connections are about to end: they hold files still.
    pub async fn closing_settled(&self) {
        while self.0.lock().closing > MAX_CLOSING {
            self.0.closed.notified().await;
        }
    }

    /// Ends the connection that has been idle longest.
    pub fn evict_idle(&self) {
        self.0.lock().evict_one(|_| true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Asks the one to end that can best do without, of those that `may` and have no request in progress.
    fn evict_one(&mut self, may: impl Fn(&Connection) -> bool) -> bool {
        let idle = self
            .connections
            .iter()
            .filter(|(_, connection)| may(connection) && !connection.activity.is_serving());
        let Some(id) =
            idle.min_by_key(|(id, connection)| (connection.activity.idleness(), **id)).map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some(connection) = self.remove(id) {
            self.closing += 1;
            connection.close.notify_one();
            metrics::counter!("backend_connections_made_room_total").increment(1);
        }
        true
    }

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

    /// Completes when somebody else needs the place.
    pub async fn asked_to_close(&self) {
        self.close.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        if open.remove(self.id).is_none() {
            open.closing -= 1;
            self.shared.closed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
