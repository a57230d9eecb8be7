//! The requests of a small fleet and its players at their real pace, and how long each kind took. Each is due at a time of
//! its own, and is measured from then: a backend that falls behind does not slow down what is offered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backend_client::api::batch::{Batch, BatchItem};
use backend_client::api::transport::HttpTransport;
use backend_client::document::RawJson;
use backend_client::platform::clock::SystemClock;
use backend_client::protocol::player_store::SaveOutcome;
use backend_client::protocol::registration::Heartbeat;
use backend_client::protocol::rooms::{RequestTicket, RoomQuery};
use backend_client::protocol::session::AnonymousLogin;
use backend_client::protocol::validation::Validate;
use backend_client::{Backend as _, Config, HttpBackend, ServerKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::backend::load::used_by;
use crate::backend::population::{document, player_id, server_id};

/// Seconds between the heartbeats of a server until the backend directs otherwise.
const HEARTBEAT_SECONDS: f64 = 30.0;
/// Seconds between the heartbeats of a server that holds players.
const HOLDER_HEARTBEAT_SECONDS: f64 = 5.0;
/// Players of a server that holds any.
pub const PLAYERS_PER_HOLDER: usize = 16;
/// A server saves each of its players every 8 seconds: a quarter of them every 2.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);
const SAVED_AT_A_TIME: usize = PLAYERS_PER_HOLDER / 4;
/// A client refreshes its list, and joins a room of every second one.
const LIST_INTERVAL: Duration = Duration::from_secs(5);

/// Who there is.
#[derive(Clone, Copy)]
pub struct Fleet {
    pub servers: usize,
    /// How many of them hold players and save.
    pub holders: usize,
    pub clients: usize,
    /// Bytes of a document.
    pub document: usize,
}

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Heartbeat,
    Save,
    List,
    Ticket,
    Validate,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Heartbeat, Self::Save, Self::List, Self::Ticket, Self::Validate];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Save => "save",
            Self::List => "list",
            Self::Ticket => "ticket",
            Self::Validate => "validate",
        }
    }
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// In ascending order.
    pub latencies: BTreeMap<Kind, Vec<Duration>>,
    pub failures: usize,
    pub first_failure: Option<String>,
    /// Processor time of the backend, and of the database where it is a process of its own.
    pub server_seconds: f64,
    /// Of that, the backend's.
    pub backend_seconds: f64,
}

impl Found {
    pub fn requests(&self) -> usize {
        self.latencies.values().map(Vec::len).sum()
    }

    /// The latency in microseconds that `part` of the requests of a kind do not exceed.
    pub fn quantile_us(&self, kind: Kind, part: f64) -> Result<f64> {
        let sorted = self.latencies.get(&kind).with_context(|| format!("no {} was sent", kind.name()))?;
        let index = ((sorted.len() - 1) as f64 * part).round() as usize;
        Ok(sorted[index].as_secs_f64() * 1e6)
    }
}

/// A backend under this traffic.
pub struct Traffic {
    fleet: Fleet,
    key: ServerKey,
    /// Each has connections of its own, as each is a process of its own in life.
    servers: HashMap<String, Arc<HttpBackend>>,
    clients: Vec<Player>,
    document: String,
}

struct Player {
    backend: Arc<HttpBackend>,
    token: String,
}

/// From when on requests count, until when they are sent, and what they took.
struct Window {
    begin: Instant,
    end: Instant,
    found: Mutex<Found>,
}

impl Window {
    /// Waits until something is due, unless that is after the end.
    async fn wait(&self, due: Instant) -> bool {
        if due >= self.end {
            return false;
        }
        sleep_until(due).await;
        true
    }

    /// Counts a request that was due then. None: it failed.
    fn record<T, E: Into<anyhow::Error>>(&self, kind: Kind, due: Instant, reply: Result<T, E>) -> Option<T> {
        let took = due.elapsed();
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match reply {
            Ok(reply) => {
                if due >= self.begin {
                    found.latencies.entry(kind).or_default().push(took);
                }
                Some(reply)
            }
            Err(error) => {
                found.failures += 1;
                let error = error.into();
                found.first_failure.get_or_insert_with(|| format!("{}: {error:#}", kind.name()));
                None
            }
        }
    }
}

