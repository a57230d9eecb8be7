//! The hosts that run this process: what they are told, and what they tell.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use backend_client::error::ClientError;
use backend_client::host::{
    Host, HostChoice, HostEvent, Liveness, Notice, Players, PublicAddress, Session, keep_alive, known_address,
};
use backend_client::registration::ServerDescription;
use tokio::task::JoinSet;

use crate::config;
use crate::runtime::frame_hook::FrameHook;
use crate::runtime::main_thread_queue;
use crate::runtime::worker_threads;

/// Longest wait of a registration for the address that a host will report: its sidecar may start after this process.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(15);
/// Registered where no host reports an address.
const LOOPBACK: &str = "127.0.0.1";

static NOTIFIER: OnceLock<Notifier> = OnceLock::new();
/// Begins the shutdown, on any thread.
static ON_NOTICE: Mutex<Option<OnNotice>> = Mutex::new(None);

/// Called with the reason and the time that is left, if the host tells it.
pub type OnNotice = Arc<dyn Fn(&str, Option<Duration>) + Send + Sync>;

/// What registrations do with what a host tells. Main thread.
#[derive(Clone, Copy)]
pub struct Listener {
    pub address_changed: fn(),
    /// Gives the session back if there is no node to be told.
    pub allocated: fn(Session) -> Option<Session>,
    pub notice: fn(&str, TimeLeft),
}

/// How long the host leaves the process.
#[derive(Clone, Copy)]
pub enum TimeLeft {
    Known(Duration),
    /// The grace of the settings.
    Unknown,
    /// Nothing ends by itself.
    Unlimited,
}

struct Notifier {
    hosts: Vec<Arc<dyn Host>>,
    liveness: Arc<Liveness>,
    ready_as: Mutex<Option<String>>,
    /// What this process was allocated for, before there was a node to be told.
    untold: Mutex<Option<Session>>,
}

thread_local! {
    // Used on the main thread only. Runs for as long as the process lives.
    static EACH_FRAME: RefCell<Option<FrameHook>> = const { RefCell::new(None) };
    static LISTENER: Cell<Option<Listener>> = const { Cell::new(None) };
    static CHOICE: Cell<HostChoice> = const { Cell::new(HostChoice::Auto) };
}

/// Main thread. A registration is in the tree: from now on it is told.
pub fn set_listener(listener: Listener) {
    LISTENER.set(Some(listener));
}

/// Main thread. The game chooses a host; returns `false` if it is too late for that.
pub fn choose(choice: HostChoice) -> bool {
    CHOICE.set(choice);
    NOTIFIER.get().is_none()
}

/// Main thread. How long the main loop may stand still for hosts that allow it.
pub fn set_stall_limit(limit: Duration) {
    start();
    if let Some(notifier) = NOTIFIER.get() {
        notifier.liveness.set_stall_limit(limit);
    }
}

/// Main thread. [`start`] in the next frame: nodes of the same scene may still choose a host.
pub fn start_soon() {
    main_thread_queue::enqueue(start);
}

/// Main thread. Detects the hosts, listens to them and reports the main loop's liveness from now on.
pub fn start() {
    if NOTIFIER.get().is_some() {
        return;
    }
    let detected = config::detect_hosts(CHOICE.get());
    tracing::info!("{}", detected.summary);
    for warning in &detected.warnings {
        tracing::warn!("{warning}");
    }
    let notifier = NOTIFIER.get_or_init(|| Notifier {
        hosts: detected.hosts,
        liveness: Arc::new(Liveness::new(config::clock())),
        ready_as: Mutex::default(),
        untold: Mutex::default(),
    });
    if notifier.hosts.iter().any(|host| host.health_interval().is_some()) {
        let turning = Arc::clone(&notifier.liveness);
        EACH_FRAME.set(Some(FrameHook::new(move || turning.tick())));
    }
    for host in &notifier.hosts {
        worker_threads::spawn(keep_alive(Arc::clone(host), Arc::clone(&notifier.liveness)));
        let host = Arc::clone(host);
        worker_threads::spawn(async move { host.run(Arc::new(on_event)).await });
    }
}

