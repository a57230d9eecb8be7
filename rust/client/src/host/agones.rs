//! Agones, by the HTTP gateway of its sidecar.
//!
//! The sidecar queues what it is asked for and may forget it when it dies, so nothing here counts as done because it was
//! answered: what is wanted is compared with the GameServer that the watch shows, and asked for until they agree. That covers
//! a sidecar that starts late, dies or is replaced, with no case of its own for any of them.
//!
//! | wanted | asked for by |
//! |---|---|
//! | listed at the backend | `/ready`, once, from a state before Ready; annotation `server-id` |
//! | players on a server that nobody allocated | `/allocate`, and `/ready` again when they have left: a fleet never scales an allocated server down |
//! | players, and how many there can be | list or counter `players`, if the GameServer declares it |
//! | draining | label `draining` |
//! | stopped | `/shutdown` |

mod game_server;
mod sidecar;
mod tasks;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use self::game_server::{GameServer, Metadata, Stage};
use self::sidecar::{Sidecar, SidecarError, Watch};
use super::{Host, HostEvent, Notice, OnHostEvent, Players, ReportedAddress, Session};

/// Interval of health calls until the GameServer says otherwise: less than half of Agones' default period.
const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest interval of health calls.
const MIN_HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// Health calls in a row without a good answer after which the watch may be dead as well.
const MAX_FAILED_HEALTH_CALLS: u32 = 3;
/// The first message of a watch comes at once.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between two attempts to watch.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Interval of looks at the GameServer where there is no watch.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Time without a sidecar after which a warning is due: Agones' own SDKs give up then.
const SILENCE: Duration = Duration::from_secs(30);
/// Attempts to say that the process is about to end, and the pause between them.
const SHUTDOWN_ATTEMPTS: u32 = 2;
const SHUTDOWN_PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for a call under way before the last one.
const LAST_CALL_TIMEOUT: Duration = Duration::from_millis(300);
/// Changes with each allocation, whoever asked for it.
const LAST_ALLOCATED: &str = "agones.dev/last-allocated";

/// A GameServer of Agones.
pub struct Agones {
    sidecar: Sidecar,
    wanted: Mutex<Wanted>,
    seen: Mutex<Seen>,
    address: watch::Sender<ReportedAddress>,
    /// In milliseconds.
    health_interval: AtomicU64,
    /// A health call is due.
    health_due: Notify,
    /// What is wanted or seen has changed.
    changed: Notify,
    /// The watch may be dead without having ended.
    watch_suspect: Notify,
    /// Held during a call that changes something: none may arrive after the last one.
    calling: tokio::sync::Mutex<()>,
}

/// What the server has said.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Under which id the server is listed.
    server_id: Option<String>,
    players: Players,
    draining: bool,
    /// `/shutdown` was, or is being, asked for.
    stopped: bool,
}

/// What the sidecar has shown.
#[derive(Debug, Default)]
struct Seen {
    game_server: Option<GameServer>,
    /// The allocation that is known, by its time; `None` while the GameServer is not allocated.
    allocation: Option<String>,
    /// The allocation that is known is the server's own.
    is_own_allocation: bool,
    /// The server is about to allocate itself, or has asked for it: what others had written by then.
    own_request: Option<Metadata>,
    /// A notice was given.
    is_leaving: bool,
}

