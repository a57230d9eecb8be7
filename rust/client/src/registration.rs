//! Keeping a dedicated server listed: registration, heartbeats, draining, deregistration.
//!
//! One task per registration beats at the interval the backend asks for, or up to 20 % sooner, on a worker thread, so that a long
//! frame or a map load costs no heartbeat. What does not survive is a main loop that stands still for longer than
//! allowed: the server is then reported unhealthy until it turns again.

mod entry;
mod events;
mod heartbeats;
mod retrying;
pub mod revocations;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backend_protocol::registration::{
    Heartbeat, MAX_USED_TICKETS, MAX_WORLDS, RegisterServer, Revocation, ServerLease, ServerStatus,
};
use backend_protocol::rooms::RoomOptions;
use backend_protocol::{Check, limits};
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;

use self::entry::Entry;
use self::heartbeats::run_heartbeats;
use self::revocations::Revocations;
use crate::api::backend::Backend;
use crate::error::{ClientError, Fault};
use crate::platform::clock::Clock;
use crate::platform::rng;
use crate::platform::secret::ServerKey;
use crate::platform::stall_detector::StallDetector;

pub use self::entry::ServerDescription;
pub(crate) use self::events::BackendIdentity;
pub use self::events::{ActiveKids, Event, Notice, OnEvent};

/// Shortest time between two heartbeats, however much changes.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Wait for further changes before a heartbeat is sent because of one: what a game changes within a few frames is sent together.
const COALESCE_INTERVAL: Duration = Duration::from_millis(50);
/// Notices kept for a listener that is slow; the next heartbeat repeats what was missed.
const NOTICES: usize = 64;
/// Used tickets that wait for a heartbeat.
const MAX_UNTOLD_TICKETS: usize = 1_000;
/// Longest time between two looks at the main loop.
const STALL_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A server's place in the registry. Cheap to clone.
#[derive(Clone)]
pub struct Registration(Arc<Inner>);

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
    key: ServerKey,
    instance_id: String,
    on_event: OnEvent,
    stall_detector: StallDetector,
    entry: Entry,
    invite_code: Mutex<Option<String>>,
    listed: Mutex<Option<String>>,
    /// Of the last registration's reply.
    backend_identity: Mutex<Option<BackendIdentity>>,
    heartbeat_task: Mutex<Option<JoinHandle<()>>>,
    notices: broadcast::Sender<Notice>,
    active_kids: watch::Sender<ActiveKids>,
    revocations: Arc<Revocations>,
    /// How far the backend has told of revocations; `None` before its first reply.
    revocations_as_of: Mutex<Option<u64>>,
    worlds: Mutex<BTreeSet<String>>,
    /// Tickets that no answered heartbeat has named yet, the oldest first.
    used_tickets: Mutex<VecDeque<String>>,
    /// How often a world was opened.
    openings: AtomicU64,
    /// Wakes the task for an early heartbeat.
    changed: Notify,
    /// What the backend started this server for.
    allocation_id: Mutex<Option<String>>,
    was_assigned: AtomicBool,
    room_taken_over: AtomicBool,
    players: AtomicU32,
    draining: AtomicBool,
    sequence: AtomicU64,
    /// Id under which a heartbeat was answered last, and the heartbeat's sequence.
    confirmed: Mutex<Option<(String, u64)>>,
}

impl Registration {
    /// A server that is not listed yet. `stall`: how long the main loop may stand still before it counts as hung.
    pub fn new(
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        key: ServerKey,
        stall: Duration,
        on_event: OnEvent,
    ) -> Self {
        let stall_detector = StallDetector::new(Arc::clone(&clock), stall);
        Self(Arc::new(Inner {
            backend,
            clock,
            key,
            instance_id: rng::id().to_string(),
            on_event,
            stall_detector,
            entry: Entry::default(),
            invite_code: Mutex::new(None),
            listed: Mutex::new(None),
            backend_identity: Mutex::new(None),
            heartbeat_task: Mutex::new(None),
            notices: broadcast::channel(NOTICES).0,
            active_kids: watch::channel(None).0,
            revocations: Arc::default(),
            revocations_as_of: Mutex::new(None),
            worlds: Mutex::default(),
            used_tickets: Mutex::default(),
            openings: AtomicU64::new(0),
            changed: Notify::new(),
            allocation_id: Mutex::new(None),
            was_assigned: AtomicBool::new(false),
            room_taken_over: AtomicBool::new(false),
            players: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            sequence: AtomicU64::new(0),
            confirmed: Mutex::new(None),
        }))
    }

