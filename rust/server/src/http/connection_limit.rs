//! How many connections there may be: in all, from one address, and with the files that the process may have open. When there is
//! no place left, the connection that has been idle longest makes room for the new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::timeouts::Phase;
use crate::http::client_ip::{is_trusted, subscriber};
use crate::state::AppState;

/// Files kept free for the database, mails, objects and questions to identity providers: a quarter, within these bounds.
const RESERVED_FILES: std::ops::RangeInclusive<u64> = 96..=256;

/// Connections that may be about to end at a time: of the reserved files, half.
const MOST_CLOSING: usize = 48;

/// Raises the number of files that the process may have open as far as it may. Only for the program.
pub fn allow_many_files() {
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
fn possible(wanted: u32, open_files: Option<u64>) -> u32 {
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
pub struct Places(Arc<Shared>);

struct Shared {
    state: AppState,
    most: usize,
    open: Mutex<Open>,
    /// One that was asked to end has.
    closed: Notify,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Known>,
    by_address: HashMap<IpAddr, u32>,
    /// Those that were asked to end and have not yet.
    closing: usize,
}

struct Known {
    address: Option<IpAddr>,
    phase: Arc<Phase>,
    close: Arc<Notify>,
}

/// The place of one connection.
pub struct Place {
    shared: Arc<Shared>,
    id: u64,
    phase: Arc<Phase>,
    close: Arc<Notify>,
}

impl Places {
    pub fn new(state: &AppState) -> Self {
        let most = possible(state.config.max_connections, open_files()) as usize;
        Self(Arc::new(Shared { state: state.clone(), most, open: Mutex::default(), closed: Notify::new() }))
    }

    /// A place for a connection from `peer`, if need be that of an idle one. None: all are busy.
    pub fn take(&self, peer: IpAddr) -> Option<Place> {
        let config = &self.0.state.config;
        // A proxy speaks for many.
        let address =
            (!peer.is_loopback() && !is_trusted(peer, &config.trusted_proxies)).then(|| subscriber(peer));
        let mut open = self.0.lock();
        if let Some(address) = address
            && open.by_address.get(&address).is_some_and(|here| *here >= config.max_connections_per_address)
            && !open.close_one(|known| known.address == Some(address))
        {
            return None;
        }
        if open.connections.len() >= self.0.most && !open.close_one(|_| true) {
            return None;
        }
        let (phase, close) = (Arc::<Phase>::default(), Arc::<Notify>::default());
        let id = open.next;
        open.next += 1;
        let known = Known { address, phase: Arc::clone(&phase), close: Arc::clone(&close) };
        open.connections.insert(id, known);
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(Place { shared: Arc::clone(&self.0), id, phase, close })
    }

    /// Waits while many connections are about to end: they hold files still.
    pub async fn settled(&self) {
        while self.0.lock().closing > MOST_CLOSING {
            self.0.closed.notified().await;
        }
    }

    /// Ends the connection that has been idle longest.
    pub fn make_room(&self) {
        self.0.lock().close_one(|_| true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Asks the one to end that can best do without, of those that `may` and have no request in progress.
    fn close_one(&mut self, may: impl Fn(&Known) -> bool) -> bool {
        let idle = self.connections.iter().filter(|(_, known)| may(known) && !known.phase.is_serving());
        let Some(id) = idle.min_by_key(|(id, known)| (known.phase.idleness(), **id)).map(|(id, _)| *id)
        else {
            return false;
        };
        if let Some(known) = self.remove(id) {
            self.closing += 1;
            known.close.notify_one();
            metrics::counter!("backend_connections_made_room_total").increment(1);
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Known> {
        let known = self.connections.remove(&id)?;
        if let Some(address) = known.address
            && let Some(here) = self.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(known)
    }
}

impl Place {
    pub fn phase(&self) -> &Arc<Phase> {
        &self.phase
    }

    /// Completes when somebody else needs the place.
    pub async fn asked_to_close(&self) {
        self.close.notified().await;
    }
}

impl Drop for Place {
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