impl Traffic {
    /// Logs the clients in. The servers and their players are in the database.
    pub async fn prepare(url: &str, key: &str, fleet: Fleet) -> Result<Self> {
        let servers: Result<_> =
            (0..fleet.servers).map(|number| Ok((server_id(number), backend(url)?))).collect();
        let mut clients = Vec::new();
        for _ in 0..fleet.clients {
            let backend = backend(url)?;
            let session = backend.login_anonymous(&AnonymousLogin { display_name: None }).await?;
            clients.push(Player { backend, token: session.access_token });
        }
        let document = document(fleet.document);
        Ok(Self { fleet, key: ServerKey::parse(key)?, servers: servers?, clients, document })
    }

    /// Sends requests for `warm_up`, then for `measured`, which is what counts. The first of `processes` is the backend's.
    pub async fn run(
        self: &Arc<Self>,
        warm_up: Duration,
        measured: Duration,
        processes: impl AsyncFn() -> Result<Vec<u32>>,
    ) -> Result<Found> {
        let start = Instant::now();
        let begin = start + warm_up;
        let window = Arc::new(Window { begin, end: begin + measured, found: Mutex::default() });
        let mut tasks = JoinSet::new();
        for number in 0..self.fleet.servers {
            tasks.spawn(Arc::clone(self).heartbeats(number, start, Arc::clone(&window)));
        }
        for number in 0..self.fleet.holders {
            tasks.spawn(Arc::clone(self).saves(number, start, Arc::clone(&window)));
        }
        for number in 0..self.fleet.clients {
            tasks.spawn(Arc::clone(self).joins(number, start, Arc::clone(&window)));
        }
        sleep_until(window.begin).await;
        let before: HashMap<u32, f64> = used_by(processes().await?).collect();
        sleep_until(window.end).await;
        let all = processes().await?;
        let backend = all.first().copied();
        // Processes that came meanwhile have worked for this only.
        let spent: Vec<_> =
            used_by(all).map(|(id, used)| (id, used - before.get(&id).unwrap_or(&0.0))).collect();
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let window = Arc::into_inner(window).context("a request is still on its way")?;
        let mut found = window.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.server_seconds = spent.iter().map(|(_, seconds)| seconds).sum();
        found.backend_seconds =
            spent.iter().filter(|(id, _)| Some(*id) == backend).map(|(_, seconds)| seconds).sum();
        found.latencies.values_mut().for_each(|latencies| latencies.sort_unstable());
        Ok(found)
    }

    async fn heartbeats(self: Arc<Self>, number: usize, start: Instant, window: Arc<Window>) -> Result<()> {
        let server_id = server_id(number);
        let backend = self.server(&server_id)?;
        let holds = number < self.fleet.holders;
        let seconds = if holds { HOLDER_HEARTBEAT_SECONDS } else { HEARTBEAT_SECONDS };
        let mut due = start + spread(number, self.fleet.servers, Duration::from_secs_f64(seconds));
        let (mut sequence, mut confirmed_sequence, mut revocations_after) = (0, None, None);
        while window.wait(due).await {
            sequence += 1;
            let body = Heartbeat {
                sequence,
                confirmed_sequence,
                // Now and then somebody comes or goes, and there is always a place left.
                players: if holds { 8 + (sequence / 4 % 4) as u32 } else { 0 },
                revocations_after,
                ..Heartbeat::default()
            };
            let reply = backend.heartbeat(&self.key, &server_id, &body).await;
            let Some(reply) = window.record(Kind::Heartbeat, due, reply) else {
                due += Duration::from_secs_f64(seconds);
                continue;
            };
            (confirmed_sequence, revocations_after) = (Some(sequence), Some(reply.revocations_as_of));
            due += Duration::from_secs(reply.heartbeat_seconds.max(1).into());
        }
        Ok(())
    }