    /// Lists the server and begins to run_heartbeats. Calling it again updates the entry, which keeps its id. When it fails in a way that
    /// may pass, it is tried again in the background until it works, [`Self::deregister`] or [`Self::stop`].
    pub async fn register(&self, description: ServerDescription) -> Result<String, ClientError> {
        // What breaks a limit must not get into heartbeats either.
        if let Err(error) = self.0.entry(&description).check() {
            return Err(self.failed(by_property(error.into())));
        }
        self.0.entry.set(description);
        self.main_loop_turned();
        let lease = self.0.enlist().await.map_err(|error| self.failed(error))?;
        let server_id = lease.server_id.clone();
        let heartbeat_task = tokio::spawn(run_heartbeats(Arc::clone(&self.0), lease));
        if let Some(before) = lock(&self.0.heartbeat_task).replace(heartbeat_task) {
            before.abort();
        }
        Ok(server_id)
    }

    /// Takes the server off the list and stops heartbeat_task.
    pub async fn deregister(&self) -> Result<(), ClientError> {
        if let Some(heartbeat_task) = lock(&self.0.heartbeat_task).take() {
            heartbeat_task.abort();
        }
        let Some(server_id) = lock(&self.0.listed).clone() else { return Ok(()) };
        self.0.backend.deregister_server(&self.0.key, &server_id).await?;
        *lock(&self.0.listed) = None;
        self.0.set_invite_code(None);
        (self.0.on_event)(Event::Deregistered);
        Ok(())
    }

    /// Stops heartbeat_task without telling the backend: for a node that is freed.
    pub fn stop(&self) {
        if let Some(heartbeat_task) = lock(&self.0.heartbeat_task).take() {
            heartbeat_task.abort();
        }
    }

    /// The id under which the server is listed.
    pub fn server_id(&self) -> Option<String> {
        lock(&self.0.listed).clone()
    }

    /// The code by which players join; `None` for a public room, or before the server is listed.
    pub fn invite_code(&self) -> Option<String> {
        lock(&self.0.invite_code).clone()
    }

    /// Asks for another invite code with a heartbeat that is sent at once. [`Event::InviteCodeChanged`] tells it.
    pub fn renew_invite_code(&self) -> Result<(), ClientError> {
        self.require_server_id()?;
        self.0.entry.renew_invite_code();
        self.0.changed.notify_one();
        Ok(())
    }

    /// [`Self::server_id`], or the error for what needs one.
    pub(crate) fn require_server_id(&self) -> Result<String, ClientError> {
        self.server_id().ok_or_else(|| ClientError::new(Fault::NotRegistered, "register the server first"))
    }

    /// What the backend asks of this server's player store, from now on.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    /// The names of the public keys that are good, as the last heartbeat's reply told them.
    pub fn active_kids(&self) -> watch::Receiver<ActiveKids> {
        self.0.active_kids.subscribe()
    }