/// Worker.
fn on_event(event: HostEvent) {
    match event {
        HostEvent::AddressChanged(address) => {
            tracing::info!(address = address.address, ports = ?address.ports, "players reach this server there");
            main_thread_queue::enqueue(|| {
                if let Some(listener) = LISTENER.get() {
                    (listener.address_changed)();
                }
            });
        }
        HostEvent::Allocated(session) => {
            tracing::info!(host = session.host, name = session.name, "allocated");
            main_thread_queue::enqueue(move || tell_session(session));
        }
        HostEvent::Notice(Notice { reason, deadline }) => {
            tracing::info!(reason, ?deadline, "the host is about to end this process");
            // Before the signals of the shutdown.
            tell_notice(reason, deadline.map_or(TimeLeft::Unknown, TimeLeft::Known));
            let begin = lock(&ON_NOTICE).clone();
            if let Some(begin) = begin {
                begin(reason, deadline);
            }
        }
        HostEvent::Advice(reason) => {
            tracing::info!(reason, "the host may interrupt this process");
            tell_notice(reason, TimeLeft::Unlimited);
        }
    }
}

/// Worker.
fn tell_notice(reason: &'static str, left: TimeLeft) {
    main_thread_queue::enqueue(move || {
        if let Some(listener) = LISTENER.get() {
            (listener.notice)(reason, left);
        }
    });
}

/// Main thread. From now on a notice begins a shutdown.
pub fn install(on_notice: OnNotice) {
    *lock(&ON_NOTICE) = Some(on_notice);
}

/// Main thread. A notice begins no shutdown any more.
pub fn uninstall() {
    *lock(&ON_NOTICE) = None;
}

/// Main thread. A node is there now: it is told, in the next frame, of the session that no node was told of.
pub fn tell_untold_session() {
    let session = NOTIFIER.get().and_then(|notifier| lock(&notifier.untold).take());
    if let Some(session) = session {
        main_thread_queue::enqueue(move || tell_session(session));
    }
}

/// Main thread.
fn tell_session(session: Session) {
    let untold = match LISTENER.get() {
        Some(listener) => (listener.allocated)(session),
        None => Some(session),
    };
    if let Some(notifier) = NOTIFIER.get() {
        *lock(&notifier.untold) = untold;
    }
}

/// Any thread. Where a host says that players reach this server.
pub fn address() -> Option<PublicAddress> {
    known_address(&NOTIFIER.get()?.hosts)
}

/// Any thread. Completes the description of a server whose address is the host's.
pub fn place(server: &mut ServerDescription) {
    match address() {
        Some(address) => address.place(server),
        None => LOOPBACK.clone_into(&mut server.address),
    }
}

/// Worker. Waits for the address that a host is about to report.
pub async fn wait_for_address() {
    let Some(notifier) = NOTIFIER.get() else { return };
    let waiting = backend_client::host::wait_for_address(&notifier.hosts);
    if tokio::time::timeout(ADDRESS_TIMEOUT, waiting).await.is_err() {
        tracing::warn!(
            "the host has not reported an address for {} s: the server is registered at {LOOPBACK} until it does. Set \
             BACKEND_PUBLIC_ADDRESS if it never will",
            ADDRESS_TIMEOUT.as_secs()
        );
    }
}

/// Any thread. The server accepts players. The hosts are notified once for each id.
pub fn ready(server_id: &str) {
    let Some(notifier) = NOTIFIER.get() else { return };
    let before = lock(&notifier.ready_as).replace(server_id.to_owned());
    if before.as_deref() != Some(server_id) {
        let server_id = server_id.to_owned();
        worker_threads::spawn(async move { notifier.hosts.iter().for_each(|host| host.ready(&server_id)) });
    }
}

/// Main thread. Players came or left.
pub fn players_changed(players: &Players) {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.hosts.iter().for_each(|host| host.players_changed(players));
    }
}

/// Worker. The server is shutting down.
pub fn draining(reason: &str, grace: Duration) {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.liveness.stopping();
        notifier.hosts.iter().for_each(|host| host.draining(grace, reason));
    }
}

/// Worker. Everything that could be saved is saved; `owes_saves`: some of it in the journal only.
pub async fn stopped(owes_saves: bool) {
    let Some(notifier) = NOTIFIER.get() else { return };
    let mut telling = JoinSet::new();
    for host in &notifier.hosts {
        telling.spawn(async move { host.stopped(owes_saves).await });
    }
    while telling.join_next().await.is_some() {}
}

/// Main thread. The shutdown is over, but the process is not.
pub fn resume() {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.liveness.resume();
    }
}

/// Worker. Sets a short status text.
pub fn status(text: &str) {
    if let Some(notifier) = NOTIFIER.get() {
        notifier.hosts.iter().for_each(|host| host.status(text));
    }
}

/// The stall limit of a node's property.
pub fn stall_limit(seconds: f64) -> Result<Duration, ClientError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| ClientError::field("main_loop_stall_seconds", "must be 1 or more"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