    async fn saves(self: Arc<Self>, number: usize, start: Instant, window: Arc<Window>) -> Result<()> {
        let server_id = server_id(number);
        let backend = self.server(&server_id)?;
        let mut due = start + spread(number, self.fleet.holders, SAVE_INTERVAL);
        for count in 0.. {
            if !window.wait(due).await {
                break;
            }
            let first = count * SAVED_AT_A_TIME % PLAYERS_PER_HOLDER;
            let items: Result<_> =
                (first..first + SAVED_AT_A_TIME).map(|player| self.item(number, player, count)).collect();
            let batch = Batch { server_id: server_id.clone(), items: items? };
            let reply = backend.save_documents(&self.key, &batch).await;
            let reply = reply.map_err(anyhow::Error::from).and_then(|saved| {
                let applied = saved.results.iter().all(|one| one.outcome == SaveOutcome::Applied);
                ensure!(applied, "not every document was saved: {:?}", saved.results);
                Ok(())
            });
            window.record(Kind::Save, due, reply);
            due += SAVE_INTERVAL;
        }
        Ok(())
    }

    fn item(&self, server: usize, player: usize, count: usize) -> Result<BatchItem> {
        let value = self.document.replace('@', &count.to_string());
        Ok(BatchItem {
            player_id: player_id(server * PLAYERS_PER_HOLDER + player).into(),
            key: "progress".into(),
            epoch: 1,
            sequence: i64::try_from(count)? + 1,
            value: RawJson::parse(value)?,
            loaded_version: None,
        })
    }

    async fn joins(self: Arc<Self>, number: usize, start: Instant, window: Arc<Window>) -> Result<()> {
        let Player { backend, token } = &self.clients[number];
        // Half of them look at everything, half at one map.
        let map = (number % 2 == 1).then(|| format!("map-{}", number / 2 % 20));
        let query = RoomQuery { not_full: map.is_some(), map, ..RoomQuery::default() };
        let mut due = start + spread(number, self.fleet.clients, LIST_INTERVAL);
        for count in 0.. {
            if !window.wait(due).await {
                break;
            }
            let page = window.record(Kind::List, due, backend.rooms(token, &query).await);
            due += LIST_INTERVAL;
            let Some(page) = page.filter(|_| count % 2 == number / 2 % 2) else { continue };
            let joinable: Vec<_> = page.rooms.iter().filter(|room| room.players < room.max_players).collect();
            ensure!(!joinable.is_empty(), "no room to join is listed");
            let room_id = joinable[(number + count) % joinable.len()].room_id.clone();
            let now = Instant::now();
            let ticket = backend.ticket(token, &room_id, &RequestTicket::default()).await;
            let Some(ticket) = window.record(Kind::Ticket, now, ticket) else { continue };
            let now = Instant::now();
            let body = Validate { token: ticket.ticket, server_id: Some(room_id.clone()) };
            let validated = self.server(&room_id)?.validate(&self.key, &body).await;
            window.record(Kind::Validate, now, validated);
        }
        Ok(())
    }

    fn server(&self, server_id: &str) -> Result<Arc<HttpBackend>> {
        self.servers.get(server_id).cloned().with_context(|| format!("{server_id} is none of these servers"))
    }
}

/// When the first of many begins, so that they are spread over an interval.
fn spread(number: usize, count: usize, interval: Duration) -> Duration {
    // Neighbours are far from each other: those that hold players are the first ones.
    let place = number * 7_919 % count;
    interval.mul_f64(place as f64 / count as f64)
}

fn backend(url: &str) -> Result<Arc<HttpBackend>> {
    // An error is counted rather than repeated.
    let config = Config { base_url: url.to_owned(), retry_attempts: 1, ..Config::default() };
    let transport = Arc::new(HttpTransport::new(&config)?);
    Ok(Arc::new(HttpBackend::new(config, transport, Arc::new(SystemClock))?))
}