    /// Tokens that ended before their time, as the heartbeats' replies tell.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.0.revocations
    }

    /// The key that proves this server to the backend.
    pub fn key(&self) -> &ServerKey {
        &self.0.key
    }

    /// Identity of the backend that the server was last registered at. `None` before the first registration.
    pub(crate) fn backend(&self) -> Option<BackendIdentity> {
        lock(&self.0.backend_identity).clone()
    }

    /// From now on heartbeats renew the lease of this world. Gives the number of the opening.
    pub(crate) fn hold_world(&self, world_id: &str) -> Result<u64, ClientError> {
        let mut worlds = lock(&self.0.worlds);
        if worlds.len() >= MAX_WORLDS && !worlds.contains(world_id) {
            return Err(ClientError::field(
                "world_id",
                format!("a server has at most {MAX_WORLDS} worlds open"),
            ));
        }
        worlds.insert(world_id.to_owned());
        Ok(self.0.openings.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Heartbeats no longer renew the lease of this world: it runs out if it is not released.
    pub(crate) fn drop_world(&self, world_id: &str) {
        lock(&self.0.worlds).remove(world_id);
    }

    /// The worlds whose leases heartbeats renew.
    #[cfg(feature = "test-util")]
    pub(crate) fn worlds(&self) -> Vec<String> {
        self.0.heartbeat("").worlds
    }

    /// Players now, 0 to 100,000. A change is told soon, without waiting for the next heartbeat.
    pub fn set_players(&self, players: u32) -> Result<(), ClientError> {
        if players > limits::MAX_PLAYERS {
            return Err(ClientError::field("players", format!("must be 0 to {}", limits::MAX_PLAYERS)));
        }
        if self.0.players.swap(players, Ordering::Relaxed) != players {
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// A ticket was used, and its player is counted by [`Self::set_players`] or was turned away: the backend no longer has to
    /// keep the seat. Told with a heartbeat that is sent soon.
    pub fn ticket_used(&self, ticket_id: &str) {
        let mut used = lock(&self.0.used_tickets);
        // Those of a backend that is away for long have expired.
        if used.len() >= MAX_UNTOLD_TICKETS {
            used.pop_front();
        }
        used.push_back(ticket_id.to_owned());
        drop(used);
        self.0.changed.notify_one();
    }

    /// The next heartbeat is due soon: its reply says how often a server that holds players is to be heard of, and whether
    /// one of them was banned or is waited for already.
    pub(crate) fn heartbeat_soon(&self) {
        self.0.changed.notify_one();
    }

    /// Changes what players see. What heartbeats do not carry makes the entry anew, under the same id. The certificate stays
    /// the one that was registered: players are met with no other. What breaks a limit changes nothing: no heartbeat would go
    /// through any more, and the server would leave the list.
    pub fn describe(&self, description: ServerDescription) -> Result<(), ClientError> {
        self.0.entry(&description).check().map_err(|error| by_property(error.into()))?;
        if self.0.entry.change(description) {
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// What the backend started this server for, before it is registered.
    pub fn set_allocation(&self, allocation_id: String) {
        *lock(&self.0.allocation_id) = Some(allocation_id);
        self.0.entry.set_allocated();
    }

    /// The room of [`Event::RoomAssigned`] was described with [`Self::describe`]: from now on the list shows what this server says.
    pub fn take_room_over(&self) {
        self.0.room_taken_over.store(true, Ordering::Relaxed);
        self.0.changed.notify_one();
    }

    /// Whether the server takes players.
    pub fn set_draining(&self, draining: bool) {
        if self.0.draining.swap(draining, Ordering::Relaxed) != draining {
            self.0.changed.notify_one();
        }
    }

    /// Called by the main loop once per frame: it turns.
    pub fn main_loop_turned(&self) {
        self.0.stall_detector.tick();
    }
}

/// Names the field at fault as the node's property is named, not as it is on the wire.
fn by_property(mut error: ClientError) -> ClientError {
    for (field, property) in [("name", "server_name"), ("address", "public_address")] {
        if error.field.as_deref() == Some(field) {
            if let Some(rule) = error.message.strip_prefix(&format!("{field}: ")) {
                error.message = format!("{property}: {rule}").into();
            }
            error.field = Some(property.to_owned());
            break;
        }
    }
    error
}

impl Inner {
    fn status(&self) -> ServerStatus {
        if self.stall_detector.is_stalled() {
            ServerStatus::Unhealthy
        } else if self.draining.load(Ordering::Relaxed) {
            ServerStatus::Draining
        } else {
            ServerStatus::Ready
        }
    }

    fn notice_players(&self, players: Vec<String>, kind: impl FnOnce(Vec<String>) -> Notice) {
        if !players.is_empty() {
            self.notice(kind(players));
        }
    }

    fn notice(&self, notice: Notice) {
        // Without a player store nobody listens, and nothing is held.
        let _nobody_listens = self.notices.send(notice);
    }

    /// The backend has answered after so many calls that failed.
    fn answered(&self, failures: &mut u32) {
        if std::mem::take(failures) > 0 {
            self.notice(Notice::Answers);
        }
    }

    fn set_active_kids(&self, names: Option<Vec<String>>) {
        let Some(names) = names else { return };
        // A backend without a key could let nobody in: that is no withdrawal, but a mistake.
        if names.is_empty() || names.len() > backend_token::MAX_KEYS {
            tracing::warn!(names = names.len(), "the heartbeat's reply names no keys, or too many: ignored");
            return;
        }
        // Also when nothing changed: a new key that could not be fetched is tried again with every run_heartbeats.
        self.active_kids.send_replace(Some(names.into()));
    }

    fn note_revocations(&self, revocations: Vec<Revocation>, as_of: u64) {
        self.revocations.note(revocations, self.clock.now());
        // An older backend tells of none, and counts none.
        *lock(&self.revocations_as_of) = (as_of > 0).then_some(as_of);
    }

    fn entry(&self, described: &ServerDescription) -> RegisterServer {
        RegisterServer {
            allocation_id: lock(&self.allocation_id).clone(),
            ..entry::request(&self.instance_id, described.clone(), self.players.load(Ordering::Relaxed))
        }
    }

    /// The backend knows of the tickets that the heartbeat named. Soon it hears of those that did not fit.
    fn confirm_tickets(&self, named: &[String]) {
        let mut used = lock(&self.used_tickets);
        used.retain(|ticket| !named.contains(ticket));
        if !named.is_empty() && !used.is_empty() {
            self.changed.notify_one();
        }
    }

    fn set_invite_code(&self, invite_code: Option<String>) {
        let changed = {
            let mut known = lock(&self.invite_code);
            let changed = *known != invite_code;
            known.clone_from(&invite_code);
            changed
        };
        if changed {
            (self.on_event)(Event::InviteCodeChanged(invite_code));
        }
    }

    async fn enlist(&self) -> Result<ServerLease, ClientError> {
        let Some(described) = self.entry.described() else {
            return Err(ClientError::new(Fault::NotRegistered, "the server was never described"));
        };
        let body = self.entry(&described);
        let before = self.entry.entering(described);
        let lease = match self.backend.register_server(&self.key, &body).await.map_err(by_property) {
            Ok(lease) => lease,
            Err(error) => {
                // What is refused for what it says is not tried again until it says something else.
                if error.retryable {
                    self.entry.not_entered(before);
                }
                return Err(error);
            }
        };
        *lock(&self.backend_identity) = Some(BackendIdentity::from(lease.backend_id.clone()));
        *lock(&self.listed) = Some(lease.server_id.clone());
        self.notice(Notice::Listed);
        // Before it is told that the server is listed: whoever waits for that finds the code.
        self.set_invite_code(lease.invite_code.clone());
        (self.on_event)(Event::Registered(lease.server_id.clone()));
        self.assign(lease.room.clone());
        Ok(lease)
    }

    /// Repeated by the backend until it knows that it was received.
    fn assign(&self, room: Option<RoomOptions>) {
        if let Some(room) = room
            && !self.was_assigned.swap(true, Ordering::Relaxed)
        {
            (self.on_event)(Event::RoomAssigned(room));
        }
    }

    fn heartbeat(&self, server_id: &str) -> Heartbeat {
        let confirmed = lock(&self.confirmed).clone().filter(|(confirmed_id, _)| confirmed_id == server_id);
        let mut beat = Heartbeat {
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            confirmed_sequence: confirmed.map(|(_, sequence)| sequence),
            status: self.status(),
            players: self.players.load(Ordering::Relaxed),
            used_tickets: lock(&self.used_tickets).iter().take(MAX_USED_TICKETS).cloned().collect(),
            room_taken_over: self.room_taken_over.load(Ordering::Relaxed),
            revocations_after: *lock(&self.revocations_as_of),
            worlds: lock(&self.worlds).iter().cloned().collect(),
            ..Heartbeat::default()
        };
        self.entry.fill(&mut beat);
        beat
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