impl Agones {
    /// The GameServer whose sidecar listens on this port of loopback, or will.
    pub fn new(port: u16) -> Self {
        Self {
            sidecar: Sidecar::new(port),
            wanted: Mutex::default(),
            seen: Mutex::default(),
            address: watch::Sender::default(),
            health_interval: AtomicU64::new(DEFAULT_HEALTH_INTERVAL.as_millis() as u64),
            health_due: Notify::new(),
            changed: Notify::new(),
            watch_suspect: Notify::new(),
            calling: tokio::sync::Mutex::default(),
        }
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut lock(&self.wanted));
        self.changed.notify_one();
    }

    /// Keeps the watch.
    async fn follow(&self, on_event: &OnHostEvent) {
        let mut pause = MIN_PAUSE;
        let mut contact = Contact::new(self.sidecar.port());
        loop {
            match self.follow_once(on_event, &mut contact).await {
                Ok(()) => pause = MIN_PAUSE,
                Err(SidecarError::Unsupported(_)) => match self.sidecar.game_server().await {
                    Ok(game_server) => {
                        contact.made();
                        self.see(game_server, on_event);
                        pause = POLL_INTERVAL;
                    }
                    Err(error) => contact.failed(&error),
                },
                Err(error) => contact.failed(&error),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Watches until the stream ends; `Ok` if it has shown anything.
    async fn follow_once(&self, on_event: &OnHostEvent, contact: &mut Contact) -> Result<(), SidecarError> {
        let mut watch: Watch = self.sidecar.watch().await?;
        let first = timeout(FIRST_MESSAGE_TIMEOUT, watch.next()).await;
        let first = first.map_err(|_| SidecarError::Unreachable("the watch sends nothing".to_owned()))??;
        let Some(first) = first else {
            return Err(SidecarError::Unreachable("the watch ended at once".to_owned()));
        };
        contact.made();
        self.see(first, on_event);
        loop {
            let next = tokio::select! {
                next = watch.next() => next,
                () = self.watch_suspect.notified() => return Ok(()),
            };
            match next {
                Ok(Some(game_server)) => self.see(game_server, on_event),
                Ok(None) => return Ok(()),
                Err(error) => {
                    contact.failed(&error);
                    return Ok(());
                }
            }
        }
    }

    fn see(&self, game_server: GameServer, on_event: &OnHostEvent) {
        self.note_health(&game_server);
        let address = game_server.public_address();
        let is_new_address = self.address.send_if_modified(|known| {
            let Some(address) = &address else { return false };
            let reported = ReportedAddress::At(address.clone());
            let changes = *known != reported;
            *known = reported;
            changes
        });
        let is_stopped = lock(&self.wanted).stopped;
        let (allocated, notice) = {
            let mut seen = lock(&self.seen);
            let stage = game_server.stage();
            if seen.game_server.as_ref().map(GameServer::stage) != Some(stage) {
                tracing::debug!(
                    name = game_server.object_meta.name,
                    state = game_server.status.state,
                    "Agones"
                );
            }
            let allocated = seen.note_allocation(&game_server, stage);
            let notice = match stage {
                Stage::Leaving(reason) if !seen.is_leaving && !is_stopped => Some(reason),
                _ => None,
            };
            seen.is_leaving |= notice.is_some();
            let session = allocated.then(|| session(&game_server));
            seen.game_server = Some(game_server);
            (session, notice)
        };
        self.changed.notify_one();
        if let Some(address) = address.filter(|_| is_new_address) {
            on_event(HostEvent::AddressChanged(address));
        }
        if let Some(session) = allocated {
            on_event(HostEvent::Allocated(session));
        }
        if let Some(reason) = notice {
            on_event(HostEvent::Notice(Notice { reason, deadline: None }));
        }
    }

    fn note_health(&self, game_server: &GameServer) {
        let health = &game_server.spec.health;
        let period = u64::try_from(health.period_seconds).unwrap_or_default();
        let interval = match period {
            0 => DEFAULT_HEALTH_INTERVAL,
            _ => (Duration::from_secs(period) / 2).max(MIN_HEALTH_INTERVAL),
        };
        self.health_interval
            .store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Makes the health calls that are due.
    async fn call_health(&self) {
        let mut failed = 0;
        loop {
            self.health_due.notified().await;
            match self.sidecar.health().await {
                Ok(()) => failed = 0,
                Err(error) => {
                    failed += 1;
                    tracing::debug!(%error, failed, "Agones does not know that this server is well");
                    if failed % MAX_FAILED_HEALTH_CALLS == 0 {
                        self.watch_suspect.notify_one();
                    }
                }
            }
        }
    }
}

impl Seen {
    /// Whether somebody outside has allocated the GameServer.
    fn note_allocation(&mut self, game_server: &GameServer, stage: Stage) -> bool {
        match stage {
            Stage::Allocated => {}
            // It is deleted as an allocated one, or not.
            Stage::Leaving(_) => return false,
            _ => {
                self.allocation = None;
                self.is_own_allocation = false;
                return false;
            }
        }
        let time = game_server.object_meta.annotations.get(LAST_ALLOCATED).cloned().unwrap_or_default();
        if self.allocation.as_ref() == Some(&time) {
            return false;
        }
        self.allocation = Some(time);
        // Somebody may have been quicker than the server's own request, and then wrote what the session is about.
        let own_request = self.own_request.take();
        self.is_own_allocation = own_request.is_some_and(|before| before == game_server.metadata_of_others());
        !self.is_own_allocation
    }
}

fn session(game_server: &GameServer) -> Session {
    let meta = &game_server.object_meta;
    Session {
        host: NAME,
        name: meta.name.clone(),
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
    }
}

const NAME: &str = "agones";

#[async_trait]
impl Host for Agones {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(&self, on_event: OnHostEvent) {
        tokio::join!(self.follow(&on_event), self.call_health(), self.perform_tasks());
    }

    /// `terminationGracePeriodSeconds` of Kubernetes.
    fn usual_grace(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    fn address(&self) -> Option<watch::Receiver<ReportedAddress>> {
        Some(self.address.subscribe())
    }

    fn ready(&self, server_id: &str) {
        self.want(|wanted| wanted.server_id = Some(server_id.to_owned()));
    }

    fn players_changed(&self, players: &Players) {
        self.want(|wanted| wanted.players.clone_from(players));
    }

    fn draining(&self, _grace: Duration, _reason: &str) {
        self.want(|wanted| wanted.draining = true);
    }

    async fn stopped(&self, _owes_saves: bool) {
        self.want(|wanted| wanted.stopped = true);
        // A call that hangs is not waited for.
        let _last = timeout(LAST_CALL_TIMEOUT, self.calling.lock()).await;
        for attempt in 1..=SHUTDOWN_ATTEMPTS {
            match self.sidecar.shutdown().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, attempt, "Agones does not know that this server is done");
                }
            }
            sleep(SHUTDOWN_PAUSE).await;
        }
    }

    fn healthy(&self) {
        self.health_due.notify_one();
    }

    fn health_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.health_interval.load(Ordering::Relaxed)))
    }

    /// Agones forgives no hang: a GameServer that was unhealthy once is deleted.
    fn allows_stalls(&self) -> bool {
        true
    }
}

/// Whether the sidecar answers, for the log.
struct Contact {
    port: u16,
    silent_since: Option<Instant>,
    is_warned: bool,
}

impl Contact {
    fn new(port: u16) -> Self {
        Self { port, silent_since: None, is_warned: false }
    }

    fn made(&mut self) {
        self.silent_since = None;
        if std::mem::take(&mut self.is_warned) {
            tracing::info!("Agones' sidecar at port {} answers", self.port);
        }
    }

    fn failed(&mut self, error: &SidecarError) {
        tracing::debug!(%error, "Agones' sidecar is tried again");
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if !self.is_warned && since.elapsed() >= SILENCE {
            self.is_warned = true;
            tracing::warn!(
                "Agones' sidecar at http://127.0.0.1:{} gives no good answer for {} s ({error}). The server runs on without it; \
                 outside of Agones, set BACKEND_HOST=none",
                self.port,
                SILENCE.as_secs()
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
