//! Game servers that the backend starts itself: for rooms on demand, for quick play, and ahead of time.
//!
//! What is to be started, runs and has ended is in the database; see `records`. An [`Allocator`] does no more than start and stop.
//! A server is ready when it registers, and gone when its lease has expired or its allocator has seen its end.

#[cfg(target_os = "linux")]
pub mod docker;
#[cfg(target_os = "linux")]
mod host_folder;
#[cfg(target_os = "linux")]
pub mod local;
mod reconcile;
pub mod records;
pub mod registration;
mod restarts;
pub mod settings;
pub mod spares;
pub mod waiting;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use async_trait::async_trait;
use backend_protocol::Code;
use tokio::sync::{Mutex, Notify, watch};

use self::settings::AllocationSettings;
use self::waiting::WaitingRequests;
use crate::http::{ApiError, ApiResult};

pub use self::reconcile::run;

/// Starts and stops servers in one place. All calls may be repeated.
#[async_trait]
pub trait Allocator: Send + Sync {
    /// Name of the place, the same after a restart of the backend.
    fn host(&self) -> &str;

    /// Starts a server, unless one was started for this allocation already.
    async fn start(&self, allocation_id: &str) -> Result<(), StartError>;

    /// Returns what is known of the server of an allocation.
    async fn look(&self, allocation_id: &str) -> anyhow::Result<Sighting>;

    /// Returns the last lines that the server of an allocation has printed.
    async fn last_lines(&self, allocation_id: &str) -> String;

    /// Brings the server of an allocation a step nearer to its end, in good order as long as its grace lasts. Once it has ended,
    /// releases what was kept for it. Repeated until [`Self::owned`] does not name it any more.
    async fn stop(&self, allocation_id: &str) -> anyhow::Result<()>;

    /// The allocations whose servers were started here and not released yet, also by earlier runs of the backend.
    async fn owned(&self) -> anyhow::Result<Vec<String>>;
}

/// Variable by which a server knows what it was started for.
#[cfg(target_os = "linux")]
const ALLOCATION_VARIABLE: &str = "BACKEND_ALLOCATION_ID";
/// What players see of an error that is the operator's.
const CANNOT_BE_STARTED: &str = "it cannot be started";

/// Why no server was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host is full at this moment.
    #[error("{0}")]
    NoCapacity(String),
    /// Nobody knows whether it was started: the server is looked at again.
    #[error("{0}")]
    NoAnswer(String),
    /// It fails in the same way again until the operator changes something. The operator's paths may be in it.
    #[error("{0}")]
    Misconfigured(String),
}

impl StartError {
    #[cfg(target_os = "linux")]
    fn misconfigured(what: &str, error: &anyhow::Error) -> Self {
        Self::Misconfigured(format!("{what}: {error:#}"))
    }
}

/// What an allocator sees of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing was started for the allocation.
    Unknown,
    /// Starting or running.
    Running,
    /// Ended by itself.
    Ended {
        /// How it ended.
        reason: String,
        /// The last lines that it has printed, or why it could not be started. Not for players, unless the settings have it.
        log: String,
    },
}

/// Rooms on demand, for all requests.
#[derive(Default)]
pub struct Allocation {
    settings: Option<AllocationSettings>,
    /// What starts servers here, as long as that goes on.
    allocator: OnceLock<Weak<dyn Allocator>>,
    /// Allocations that are not ready yet, as of the last look at the database.
    pending: RwLock<Arc<HashSet<String>>>,
    /// Counts the changes of `pending`.
    changed: watch::Sender<u64>,
    /// Wakes the task that starts servers.
    requested: Notify,
    /// Requests of quick play place themselves one after the other. Across replicas, the database sees to that; this keeps those
    /// that wait for it from taking all connections.
    pub placing: Mutex<()>,
    /// Requests that wait for a room.
    pub waiting: WaitingRequests,
}

impl Allocation {
    /// Rooms on demand as `settings` have it; without settings there are none.
    pub fn new(settings: Option<AllocationSettings>) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The settings, if rooms are created on demand here.
    pub const fn settings(&self) -> Option<&AllocationSettings> {
        self.settings.as_ref()
    }

    /// Notes what starts servers here.
    pub fn set_allocator(&self, allocator: &Arc<dyn Allocator>) {
        let _set_before = self.allocator.set(Arc::downgrade(allocator));
    }

    /// What starts servers here.
    pub fn allocator(&self) -> Option<Arc<dyn Allocator>> {
        self.allocator.get().and_then(Weak::upgrade)
    }

    /// The settings, or the refusal of a request that needs them.
    pub fn required(&self) -> ApiResult<&AllocationSettings> {
        self.settings().ok_or_else(|| {
            ApiError::new(Code::RoomCreationRefused, "this backend creates no rooms; see `--rooms-on-demand`")
        })
    }

    /// Wakes the task that starts servers.
    pub fn wake(&self) {
        self.requested.notify_one();
    }

    /// Something that requests wait for has changed.
    pub fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Receives a notification for each change that requests may wait for.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether the allocation was not ready at the last look.
    pub fn is_pending(&self, allocation_id: &str) -> bool {
        self.pending.read().unwrap_or_else(PoisonError::into_inner).contains(allocation_id)
    }

    /// Notes an allocation that is not ready yet, and tells those that wait if another one is.
    fn look_at(&self, pending: HashSet<String>) {
        let before = std::mem::replace(
            &mut *self.pending.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(pending.clone()),
        );
        if before.iter().any(|allocation_id| !pending.contains(allocation_id)) {
            self.notify();
        }
    }

    /// Notes that an allocation is not ready yet.
    pub fn note_pending(&self, allocation_id: &str) {
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut pending).insert(allocation_id.to_owned());
    }

    /// Notes that an allocation became ready, or failed.
    pub fn note_settled(&self, allocation_id: &str) {
        Arc::make_mut(&mut self.pending.write().unwrap_or_else(PoisonError::into_inner))
            .remove(allocation_id);
        self.notify();
    }
}
